"""Sweeps of many tickets: hyper-parameter studies, and the measurements behind *The scaling law of tickets*.

    python scripts/sweep.py scripts/spaces/lenet300.toml      # a study, with the options of tt_sweep
    python scripts/sweep.py rates sizes images keeps lenet5 longer   # adds what results/scaling.jsonl lacks
    python scripts/sweep.py coverage                          # do its intervals hold? results/coverage.jsonl

Each network of the scaling law is one line of results/scaling.jsonl, written as soon as its stack is trained:
start the command again and it goes on.
"""
import argparse
import math
import statistics
import sys
from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from torch import nn
from train_ticket.coding import entropy
from train_ticket.config import configure
from train_ticket.core import UserError, made_by, one_line_error, read_records, run_missing
from train_ticket.datasets import load_dataset
from train_ticket.models import build
from train_ticket.scaling import PowerLaw, fit_scaling
from train_ticket.stack import train_stack
from train_ticket.ticket import accuracy
from train_ticket.train import test_batches

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/'results/scaling.jsonl'
EPOCHS, LONGER, HIDDEN = 5, 20, 128
DEPTHS, TUNED = (2, 3, 4, 5), (.125, .5, 2.)   # widths at which the learning rate is looked for
RATES = dict(ticket=(.05, .1, .2, .4), twin=(.001, .002, .004, .008, .016, .032))
KINDS = dict(ticket=dict(keep=None), twin=dict(gate='none'))
POINT = 'study', 'kind', 'arch', 'width', 'depth', 'images'   # what the networks of one stack share


def tower(width: float, depth: int) -> nn.Module:
    "784-h-…-h-10 with `depth` layers of weights, h = 128·width."
    return build('feedforward', hidden=[round(HIDDEN*width)]*(depth - 1))


def tuned(kind: str, depth: int, width: float, arch: str = 'tower') -> float:
    "The learning rate with the best validation accuracy, mean of its seeds, at the nearest width of `rates`."
    found = [r for r in read_records(RESULTS) if r['study'] == 'rates'
             and (r['kind'], r['depth'], r['arch']) == (kind, depth, arch)]
    if not found:
        raise UserError(f'no learning rate was looked for on {arch} of depth {depth}: '
                        'run `python scripts/sweep.py rates` first')
    nearest = min({r['width'] for r in found}, key=lambda w: (abs(math.log(w/width)), w))
    by_rate = {}
    for r in found:
        if r['width'] == nearest:
            by_rate.setdefault(r['lr'], []).append(r['validation_accuracy'])
    return max(sorted(by_rate), key=lambda lr: statistics.mean(by_rate[lr]))


# A study yields settings, one for each network; those of one point follow each other and make one stack.

def settings_of(study, kind, width, depth, lrs, seeds, arch='tower', images=None, keeps=(None,)):
    "A point's settings: every learning rate, fraction kept and seed."
    point = dict(study=study, kind=kind, arch=arch, width=width, depth=depth, images=images)
    for lr, keep, seed in product(lrs, keeps, seeds):
        yield point | dict(lr=lr, keep=keep, seed=seed)


def rates():
    for width, depth, kind in product(TUNED, DEPTHS, KINDS):
        yield from settings_of('rates', kind, width, depth, RATES[kind], (101, 102))
    for kind, more in dict(ticket=(.8,), twin=()).items():
        yield from settings_of('rates', kind, .5, 5, (*RATES[kind], *more), (101, 102), 'lenet5')


def sizes():
    few, many = (1, 2, 3), (1, 2, 3, 4, 5)
    for width, depth, kind in product((.125, .25, .5, 1., 2., 4.), DEPTHS, KINDS):
        yield from settings_of('sizes', kind, width, depth, [tuned(kind, depth, width)], many)
    for seeds, depth, kind in product((few, (4, 5)), DEPTHS, KINDS):
        yield from settings_of('sizes', kind, 8., depth, [tuned(kind, depth, 8.)], seeds)


def images(): # as many images seen, of fewer different ones
    for count, kind in product((1000, 2000, 8000, 32000), KINDS):
        yield from settings_of('images', kind, 1., 3, [tuned(kind, 3, 1.)], (1, 2, 3, 4, 5), images=count)


def keeps(): # of the weights, ranked over the whole network
    fractions = .02, .05, .1, .2, .3, .5, .7, .9
    for width in (.5, 1.):
        yield from settings_of('keeps', 'ticket', width, 3, [.1], (1, 2, 3), keeps=fractions)


def lenet5():
    for width, kind in product((.25, .5, 1., 2.), KINDS):
        best = [tuned(kind, 5, width, 'lenet5')]
        yield from settings_of('lenet5', kind, width, 5, best, (1, 2, 3), 'lenet5')


def longer(): # 20 epochs, and the recipe that is the default by then; twins at their rates of five epochs
    for width, kind in product((.125, .25, .5, 1., 2., 4.), KINDS):
        lr, keep = (.1, .25) if kind == 'ticket' else (tuned(kind, 3, width), None)
        yield from settings_of('longer', kind, width, 3, [lr], (1, 2, 3), keeps=[keep])


STUDIES = {study.__name__: study for study in (rates, sizes, images, keeps, lenet5, longer)}


def rounded(state: dict, bits: int) -> dict:
    "Each row of weights to the nearest of 2^bits - 1 equidistant values, symmetric about 0; no biases."
    steps, out = 2**(bits - 1) - 1, dict(state)
    for name, value in state.items():
        if name.endswith('weight'):
            unit = value.flatten(1).abs().amax(1).clamp(min=1e-30).div(steps).view(-1, *[1]*(value.dim() - 1))
            out[name] = (value/unit).round()*unit
    return out


def with_state(model: nn.Module, state: dict) -> nn.Module:
    model = deepcopy(model).eval()
    model.load_state_dict(state)
    return model


def price(model: nn.Module, record: dict, tests: list) -> dict:
    "What a ticket or a dense twin takes: bits of its masks, or accuracies of rounded weights."
    ticket, state = record.pop('ticket'), record.pop('state')
    size = sum(p.numel() for name, p in model.named_parameters() if name.endswith('weight'))
    if ticket:
        bits = sum(mask.size*entropy(float(mask.mean())) for mask in ticket.masks.values())
        return dict(weights=size, bits=bits)
    coarse = {bits: with_state(model, rounded(state, bits)) for bits in (8, 4, 3)}
    tested = {bits: accuracy(network, tests)['accuracy'] for bits, network in coarse.items()}
    return dict(weights=size, rounded=tested)


def train_point(settings: list):
    "Train the networks of one point in one stack; yields a record for each."
    point = {name: settings[0][name] for name in POINT}
    variants = [{name: s[name] for name in ('lr', 'keep', 'seed') if s[name] is not None} for s in settings]
    dataset, count = load_dataset('mnist'), point['images']
    epochs = LONGER if point['study'] == 'longer' else EPOCHS
    if count:
        epochs = round(EPOCHS*len(dataset.train)/count)
        dataset = replace(dataset, train=dataset.train[:count])
    config = configure(dataset='mnist', loader='resident', device='cpu', epochs=epochs, data_seed=0,
                       batch_size=256, **KINDS[point['kind']])
    width, arch = point['width'], point['arch']
    model = tower(width, point['depth']) if arch == 'tower' else build(arch, width)
    tests, command = list(test_batches(dataset)), f'python scripts/sweep.py {point["study"]}'
    for record in train_stack(config, variants, model, dataset, progress=False):
        record.pop('pruned')
        more = price(model, record, tests)
        yield point | record | more | made_by(command)


# name → floor, scale and exponent of a law; sizes and seeds that it is measured at
CASES = {'floor, 9 sizes, 5 seeds': (.01, 40., .75, 9, 5), 'floor, 9 sizes, 3 seeds': (.01, 40., .75, 9, 3),
         'floor, 5 small sizes': (.01, 40., .75, 5, 5), 'no floor, 9 sizes, 5 seeds': (0., 4., .4, 9, 5),
         'no floor, 5 small sizes': (0., 4., .4, 5, 5)}
SPREAD = .05   # of the logarithm of an error, from seed to seed


def synthetic_fit(law: PowerLaw, count: int, seeds: int, seed: int):
    "The fit to synthetic errors."
    random, sizes = np.random.default_rng(seed), 12_700*2.**np.arange(count)
    errors = [law(n)*np.exp(SPREAD*random.standard_normal(seeds)) for n in sizes]
    return fit_scaling(sizes, errors, draws=300, seed=seed)


def coverage(setting: dict, times: int = 300) -> dict:
    "How often do the intervals of `fit_scaling` hold the exponent of synthetic data?"
    floor, scale, exponent, count, seeds = CASES[setting['case']]
    law = PowerLaw(floor, scale, exponent)
    fits = [synthetic_fit(law, count, seeds, seed) for seed in range(times)]
    held = [low <= exponent <= high for low, high in (fit.interval() for fit in fits)]
    found = dict(held=float(np.mean(held)), identified=float(np.mean([fit.identified for fit in fits])),
                 mean_exponent=float(np.mean([fit.law.exponent for fit in fits])))
    about = dict(floor=floor, scale=scale, exponent=exponent, sizes=count, seeds=seeds, spread=SPREAD,
                 level=.9, draws=times)
    return setting | about | found | made_by('python scripts/sweep.py coverage')


def main():
    if not set(sys.argv[1:]) & {'-h', '--help', 'coverage', *STUDIES}:
        from train_ticket.studies import main as study
        return study()
    how = dict(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser = argparse.ArgumentParser(**how)
    parser.add_argument('study', nargs='+', choices=['coverage', *STUDIES],
                        help='of the scaling law, in this order, rates first; or coverage, on synthetic data')
    try:
        for study in parser.parse_args().study:
            if study == 'coverage':
                run_missing([dict(case=case) for case in CASES], coverage, ROOT/'results/coverage.jsonl')
            else:
                run_missing(list(STUDIES[study]()), train_point, RESULTS, together=POINT)
    except (UserError, OSError) as error: return one_line_error(error)


if __name__ == '__main__':
    sys.exit(main())
