"""Test error against bytes on MNIST: tickets, and what one would do otherwise.

`python scripts/frontier.py "arch='lenet5', keep=.1, seed=1" …` trains each of these settings and adds a
record to results/frontier.jsonl; what is recorded is skipped. Without settings it takes those of `PLAN`.
A setting is any option of train.py. With `bits` it makes a twin: the same network, its weights trained
and rounded to so many bits; `keep` prunes it by magnitude.
"""
import argparse, ast, math, time
from pathlib import Path
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from train_ticket.coding import encode
from train_ticket.config import configure
from train_ticket.core import append_record, hardware, read_records, versions
from train_ticket.gates import Schedule, kth_largest
from train_ticket.loop import BareEngine, Callback, Run, evaluate, train
from train_ticket.masks import drop_biases, masks_of, weights_of
from train_ticket.optim import make_optimizer
from train_ticket.ticket import from_model, save_ticket
from train_ticket.train import about, make_loaders, parameter_groups, prepare

RECORDS = Path(__file__).resolve().parent.parent/'results/frontier.jsonl'
COMMON = dict(dataset='mnist', loader='resident', device='cpu', epochs=20, batch_size=256)
TICKET = dict(lr=.1, weight_decay=.05)
TWIN = dict(gate='none', lr=.005, weight_decay=0.)
LEVELS = {1: (-1, 1), 1.58: (-1, 1), 2: (-2, 1), 3: (-4, 3), 4: (-8, 7), 8: (-128, 127)}


class Rounded(torch.autograd.Function):
    "round(x), or its sign; the gradient passes as if it were x."
    @staticmethod
    def forward(ctx, x, bits):
        return torch.where(x < 0, -1., 1.) if bits == 1 else x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class Quantised(nn.Module):
    "A weight on a few levels, with a learned step (LSQ, Esser and others 2020), pruned by magnitude."
    def __init__(self, weight, bits, shared: dict): # shared: the threshold of the network
        super().__init__()
        self.bits, self.shared, (self.low, self.high) = bits, shared, LEVELS[bits]
        step = weight.abs().mean()*(1 if bits == 1 else 2/math.sqrt(self.high))
        self.step, self.rate = nn.Parameter(step.log()), 1/math.sqrt(weight.numel()*self.high)

    def levels(self, weight):
        step = (self.step*self.rate + (self.step*(1 - self.rate)).detach()).exp()
        return Rounded.apply((weight/step).clamp(self.low, self.high), self.bits), step

    def forward(self, weight):
        level, step = self.levels(weight)
        return level*step*(weight.abs() >= self.shared['threshold'])


class Pruning(Callback):
    "Raises the threshold of magnitude to the density to keep, as the gate of a ticket does."
    def __init__(self, model, keep, shared: dict):
        self.keep, self.shared = keep, shared
        self.weights = [m.parametrizations.weight.original for m in quantised(model)]

    def before_training(self, run):
        self.update(0.)

    def after_step(self, run):
        self.update(run.progress_at(run.state.epoch, run.state.step))

    def update(self, progress):
        density = Schedule(1., self.keep)(min(progress/.5, 1.))
        self.shared['threshold'] = kth_largest([weight.abs() for weight in self.weights], density)


class Pause(Callback):
    "Sleeps between epochs while a file exists."
    def __init__(self, path):
        self.path = path

    def before_epoch(self, run):
        while self.path and Path(self.path).exists():
            time.sleep(5)


def quantised(model) -> list: # the layers that hold a quantised weight
    return [module for module in model.modules() if parametrize.is_parametrized(module, 'weight')]


def quantise(model, bits, keep) -> list: # of callbacks
    "Round a dense network's weights to so many bits from here on, without biases."
    shared = dict(threshold=0.)
    for found in weights_of(model):
        step = Quantised(found.parameter.detach(), bits, shared)
        parametrize.register_parametrization(found.module, 'weight', step)
        drop_biases(found.module)
    return [Pruning(model, keep, shared)] if keep < 1 else []


@torch.no_grad()
def levels_of(layer) -> np.ndarray: # int16, of the weight's shape
    "The whole numbers that a layer's weights are multiples of."
    chain = layer.parametrizations.weight
    level, _ = chain[0].levels(chain.original)
    kept = chain.original.abs() >= chain[0].shared['threshold']
    return (level*kept).to(torch.int16).numpy()


def planes(levels: np.ndarray): # bool arrays
    "A weight as yes-or-no questions: is it zero, is it negative, is it more than 1, more than 2, …"
    rest = np.abs(levels)
    if rest.min() == 0:
        yield rest > 0
    yield levels[rest > 0] < 0
    rest = rest[rest > 0]
    while rest.size and rest.max() > rest.min():
        low = rest.min()
        yield rest > low
        rest = rest[rest > low]


def coded(masks) -> int: # bytes
    "The size of masks in the coder of the ticket file."
    return sum(encode(mask)[0].size for mask in masks)


def twin_bytes(model, bits) -> int:
    "Bytes of a twin's weights: packed or entropy-coded, per layer, and four bytes per layer for its step."
    total = 0
    for layer in quantised(model):
        levels = levels_of(layer)
        total += 4 + min(coded(planes(levels)), math.ceil(levels.size*math.ceil(bits)/8))
    return total


def sizes(job, bits, path) -> dict:
    "The bytes of what was trained; writes it to a file, so that they can be counted anew."
    path.parent.mkdir(parents=True, exist_ok=True)
    if bits:
        levels = [levels_of(layer) for layer in quantised(job.model)]
        np.savez_compressed(path.with_suffix('.npz'), *levels)
        return dict(payload_bytes=twin_bytes(job.model, bits), kept=[int((x != 0).sum()) for x in levels],
                    weights=[x.size for x in levels])
    masks = [mask.mask.numpy() for mask in masks_of(job.model).values()]
    path = path.with_suffix('.ticket.safetensors')
    save_ticket(from_model(job.model, **about(job)), path)
    return dict(payload_bytes=coded(masks), file_bytes=path.stat().st_size,
                kept=[int(mask.sum()) for mask in masks], weights=[mask.size for mask in masks])


def run_of(config, job, loaders, callbacks) -> Run:
    options = config.optimizer
    groups = parameter_groups(job.model, options)
    optimizer = make_optimizer(options.optimizer, groups, options.lr, options.weight_decay)
    rate = lambda progress: config.rate(progress, options.lr)
    return Run(BareEngine(job.model, optimizer), loaders.train, None, rate, config.loop, callbacks,
               config.run.seed)


def measured(bits=None, keep=1., files=Path('.'), pause=None, test=True, **options) -> dict:
    "Train with these settings; the record."
    density = {} if bits or keep == 1 else dict(keep=keep)
    config = configure(**COMMON | (TWIN if bits else TICKET) | density | options)
    job = prepare(config)
    job.model.to(memory_format=torch.channels_last)   # up to twice as fast
    callbacks = [Pause(pause)] + (quantise(job.model, bits, keep) if bits else [])
    loaders, begun = make_loaders(config, job.dataset), time.process_time()
    run = train(run_of(config, job, loaders, callbacks))
    seconds = time.process_time() - begun
    found = dict(validation_accuracy=evaluate(job.model, loaders.validation)['accuracy'])
    if test:
        found |= dict(test_accuracy=evaluate(job.model, loaders.test)['accuracy'])
    return found | sizes(job, bits, files) | dict(train_accuracy=run.record['train_accuracy'],
                                                 cpu_seconds=seconds)


def parsed(text: str) -> dict: # 'keep=.1, seed=1' → dict(keep=.1, seed=1)
    return {word.arg: ast.literal_eval(word.value) for word in ast.parse(f'dict({text})', mode='eval').body.keywords}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('settings', nargs='*')
    parser.add_argument('--records', default=RECORDS)
    parser.add_argument('--files', type=Path, default=Path('runs/frontier'))
    parser.add_argument('--pause')
    parser.add_argument('--no-test', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(1)
    for text in args.settings:
        if any(record['settings'] == text for record in read_records(args.records)):
            continue
        name = ''.join(c for c in text.replace(', ', '-') if c.isalnum() or c in '-.=_')
        found = measured(**parsed(text), files=args.files/name, pause=args.pause, test=not args.no_test)
        where = dict(command=f'python scripts/frontier.py "{text}"', hardware=hardware('cpu'), versions=versions())
        append_record(args.records, dict(settings=text) | found | where)


if __name__ == '__main__':
    main()
