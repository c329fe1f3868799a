"""The runs behind the experiment notebooks.

    python scripts/study.py NAME…   # trains what results/NAME.jsonl doesn't have yet, and adds it there
"""
import argparse
import math
import os
import re
import shutil
from functools import partial
from itertools import product
from pathlib import Path

os.environ.setdefault('TQDM_DISABLE', '1')
import torch
from torch import nn
from train_ticket.config import configure
from train_ticket.core import read_records, run_missing
from train_ticket.loop import Callback
from train_ticket.models import build
from train_ticket.train import fit

ROOT = Path(__file__).resolve().parent.parent
MNIST = dict(dataset='mnist', loader='resident', device='cpu')
TICKET = dict(keep=None, lr=.05)   # any density
QUARTER = dict(keep=.25, lr=.1)    # the default: of the weights, ranked over the whole network
SOFT = dict(straight=math.inf, weight_decay=0.)
TWIN = dict(gate='none')
RECIPES = {'any': TICKET, 'quarter-lr0.05': dict(keep=.25, lr=.05),
           'quarter-lr0.1': QUARTER, 'soft': TICKET | SOFT}
MIXED = {'pure': {}, 'diagonals': dict(double_diagonal=True), 'biases': dict(bias=True),
         'both': dict(double_diagonal=True, bias=True), 'last-layer': dict(skip='5')}
OPTIMIZED = {'adaste': dict(optimizer='adaste', lr=.1), 'mirror': dict(optimizer='mirror', lr=.1),
             'adamw-soft': TICKET | SOFT, 'adamw-straight': TICKET}
FAMILIES = dict(sigmoid={}, ste={}, popup=dict(scope='layer'),
                bernoulli=dict(sparsity=30., correction='inverse'), hard_concrete=dict(sparsity=30.), gem={},
                popup_global=dict(gate='popup', scope='global'))
RATES = dict(sigmoid=.1, ste=.003, popup=.003, popup_global=.003, bernoulli=1., hard_concrete=.3, gem=.1)


def records_of(study): return read_records(ROOT/f'results/{study}.jsonl')


# A study yields (name, options) of its runs.

def pruning(): # is pruning enough? every network, ticket and twin, three seeds; cheapest first
    sizes = [('lenet300', 1, 20), ('mlp', 1, 20), ('lenet5', 1, 20), ('lenet300', 2, 20), ('lenet300', 1, 60),
             ('lenet300', 4, 20), ('lenet5', 2, 20)]
    kinds = dict(quarter=QUARTER, twin=TWIN, ticket=TICKET)
    for (arch, width, epochs), kind, seed in product(sizes, kinds, (1, 2, 3)):
        if kind != 'ticket' or (width, epochs) == (1, 20):
            options = dict(arch=arch, width=width, epochs=epochs, seed=seed) | kinds[kind]
            yield f'{arch}-w{width}-e{epochs}-{kind}-{seed}', options


def cnn(): # the larger convolutional network of PyTorch's example
    for seed, (kind, recipe) in product((1, 2, 3), dict(ticket=QUARTER, twin=TWIN).items()):
        yield f'cnn-w1-e20-{kind}-{seed}', dict(arch='cnn', epochs=20, seed=seed) | recipe


def vit(): # a transformer small enough for two cores; every epoch's record is kept in results/vit/
    for kind, recipe in dict(ticket=QUARTER, twin=TWIN).items():
        yield f'vit-w0.25-d2-{kind}-1', dict(arch='vit', width=.25, epochs=12, seed=1) | recipe


def sparse(): # lenet300 keeping 5 %; with few weights left, scores want a stronger decay
    for decay, seed in product((.02, .1), (1, 2, 3)):
        options = dict(epochs=20, seed=seed, keep=.05, lr=.05, weight_decay=decay)
        yield f'lenet300-keep5-decay{decay}-{seed}', options


def recipes(): # what straight-through and the decay of scores are worth, on lenet300
    kinds = {'straight8-decay0.1': dict(straight=8., weight_decay=.1), 'soft': SOFT,
             'straight4': dict(straight=4., weight_decay=0.), 'keep0.25': dict(keep=.25),
             'ste-keep0.25': dict(gate='ste', keep=.25, lr=.003)}
    for (name, options), seed in product(kinds.items(), (1, 2, 3)):
        yield f'{name}-{seed}', TICKET | dict(epochs=20, seed=seed) | options


def gate_rates(): # which learning rate does each family want? chosen on validation, keeping 20 %, four epochs
    rates = dict(sigmoid=(.05, .1, .2), ste=(.001, .003, .01), popup=(.001, .003, .01, .03),
                 popup_global=(.001, .003, .01), bernoulli=(.1, .3, 1., 3., 10.), hard_concrete=(.1, .3, 1.),
                 gem=(.01, .03, .1, .3, 1.))
    for gate, lrs in rates.items():
        for lr in lrs:
            yield f'{gate}-lr{lr}', dict(gate=gate, keep=.2, epochs=4, lr=lr, seed=1) | FAMILIES[gate]


def gates(): # accuracy against density, equal budget; the extremes first
    for seed, keep, gate in product((1, 2, 3), (.05, .5, .02, .2, .9, .1), FAMILIES):
        options = dict(gate=gate, keep=keep, epochs=4, seed=seed) | FAMILIES[gate] | dict(lr=RATES[gate])
        yield f'{gate}-keep{keep}-{seed}', options


def optimizer_rates(): # which learning rate does each binary optimizer want? chosen on validation
    for optimizer, lr in product(('adaste', 'mirror'), (.003, .01, .03, .1, .3)):
        yield f'{optimizer}-lr{lr}', dict(optimizer=optimizer, lr=lr, epochs=4, seed=1)


def optimizers(): # do binary optimizers help?
    for seed, (name, options) in product((1, 2, 3), OPTIMIZED.items()):
        yield f'{name}-{seed}', options | dict(epochs=5, seed=seed)


def distributions(): # which random weights? and how large
    kinds = [('signed', .5), ('uniform', .5), ('normal', .5), ('signed', .125), ('signed', 2.)]
    for seed, (distribution, density) in product((1, 2, 3), kinds):
        options = dict(distribution=distribution, density=density, epochs=5, seed=seed)
        yield f'{distribution}-density{density}-{seed}', options | TICKET


def diagonals(): # what does the double diagonal buy? against other small things to train
    for seed, (name, options) in product((1, 2, 3), MIXED.items()):
        yield f'{name}-{seed}', dict(epochs=5, seed=seed) | TICKET | options


def default_recipe(): # which recipe is the default? seeds 1 to 3 of some are in results/pruning and recipes
    elsewhere = {('lenet300', kind) for kind in RECIPES}
    elsewhere |= {(arch, kind) for arch in ('mlp', 'lenet5') for kind in ('any', 'quarter-lr0.1')}
    for epochs, arch, seed, kind in product((10, 20), ('lenet300', 'mlp', 'lenet5'), range(1, 6), RECIPES):
        if epochs == 10 or seed > 3 or (arch, kind) not in elsewhere:
            options = dict(arch=arch, epochs=epochs, seed=seed) | RECIPES[kind]
            yield f'{arch}-e{epochs}-{kind}-{seed}', options


FASHION = dict(dataset='fashion')
JPEG = dict(dataset='folder:cifar10-jpeg', shift=2)
SEARCHED = dict(
    lenet300=dict(epochs=8, ticket=((.05, .1, .2), (.25, .5)), twin=((.001, .002, .004), (0., .1))),
    lenet5=dict(epochs=6, ticket=((.05, .1), (.25, .5)), twin=((.002, .004), (0., .1))))

def trials(kind, space, **options): # every rate with every density, or weight decay; name → options
    start, second = (TWIN, 'weight_decay') if kind == 'twin' else (TICKET, 'keep')
    settings = start | dict(seed=1) | options
    return {f'{kind}-lr{lr}-{second}{value}': settings | {'lr': lr, second: value}
            for lr, value in product(*space[kind])}


def best_of(study, trials): # the options that validated best; None while trials are missing
    found = {record['name']: record['validation_accuracy'] for record in records_of(study)}
    return trials[max(trials, key=found.get)] if trials.keys() <= found.keys() else None


def of_fashion(arch, kind, shift): # the trials of a network; name → options
    options = FASHION | dict(arch=arch, epochs=SEARCHED[arch]['epochs']) | ({} if shift else dict(shift=0))
    return {f'{arch}-{name}' + ('' if shift else '-shift0'): trial
            for name, trial in trials(kind, SEARCHED[arch], **options).items()}


def beyond_search(): # Fashion-MNIST: as many trials for tickets as for twins; validated, not tested
    for shift, arch, kind in product((1, 0), SEARCHED, ('ticket', 'twin')):
        yield from of_fashion(arch, kind, shift).items()


def best_trial(arch, kind, shift=1):
    return best_of('beyond_search', of_fashion(arch, kind, shift))


ALIKE = dict(mlp='lenet300', cnn='lenet5')   # takes what the search found for the other

def beyond(): # Fashion-MNIST with what the search found
    networks = [('lenet300', 1), ('lenet300', 2), ('lenet5', 1), ('mlp', 1), ('lenet5', 2), ('cnn', 1)]
    conditions, kinds = [(20, 1), (20, 0), (60, 0)], ('ticket', 'twin')
    for (epochs, shift), (arch, width), seed, kind in product(conditions, networks, (1, 2, 3), kinds):
        best = best_trial(ALIKE.get(arch, arch), kind, shift)
        if best and (arch != 'cnn' or (epochs, shift) == (20, 0)):
            condition = '' if (epochs, shift) == (20, 1) else f'-e{epochs}-shift{shift}'
            yield (f'{arch}-w{width}{condition}-{kind}-{seed}',
                   best | dict(arch=arch, width=width, epochs=epochs, seed=seed))


PROBES = {'as-it-is': {}, 'no-shift': dict(shift=0), 'flip': dict(flip=True),
          'no-smoothing': dict(label_smoothing=0.), 'smoothing-0.1': dict(label_smoothing=.1),
          'layer-norm': dict(norm='layer'), '60-epochs': dict(epochs=60)}
OF_MASKS = {'half-lr0.1': dict(keep=.5, lr=.1), 'decay-0.05': dict(weight_decay=.05), 'soft-to-the-end': SOFT,
            'two-candidates': dict(candidates=2), 'normal': dict(distribution='normal'),
            'uniform': dict(distribution='uniform'), 'by-layer': dict(scope='layer'),
            'density-0.125': dict(density=.125), 'ste': dict(gate='ste', lr=.003)}
CONVOLUTIONAL = {'any': TICKET, 'quarter-lr0.1': QUARTER, 'lr0.2': dict(lr=.2)}
CONVOLUTIONS = dict(candidates=4, candidates_in='0,3')   # of LeNet-5
CHOICES = {'four-in-convolutions': CONVOLUTIONS,
           'four-in-convolutions-quarter': CONVOLUTIONS | dict(keep=.25),
           'eight-in-convolutions-quarter': CONVOLUTIONS | dict(candidates=8, keep=.25),
           'four-in-first': CONVOLUTIONS | dict(candidates_in='0'),
           'four-in-second': CONVOLUTIONS | dict(candidates_in='3'),
           'four-in-linear': CONVOLUTIONS | dict(candidates_in='7,9,11'), 'four': dict(candidates=4)}

def probes_search(): # what might close the gap on Fashion-MNIST? one seed, validated, not tested
    for kind, (name, options) in product(('ticket', 'twin'), (PROBES | OF_MASKS).items()):
        best = best_trial('lenet300', kind)
        if best and (kind == 'ticket' or name in PROBES):
            yield f'{kind}-{name}-1', best | dict(epochs=20, seed=1) | options
    best = best_trial('lenet5', 'ticket', shift=0)
    for name, options in (OF_MASKS | CONVOLUTIONAL | CHOICES).items() if best else ():
        if name != 'half-lr0.1': # what the search has chosen
            yield f'lenet5-{name}-1', best | dict(epochs=20, seed=1) | options


CANDIDATES = {'K2': dict(candidates=2), 'width1.83': dict(width=1.83), 'K3': dict(candidates=3),
              'width2.55': dict(width=2.55), 'diagonals': dict(double_diagonal=True),
              'K2-diagonals': dict(candidates=2, double_diagonal=True)}

def candidates(): # more candidates against width at as many random weights; K = 1 is in results/pruning
    for seed, (name, options) in product((1, 2, 3), CANDIDATES.items()):
        yield f'{name}-{seed}', QUARTER | dict(epochs=20, seed=seed) | options
    best = best_trial('lenet5', 'ticket', shift=0)   # K = 1 is in results/beyond
    for seed in (1, 2, 3) if best else ():
        yield f'fashion-lenet5-K2-{seed}', best | dict(epochs=20, seed=seed, candidates=2)
        for width in (1, 2):
            options = best | dict(epochs=20, seed=seed, width=width, keep=.25) | CONVOLUTIONS
            yield f'fashion-lenet5-w{width}-conv-K4-{seed}', options
        yield f'lenet5-conv-K4-{seed}', QUARTER | dict(arch='lenet5', epochs=20, seed=seed) | CONVOLUTIONS


def cifar(): # CIFAR-10 as JPEG files, with the default recipes of both sides
    data = JPEG | dict(arch='lenet5', epochs=10)
    for width, seed, (kind, recipe) in product((2, 4), (1, 2, 3), dict(ticket=QUARTER, twin=TWIN).items()):
        yield f'lenet5-w{width}-e10-{kind}-{seed}', data | dict(width=width, seed=seed) | recipe
    for seed in (1, 2, 3):
        yield f'lenet5-w2-e10-conv-K4-{seed}', data | dict(width=2, seed=seed) | QUARTER | CONVOLUTIONS
    for kind, recipe in dict(ticket=QUARTER, twin=TWIN).items(): # eight minutes each on one core
        yield f'conv2-w1-e6-{kind}-1', data | dict(arch='conv2', epochs=6, seed=1) | recipe


WIDER = dict(ticket=((.025, .05, .1, .2), (.25, .5)), twin=((.001, .002, .004, .008), (0., .1)))
ELSEWHERE = dict(mnist=dict(arch='lenet5', epochs=10), cifar=JPEG | dict(arch='lenet5', width=2, epochs=5))

def of_convolutions(data, kind): # name → options
    return {f'{data}-{name}': trial for name, trial in trials(kind, WIDER, **ELSEWHERE[data]).items()}


def convolutional_search(): # LeNet-5 on MNIST, and twice as wide on CIFAR-10 as JPEG files
    for data, kind in product(ELSEWHERE, ('ticket', 'twin')): yield from of_convolutions(data, kind).items()


def convolutional(): # with what that search found; four times the width takes what twice the width has
    sizes = [('mnist', 1, 20), ('cifar', 2, 10), ('cifar', 4, 10)]
    for (data, width, epochs), seed, kind in product(sizes, (1, 2, 3), ('ticket', 'twin')):
        if best := best_of('convolutional_search', of_convolutions(data, kind)):
            yield f'{data}-w{width}-{kind}-{seed}', best | dict(width=width, epochs=epochs, seed=seed)


class Redraw(Callback):
    "Gives pruned connections another random weight (IteRand, Chijiwa and others 2021)."
    never = -1e9   # the score of a candidate whose turn it isn't
    def __init__(self, seed: int, rate: float = .1): # rate: the fraction of them, after each epoch
        self.seed, self.rate = seed, rate
    def before_training(self, run):
        if run.state.epoch == run.state.step == 0:
            for mask in run.masks: mask.scores.data[1:] = self.never
    def between_epochs(self, run):
        random = torch.Generator().manual_seed(1000*self.seed + run.state.epoch)
        for mask in run.masks:
            scores, turn = mask.scores.data, mask.scores.data.argmax(0, keepdim=True)
            chosen = ~mask.mask.any(0) & (torch.rand(mask.shape, generator=random) < self.rate)
            following = torch.where(chosen, turn + 1, turn).clamp(max=mask.candidates - 1)
            value = scores.gather(0, turn)
            scores.scatter_(0, turn, self.never).scatter_(0, following, value)


REDRAWN = dict(kept={}, redrawn=dict(candidates=8, density=.5/8))   # at the scale of one weight

def redrawing(): # Fashion-MNIST: up to eight random weights for a connection, one at a time
    for arch, seed, (name, options) in product(('lenet300', 'lenet5'), (1, 2, 3), REDRAWN.items()):
        best = best_trial(arch, 'ticket', shift=0)
        if best: yield f'{arch}-{name}-{seed}', best | TICKET | dict(epochs=20, seed=seed) | options


def batch_normed(width: float = 1.): # LeNet-5 with batch norm before each ReLU
    layers = list(build('lenet5', width))
    for k in reversed(range(len(layers) - 1)):
        if isinstance(layers[k], nn.Conv2d): layers.insert(k + 1, nn.BatchNorm2d(layers[k].out_channels))
        if isinstance(layers[k], nn.Linear): layers.insert(k + 1, nn.BatchNorm1d(layers[k].out_features))
    return nn.Sequential(*layers)


NORMED = {'ticket': {}, 'twin': {}, 'ticket-conv-K4': dict(keep=.25, candidates=4, candidates_in='0,4')}

def batch_norm(): # does it help LeNet-5 on Fashion-MNIST? the settings of the network without it
    for width, seed, (name, options) in product((1, 2), (1, 2, 3), NORMED.items()):
        best = best_trial('lenet5', name.split('-')[0], shift=0)
        if best and (width == 1 or name != 'ticket'):
            options = dict(width=width, epochs=20, seed=seed) | options
            yield f'{name}-{seed}' + '-w2'*(width == 2), best | options


STUDIES = {study.__name__: study for study in (
    pruning, cnn, vit, sparse, recipes, default_recipe, gate_rates, gates, diagonals, distributions,
    optimizer_rates, optimizers, beyond_search, beyond, probes_search, candidates, cifar,
    convolutional_search, convolutional, redrawing, batch_norm)}
VALIDATED = ('name', 'dataset', 'arch', 'width', 'seed', 'epochs', 'validation_accuracy', 'best_epoch',
             'density', 'seconds', 'hardware', 'command', 'versions')   # what a search records


OWN = dict(vit=partial(build, 'vit', depth=2), batch_norm=batch_normed)   # networks of some studies


def run(study: str, name: str, runs: Path, **options):
    "One run, from where it was left; its folder goes when its record is written."
    options = dict(resume=True) if (runs/name/'config.json').exists() else MNIST | options
    search, record = study.endswith('search'), str(ROOT/f'results/{study}.jsonl')
    config = configure(name=name, runs=str(runs), record=None if search else record, **options)
    network = OWN[study](config.network.width) if study in OWN else None
    summary = fit(config, network, callbacks=[Redraw(config.run.seed)]*('redrawn' in name))
    if summary.get('interrupted'): raise KeyboardInterrupt
    if study == 'vit':
        (ROOT/'results/vit').mkdir(exist_ok=True)
        shutil.copy(runs/name/'metrics.jsonl', ROOT/f'results/vit/{name}.jsonl')
    shutil.rmtree(runs/name)
    return {key: summary[key] for key in VALIDATED} if search else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('study', nargs='+', choices=STUDIES)
    parser.add_argument('--runs', type=Path, default=ROOT/'runs/studies', help='of the runs while they last')
    parser.add_argument('--only', default='', help='train runs whose name matches this regular expression')
    args = parser.parse_args()
    for study in args.study:
        wanted = [run for run in STUDIES[study]() if re.search(args.only, run[0])]
        settings = [dict(name=name) | options for name, options in wanted]
        run_missing(settings, lambda setting: run(study, runs=args.runs, **setting),
                    ROOT/f'results/{study}.jsonl', key=['name'])


if __name__ == '__main__':
    main()
