"""Training end to end against the loop of hidden-networks' MNIST example: python scripts/bench_peer.py

Both train the same network (convolutions 32-64 of 3×3, 128-10) on the same images for the same epochs, in
batches of the same size, and both test after each epoch; the data are read anew each time. The peer's loop is
written here after simple_mnist_example.py of https://github.com/allenai/hidden-networks: PyTorch's DataLoader
with a transform per image, edge-popup by sorting the scores of each layer, SGD, a cosine schedule. Ours is
`fit` with `--gate popup` (the same method) and with its defaults. Adds a line to results/bench.jsonl.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from itertools import product
from pathlib import Path

os.environ.setdefault('TQDM_DISABLE', '1')
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from train_ticket.core import append_record, hardware, instructions, versions
from train_ticket.datasets import load_dataset
from train_ticket.models import build
from train_ticket.train import fit

RECORDS = Path(__file__).resolve().parent.parent/'results/bench.jsonl'
BATCH, KEEP, DROPOUT = 256, .5, .25


# the peer's loop

class Images(Dataset):
    "As torchvision's MNIST with ToTensor and Normalize: each image is made a tensor and normalised alone."
    def __init__(self, split):
        self.images = torch.as_tensor(np.array(split.images))
        self.labels = torch.as_tensor(np.array(split.labels))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        picture = Image.fromarray(self.images[index].squeeze().numpy())
        image = torch.from_numpy(np.array(picture))[None].float().div(255)
        return (image - .1307)/.3081, int(self.labels[index])


class Subnet(torch.autograd.Function):
    "Ones for the largest scores of a layer; the gradient passes straight through."
    @staticmethod
    def forward(ctx, scores, keep):
        mask, order = scores.clone(), scores.flatten().sort().indices
        cut = int((1 - keep)*scores.numel())
        mask.flatten()[order[:cut]] = 0
        mask.flatten()[order[cut:]] = 1
        return mask

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class Popup(nn.Module):
    "A layer whose frozen weight is under the mask of its scores."
    def __init__(self, layer):
        super().__init__()
        self.layer, self.scores = layer.requires_grad_(False), nn.Parameter(torch.empty_like(layer.weight))
        nn.init.kaiming_uniform_(self.scores, a=5**.5)
        nn.init.kaiming_normal_(layer.weight, mode='fan_in', nonlinearity='relu')

    def forward(self, x):
        weight = self.layer.weight*Subnet.apply(self.scores.abs(), KEEP)
        if weight.ndim == 4: return F.conv2d(x, weight)
        return F.linear(x, weight)


def peer_network() -> nn.Module:
    layers = build('cnn', dropout=DROPOUT)
    return nn.Sequential(*[Popup(m) if isinstance(m, (nn.Linear, nn.Conv2d)) else m for m in layers])


def peer(epochs: int) -> float: # test accuracy
    torch.manual_seed(1)
    data = load_dataset('mnist')
    train = DataLoader(Images(data.train), BATCH, shuffle=True)
    test = DataLoader(Images(data.test), 1000, shuffle=True)
    model = peer_network()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], .1, .9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in test)
        schedule.step()
    return right/len(test.dataset)


# ours, and the turns

OURS = dict(popup=dict(gate='popup', keep=KEEP, optimizer='sgd', lr=.1, weight_decay=5e-4), default={})


def ours(epochs: int, options: dict) -> float: # test accuracy
    with tempfile.TemporaryDirectory() as folder:
        about = dict(name='bench', runs=folder, dataset='mnist', batch_size=BATCH)
        return fit(model=build('cnn', dropout=DROPOUT), epochs=epochs, **about, **options)['test_accuracy']


def one(way: str, epochs: int, threads: int) -> dict: # in a process of its own
    torch.set_num_threads(threads)
    begun = time.perf_counter()
    accuracy = peer(epochs) if way == 'peer' else ours(epochs, OURS[way])
    return dict(seconds=time.perf_counter() - begun, test_accuracy=accuracy)


def spread(values: list) -> str:
    return f'{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}, n = {len(values)})'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epochs', type=int, default=2, help='epochs of each training (default: 2)')
    parser.add_argument('--repeats', type=int, default=3, help='trainings of each kind (default: 3)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='threads of PyTorch')
    parser.add_argument('--child', type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(one(*args.child)))
        return
    found = {way: [] for way in ('peer', *OURS)}
    for _, way in product(range(args.repeats), found):
        command = [sys.executable, __file__, '--child', json.dumps([way, args.epochs, args.threads])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode: raise SystemExit(done.stderr)
        found[way].append(json.loads(done.stdout.splitlines()[-1]))
        print(f'{way:8} {found[way][-1]["seconds"]:7.1f} s   {found[way][-1]["test_accuracy"]:.2%}')
    seconds = {way: [each['seconds'] for each in own] for way, own in found.items()}
    ratios = {f'{way} / peer, images/s': [a/b for a, b in zip(seconds['peer'], seconds[way])] for way in OURS}
    for name, ratio in ratios.items():
        print(f'{name:28} {spread(ratio)}')
    append_record(RECORDS, dict(
        study='peer', command=' '.join(['python scripts/bench_peer.py', *sys.argv[1:]]), found=found,
        ratios=ratios, epochs=args.epochs, batch_size=BATCH, threads=args.threads, hardware=hardware('cpu'),
        instructions=instructions(), versions=versions(),
        finished=datetime.now(timezone.utc).isoformat(timespec='seconds')))


if __name__ == '__main__':
    main()
