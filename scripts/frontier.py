"""Test error against bytes on MNIST: tickets, and what one would do otherwise.

`python scripts/frontier.py "arch='lenet5', keep=.1, seed=1" …` trains each of these settings and adds a
record to results/frontier.jsonl; what is recorded is skipped. Without settings it takes those of `plan`.
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
from train_ticket.prng import signs
from train_ticket.squeeze import squeeze
from train_ticket.ticket import from_model, load_ticket, save_ticket
from train_ticket.train import about, make_loaders, parameter_groups, prepare

RECORDS = Path(__file__).resolve().parent.parent/'results/frontier.jsonl'
COMMON = dict(dataset='mnist', loader='resident', device='cpu', epochs=20, batch_size=256)
TICKET = dict(lr=.1, weight_decay=.05)
TWIN = dict(gate='none', lr=.003, weight_decay=0.)
ROUND, RAMP = .3, .5   # progress at which twins begin to round, and at which they reach their density
LEVELS = {1: (-1, 1), 1.58: (-1, 1), 2: (-2, 1), 3: (-4, 3), 4: (-8, 7), 8: (-128, 127)}


class Rounded(torch.autograd.Function):
    "round(x), or its sign; the gradient passes as if it were x."
    @staticmethod
    def forward(ctx, x, bits):
        return torch.where(x < 0, -1., 1.) if bits == 1 else x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class Twin(nn.Module):
    "A weight, pruned by magnitude, then rounded to a few levels with a learned step (Esser and others 2020)."
    def __init__(self, bits):
        super().__init__()
        self.bits, self.threshold, (self.low, self.high) = bits, 0., LEVELS[bits]
        self.rounds, self.log_step = False, nn.Parameter(torch.zeros(()))

    def levels(self, weight, step): # whole numbers, of the weight's shape
        scaled = (weight/step).clamp(self.low, self.high)
        return Rounded.apply(scaled, self.bits)*(weight.abs() >= self.threshold)

    def forward(self, weight):
        if not self.rounds:
            return weight*(weight.abs() >= self.threshold)
        step = self.log_step.exp()
        return self.levels(weight, step)*step

    @torch.no_grad()
    def begin(self, weight):
        "Round from here on, with the step of the least square error."
        steps = weight.abs().max()*torch.linspace(.02, 1, 99)/self.high
        kept = weight*(weight.abs() >= self.threshold)
        errors = [(self.levels(weight, step)*step - kept).square().sum() for step in steps]
        self.log_step.copy_(steps[torch.stack(errors).argmin()].log())
        self.rounds = True


class Compression(Callback):
    "Prunes a network on the way to its density, and begins to round."
    def __init__(self, model, keep):
        self.keep, self.chains = keep, [layer.parametrizations.weight for layer in twins(model)]

    def after_step(self, run):
        progress = run.progress_at(run.state.epoch, run.state.step)
        if self.keep < 1:
            self.prune(Schedule(1., self.keep)(min(progress/RAMP, 1.)))
        if progress >= ROUND and not self.chains[0][0].rounds:
            for chain in self.chains:
                chain[0].begin(chain.original)

    def prune(self, density):
        threshold = kth_largest([chain.original.abs() for chain in self.chains], density)
        for chain in self.chains:
            chain[0].threshold = threshold


class Engine(BareEngine):
    "Computes products in bfloat16, half as fast again; the test is in float32."
    def __call__(self, images):
        with torch.autocast('cpu', torch.bfloat16):
            return self.module(images)


class Pause(Callback):
    "Sleeps between epochs while a file exists."
    def __init__(self, path):
        self.path = path

    def before_epoch(self, run):
        while self.path and Path(self.path).exists():
            time.sleep(5)


def twins(model) -> list: # the layers that hold a `Twin`
    return [module for module in model.modules() if parametrize.is_parametrized(module, 'weight')]


def compress(model, bits, keep) -> Compression:
    "Put a `Twin` on each weight of a dense network, and take its biases away."
    for found in weights_of(model):
        parametrize.register_parametrization(found.module, 'weight', Twin(bits))
        drop_biases(found.module)
    return Compression(model, keep)


@torch.no_grad()
def levels_of(layer) -> np.ndarray: # int16, of the weight's shape
    "The whole numbers that a layer's weights are multiples of."
    chain = layer.parametrizations.weight
    return chain[0].levels(chain.original, chain[0].log_step.exp()).to(torch.int16).numpy()


def planes(levels: np.ndarray): # bool arrays
    "A weight as yes-or-no questions: is it zero, is it negative, is it more than 1, more than 2, …"
    rest = np.abs(levels)
    if rest.min() == 0:
        yield rest > 0
    yield levels[rest > 0] < 0
    rest = rest[rest > 0]
    while rest.size and rest.max() > rest.min():
        least = rest.min()
        yield rest > least
        rest = rest[rest > least]


def twin_bytes(levels: np.ndarray, bits) -> int:
    "Bytes of a layer of a twin: packed or coded as masks, and four for its step."
    found = sum(encode(plane, np.ones_like(plane))[0].size for plane in planes(levels))
    return 4 + min(found, math.ceil(levels.size*math.ceil(bits)/8))


def count(path: Path, bits=None) -> dict:
    "The bytes of what was trained: of masks, of masks coded with one density per layer, of the whole file."
    if bits:
        layers = np.load(path).values()
        return dict(payload_bytes=sum(twin_bytes(levels, bits) for levels in layers))
    ticket, found = load_ticket(path), dict(payload_bytes=0, range_bytes=0)
    for layer in ticket.layers:
        mask = ticket.masks[layer.name]
        known = signs(ticket.seed, layer.index, layer.shape, ticket.distribution)
        found['payload_bytes'] += encode(mask, known)[0].size
        found['range_bytes'] += encode(mask)[0].size
    return found | dict(file_bytes=len(squeeze(ticket)))


def save(job, bits, folder: Path) -> Path:
    "Write what was trained: a ticket, or the levels of a twin."
    folder.mkdir(parents=True, exist_ok=True)
    if not bits:
        return save_ticket(from_model(job.model, **about(job)), folder/'best.ticket.safetensors')
    path = folder/'levels.npz'
    np.savez_compressed(path, *[levels_of(layer) for layer in twins(job.model)])
    return path


def kept(job) -> list: # a number per layer
    masks = [mask.mask for mask in masks_of(job.model).values()] or map(levels_of, twins(job.model))
    return [int((mask != 0).sum()) for mask in masks]


def run_of(config, job, loaders, callbacks) -> Run:
    options = config.optimizer
    groups = parameter_groups(job.model, options)
    optimizer = make_optimizer(options.optimizer, groups, options.lr, options.weight_decay)
    rate = lambda progress: config.rate(progress, options.lr)
    return Run(Engine(job.model, optimizer), loaders.train, None, rate, config.loop, callbacks,
               config.run.seed)


def measured(bits=None, keep=1., files=Path('.'), pause=None, test=True, **options) -> dict:
    "Train with these settings; the record."
    density = {} if bits or keep == 1 else dict(keep=keep)
    config = configure(**COMMON | (TWIN if bits else TICKET) | density | options)
    job = prepare(config)
    job.model.to(memory_format=torch.channels_last)   # up to twice as fast
    callbacks = [Pause(pause)] + ([compress(job.model, bits, keep)] if bits else [])
    loaders, begun = make_loaders(config, job.dataset), time.process_time()
    run = train(run_of(config, job, loaders, callbacks))
    seconds = time.process_time() - begun
    found = dict(validation_accuracy=evaluate(job.model, loaders.validation)['accuracy'])
    if test:
        found |= dict(test_accuracy=evaluate(job.model, loaders.test)['accuracy'])
    found |= count(save(job, bits, files), bits)
    return found | dict(kept=kept(job), train_accuracy=run.record['train_accuracy'], cpu_seconds=seconds)


def parsed(text: str) -> dict: # 'keep=.1, seed=1' → dict(keep=.1, seed=1)
    call = ast.parse(f'dict({text})', mode='eval').body
    return {word.arg: ast.literal_eval(word.value) for word in call.keywords}


PAIRS = (.75, .3), (1., .3), (1.5, .21), (2., .14), (2., .2)   # width, density of the ticket
ROUNDED = (.5, 1), (.5, 2), (1., 1), (.5, 4), (1., 2), (.5, 1.58), (.5, 3), (1., 3), (.5, 8)   # width, bits
STRONGER = dict(rotate=10., crop=.8, aspect=1.1)   # augmentation


def pair(arch, width, keep, **more): # a ticket, and the pruned signs of a twin in about as many bytes
    yield dict(arch=arch, width=width, keep=keep) | more
    yield dict(arch=arch, width=width, keep=round(.65*keep, 3), bits=1) | more


def points(): # of dicts: the settings of the experiment, the cheapest first
    for width, keep in PAIRS:
        yield from pair('conv3', width, keep)
    yield from (dict(arch='conv3', width=width, bits=bits) for width, bits in ROUNDED)
    yield from (dict(arch='conv3', width=width, keep=.1, bits=4) for width in (1., 1.5, 2.))
    for width, keep in *PAIRS, (2., .25), (2., .35):
        yield from pair('conv3', width, keep, epochs=60)
    yield from pair('conv3', .75, .3, in_shape='1x16x16')
    yield from pair('tiny', 1., .3, in_shape='1x16x16')
    yield from pair('lenet5', 1., .1)
    yield from pair('lenet5', 2., .05)
    yield from pair('lenet300', 1., .23, epochs=60)
    yield from (dict(arch='lenet300', width=1., bits=bits, epochs=60) for bits in LEVELS)
    yield dict(arch='lenet300', width=1., keep=.1, bits=4, epochs=60)
    yield dict(arch='conv3', width=2., keep=.25, epochs=40)
    yield from pair('conv3', 2., .25, epochs=60, **STRONGER)


def plan(): # of settings, three seeds of each point
    for point in points():
        for seed in 1, 2, 3:
            yield ', '.join(f'{name}={value!r}' for name, value in dict(**point, seed=seed).items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('settings', nargs='*')
    parser.add_argument('--records', default=RECORDS)
    parser.add_argument('--files', type=Path, default=Path('runs/frontier'), help='tickets go there')
    parser.add_argument('--pause', help='a file: sleep between epochs while it exists')
    parser.add_argument('--no-test', action='store_true', help='leave the test set alone, in probes')
    args = parser.parse_args()
    torch.set_num_threads(1)
    for text in args.settings or plan():
        if any(record['settings'] == text for record in read_records(args.records)):
            continue
        folder = args.files/''.join(c for c in text.replace(', ', '-') if c.isalnum() or c in '-.=_')
        found = measured(**parsed(text), files=folder, pause=args.pause, test=not args.no_test)
        where = dict(command=f'python scripts/frontier.py "{text}"', hardware=hardware('cpu'),
                     versions=versions())
        append_record(args.records, dict(settings=text) | found | where)


if __name__ == '__main__':
    main()
