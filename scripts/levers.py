"""One lever at a time on validation accuracy, in a plain PyTorch loop: `python scripts/levers.py "straight=4, weight_decay=.02, seed=1" …` adds to results/levers.jsonl."""
import json, math, sys, time
from contextlib import contextmanager, nullcontext
from pathlib import Path
import torch
from torch.nn import functional as F
from train_ticket.data import Augmentation, load_dataset, make_loader
from train_ticket.gates import Schedule, SigmoidGate
from train_ticket.layers import gated_layers, ticketize
from train_ticket.models import build
from train_ticket.optim import LearningRate, set_lr

def accuracy(network, loader):
    network.eval()
    with torch.no_grad(): right = sum(int((network(x).argmax(1) == y).sum()) for x, y in loader)
    return right/len(loader.split.labels)

@contextmanager
def averaged(network, mean):
    "Within it the network has its averaged scores."
    own = [p.detach().clone() for p in network.parameters()]
    for p, m in zip(network.parameters(), mean): p.data.copy_(m)
    yield
    for p, o in zip(network.parameters(), own): p.data.copy_(o)

def run(arch='lenet300', width=1., epochs=20, lr=.05, straight=math.inf, beta_end=100., label_smoothing=.05, batch_size=256, shift=1, score_std=.01,
        logits=1., seed=0, betas=(.9, .999), schedule='onecycle', dense=False, weight_decay=0., distribution='signed', keep=None, ramp=.5, ema=0., scope='global', rotate=0.):
    start, dataset = time.time(), load_dataset('mnist')
    torch.manual_seed(seed)
    network, gate = build(arch, width), SigmoidGate(Schedule(1., beta_end), score_std, straight, keep, scope, ramp)
    if not dense:
        network = ticketize(network, seed, gate, distribution)
        list(gated_layers(network).values())[-1].weight.mul_(logits)   # sharper or softer predictions
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay, betas=betas, fused=True)
    train = make_loader(dataset, 'train', batch_size, backend='resident', augmentation=Augmentation(shift=shift, rotate=rotate), seed=seed, device='cpu')
    validation = make_loader(dataset, 'validation', 1000, backend='resident', device='cpu')
    mean = [p.detach().clone() for p in network.parameters()]
    rate, steps, found = LearningRate(lr, schedule), len(train), []
    for epoch in range(epochs):
        train.set_epoch(epoch); network.train(); right = total = 0
        for k, (x, y) in enumerate(train):
            progress = (epoch*steps + k)/(epochs*steps - 1)
            gate.step(progress); set_lr(optimizer, rate(progress))
            out = network(x)
            optimizer.zero_grad(); F.cross_entropy(out, y, label_smoothing=label_smoothing).backward(); optimizer.step()
            if ema: torch._foreach_lerp_(mean, [p.detach() for p in network.parameters()], 1 - min(ema, (epoch*steps + k + 1)/(epoch*steps + k + 10)))   # shorter at first
            right, total = right + (out.argmax(1) == y).sum(), total + len(y)
        with averaged(network, mean) if ema else nullcontext(): found.append(accuracy(network, validation))
    return dict(validation_accuracy=found[-1], best_validation_accuracy=max(found), train_accuracy=int(right)/total, seconds=time.time() - start,
                densities=[round(layer.density(), 3) for layer in gated_layers(network).values()])

if __name__ == '__main__':
    for text in sys.argv[1:]:
        settings = eval(f'dict({text})', dict(inf=math.inf))
        with open(Path(__file__).resolve().parent.parent/'results/levers.jsonl', 'a') as f: f.write(json.dumps(dict(settings=text) | run(**settings)) + '\n')
