"""Sweeps of many tickets: hyper-parameter studies, and the measurements behind *The scaling law of tickets*.

    python scripts/sweep.py scripts/spaces/lenet300.toml      # a study, with the options of tt_sweep
    python scripts/sweep.py rates sizes images keeps lenet5   # adds what results/scaling.jsonl lacks
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
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from torch import nn
from tqdm.auto import trange
from train_ticket.coding import entropy
from train_ticket.config import configure
from train_ticket.core import UserError, append_record, hardware, read_records, versions
from train_ticket.datasets import load_dataset
from train_ticket.models import build
from train_ticket.scaling import PowerLaw, fit_scaling
from train_ticket.stack import train_stack
from train_ticket.ticket import accuracy
from train_ticket.train import test_batches

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/'results/scaling.jsonl'
EPOCHS, HIDDEN = 5, 128
DEPTHS, TUNED = (2, 3, 4, 5), (.125, .5, 2.)   # widths at which the learning rate is looked for
RATES = dict(ticket=(.05, .1, .2, .4), twin=(.001, .002, .004, .008, .016, .032))
KINDS = dict(ticket={}, twin=dict(gate='none'))
POINT = 'kind', 'arch', 'width', 'depth', 'images', 'lr', 'keep', 'seed'   # what makes a network


def tower(width: float, depth: int) -> nn.Module:
    "784-h-…-h-10 with `depth` layers of weights, h = 128·width."
    return build('feedforward', hidden=[round(HIDDEN*width)]*(depth - 1))


def records(study: str = '') -> list:
    return [record for record in read_records(RESULTS) if study in ('', record['study'])]


def tuned(kind: str, depth: int, width: float, arch: str = 'tower') -> float:
    "The learning rate with the best validation accuracy, mean of its seeds, at the nearest width of `rates`."
    found = [r for r in records('rates') if (r['kind'], r['depth'], r['arch']) == (kind, depth, arch)]
    if not found:
        raise UserError(f'no learning rate was looked for on {arch} of depth {depth}: '
                        'run `python scripts/sweep.py rates` first')
    nearest = min({r['width'] for r in found}, key=lambda w: (abs(math.log(w/width)), w))
    by_rate = {}
    for r in found:
        if r['width'] == nearest:
            by_rate.setdefault(r['lr'], []).append(r['validation_accuracy'])
    return max(sorted(by_rate), key=lambda lr: statistics.mean(by_rate[lr]))


# A study yields points: what the networks have in common, and the variants of one stack.

def variants_of(lrs, seeds, **more) -> list:
    return [dict(lr=lr, seed=seed) | more for lr in lrs for seed in seeds]


def rates():
    for width in TUNED:
        for depth in DEPTHS:
            for kind in KINDS:
                yield dict(kind=kind, width=width, depth=depth), variants_of(RATES[kind], (101, 102))
    for kind, more in dict(ticket=(.8,), twin=()).items():
        point = dict(kind=kind, arch='lenet5', width=.5, depth=5)
        yield point, variants_of((*RATES[kind], *more), (101, 102))


def sizes():
    parts = [((1, 2, 3, 4, 5), (.125, .25, .5, 1., 2., 4.)), ((1, 2, 3), (8.,)), ((4, 5), (8.,))]
    for seeds, widths in parts:
        for width in widths:
            for depth in DEPTHS:
                for kind in KINDS:
                    point = dict(kind=kind, width=width, depth=depth)
                    yield point, variants_of([tuned(kind, depth, width)], seeds)


def images(): # as many images seen, of fewer different ones
    for count in (1000, 2000, 8000, 32000):
        for kind in KINDS:
            point = dict(kind=kind, width=1., depth=3, images=count)
            yield point, variants_of([tuned(kind, 3, 1.)], (1, 2, 3, 4, 5))


def keeps(): # of the weights, ranked over the whole network
    for width in (.5, 1.):
        each = [variants_of([.1], (1, 2, 3), keep=keep) for keep in (.02, .05, .1, .2, .3, .5, .7, .9)]
        yield dict(kind='ticket', width=width, depth=3), sum(each, [])


def lenet5():
    for width in (.25, .5, 1., 2.):
        for kind in KINDS:
            point = dict(kind=kind, arch='lenet5', width=width, depth=5)
            yield point, variants_of([tuned(kind, 5, width, 'lenet5')], (1, 2, 3))


STUDIES = {study.__name__: study for study in (rates, sizes, images, keeps, lenet5)}


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


def train_point(study: str, point: dict, variants: list):
    "Train one point's stack, less what is there already, and add a line per network."
    point = dict(arch='tower', images=None) | point
    key = lambda record: tuple(record.get(name) for name in POINT)
    there = {key(record) for record in records(study)}
    variants = [variant for variant in variants if key(point | variant) not in there]
    if not variants:
        return
    dataset, epochs, count = load_dataset('mnist'), EPOCHS, point['images']
    if count:
        epochs = round(EPOCHS*len(dataset.train)/count)
        dataset = replace(dataset, train=dataset.train[:count])
    config = configure(dataset='mnist', loader='resident', device='cpu', epochs=epochs, data_seed=0,
                       batch_size=256, **KINDS[point['kind']])
    width, arch = point['width'], point['arch']
    model = tower(width, point['depth']) if arch == 'tower' else build(arch, width)
    about, tests = made_by(study), list(test_batches(dataset))
    for record in train_stack(config, variants, model, dataset):
        record.pop('pruned')
        more = price(model, record, tests)
        append_record(RESULTS, dict(study=study, **point) | record | more | about)


def made_by(study: str, packages=('python', 'torch', 'numpy')) -> dict:
    software = {name: version for name, version in versions().items() if name in packages}
    return dict(command=f'python scripts/sweep.py {study}', hardware=hardware('cpu'), versions=software,
                finished=datetime.now(timezone.utc).isoformat(timespec='seconds'))


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


def coverage(times: int = 300):
    "How often do the intervals of `fit_scaling` hold the exponent of synthetic data?"
    path = ROOT/'results/coverage.jsonl'
    there = {record['case'] for record in read_records(path)}
    for case, (floor, scale, exponent, count, seeds) in CASES.items():
        if case in there:
            continue
        law = PowerLaw(floor, scale, exponent)
        fits = [synthetic_fit(law, count, seeds, seed) for seed in trange(times, desc=case)]
        held = [low <= exponent <= high for low, high in (fit.interval() for fit in fits)]
        found = dict(held=float(np.mean(held)), identified=float(np.mean([fit.identified for fit in fits])),
                     mean_exponent=float(np.mean([fit.law.exponent for fit in fits])))
        about = dict(case=case, floor=floor, scale=scale, exponent=exponent, sizes=count, seeds=seeds,
                     spread=SPREAD, level=.9, draws=times)
        append_record(path, about | found | made_by('coverage', ('numpy',)))


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
                coverage()
                continue
            for point, variants in STUDIES[study]():
                print(study, point, flush=True)
                train_point(study, point, variants)
    except (UserError, OSError) as error:
        return f'error: {error}'
    except KeyboardInterrupt:
        return 'stopped: the same command goes on with what is missing'


if __name__ == '__main__':
    sys.exit(main())
