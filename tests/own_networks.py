"""Networks as users bring them: `--model tests/own_networks.py:resnet`, for the digits at 8×8 pixels.

Every factory takes no arguments and returns a dense network: x [B, 1, 8, 8] → logits [B, 10].
Those of tokens take whole numbers [B, 64] as well.
"""
from dataclasses import dataclass
import torch
from torch import nn, Tensor

LEVELS = 10   # of brightness, for the networks of tokens


def tokens(x: Tensor, levels: int = LEVELS) -> Tensor: # int64 [B, 64]
    "One token per pixel: its brightness. Whole numbers are tokens already."
    if not x.is_floating_point(): return x
    return ((x.flatten(1) + 1)*levels/3.5).long().clamp(0, levels - 1)


class Block(nn.Module):
    "Two 3×3 convolutions with batch norm, and a shortcut (He and others 2016)."
    def __init__(self, inputs: int, outputs: int, stride: int, affine: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs, affine=affine)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs, affine=affine)
        self.relu, self.shortcut = nn.ReLU(), nn.Sequential()
        if stride > 1 or inputs != outputs:
            norm = nn.BatchNorm2d(outputs, affine=affine)
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm)

    def forward(self, x):
        out = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet18(nn.Module):
    "ResNet-18, its stem for small images, `width` channels in its first stage."
    def __init__(self, width: int = 8, affine: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width, affine=affine)
        blocks, before = [], width
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(Block(before, width*2**stage, stride, affine))
                before = width*2**stage
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(before, 10)

    def forward(self, x):
        return self.head(self.blocks(torch.relu(self.norm(self.conv(x)))).mean((2, 3)))


def resnet(): return ResNet18(affine=False)
def resnet_affine(): return ResNet18(affine=True)


class Encoder(nn.Module):
    "The rows of an image as tokens of PyTorch's own transformer encoder."
    def __init__(self, width: int = 16):
        super().__init__()
        self.embed, self.positions = nn.Linear(8, width), nn.Parameter(torch.zeros(8, width))
        layer = nn.TransformerEncoderLayer(width, 2, 2*width, dropout=0., batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x.squeeze(1)) + self.positions).mean(1))


def encoder(): return Encoder()


class Attention(nn.Module):
    "One residual layer of `nn.MultiheadAttention` over the rows of an image."
    def __init__(self, width: int = 32):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head = nn.Linear(8*width, 10)

    def forward(self, x):
        x = self.embed(x.squeeze(1))
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).relu().flatten(1))


def attention(): return Attention()


class Tokens(nn.Module):
    "An embedding of the pixels' brightness, then a linear layer."
    def __init__(self, width: int = 8):
        super().__init__()
        self.embedding, self.head = nn.Embedding(LEVELS, width), nn.Linear(64*width, 10)

    def forward(self, x):
        return self.head(self.embedding(tokens(x)).flatten(1))


def embedding(): return Tokens()


class Tied(nn.Module):
    "An embedding whose weight is the head's as well: the ten classes are the ten levels of brightness."
    def __init__(self, width: int = 16):
        super().__init__()
        self.embedding, self.mix = nn.Embedding(LEVELS, width), nn.Linear(64*width, width)
        self.head = nn.Linear(width, LEVELS, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.mix(self.embedding(tokens(x)).flatten(1)).relu())


def tied(): return Tied()


class Reused(nn.Module):
    "The same hidden layer three times."
    def __init__(self, width: int = 64):
        super().__init__()
        self.first, self.hidden = nn.Linear(64, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.first(x.flatten(1)).relu()
        for _ in range(3):
            x = self.hidden(x).relu()
        return self.head(x)


def reused(): return Reused()


def conv1d(): # the rows of an image as the channels of a sequence
    return nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(8, 32, 3, padding=1), nn.ReLU(),
                         nn.Conv1d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32*6, 10))


def small_conv1d(): # one layer of each kind, which torch.compile compiles in half the time
    return nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16*6, 10))


def conv3d(): # the upper and the lower half as the two layers of a volume
    return nn.Sequential(nn.Unflatten(2, (2, 4)), nn.Conv3d(1, 16, (2, 3, 3), padding=(0, 1, 1)), nn.ReLU(),
                         nn.Flatten(), nn.Linear(16*4*8, 10))


def transposed(): # down by two, and up again
    return nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 8, 2, 2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(8*64, 10))


def grouped(): # convolutions that wrap round, some in groups
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, padding_mode='circular'), nn.ReLU(),
                         nn.Conv2d(16, 32, 3, 2, 1, groups=4, padding_mode='circular'), nn.ReLU(),
                         nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU(),
                         nn.Flatten(), nn.Linear(32*16, 10))


@dataclass
class Output:
    "An answer as the models of Hugging Face give it."
    logits: Tensor
    loss: Tensor = None


class WithLogits(nn.Module):
    "A network that returns an object, not a tensor."
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pixel_values, labels=None):
        return Output(self.body(pixel_values))


def with_logits(): return WithLogits()


def vision_transformer():
    "A small `ViTForImageClassification` of Hugging Face's transformers."
    from transformers import ViTConfig, ViTForImageClassification
    return ViTForImageClassification(ViTConfig(
        image_size=8, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, num_labels=10,
        hidden_dropout_prob=0., attention_probs_dropout_prob=0.))


def three_outputs(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
def nothing_to_gate():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10).requires_grad_(False), nn.BatchNorm1d(10))
def raises(): raise RuntimeError('this factory never works')
def no_network(): return 7


number = 7
