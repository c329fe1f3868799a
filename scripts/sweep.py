"""Sweeps of many tickets: hyper-parameter studies, and the measurements behind *The scaling law of tickets*.

    python scripts/sweep.py scripts/spaces/lenet300.toml      # a study of a search space: as tt_sweep, whose options it takes
    python scripts/sweep.py rates sizes images keeps lenet5   # the scaling law; adds what results/scaling.jsonl doesn't have yet
    python scripts/sweep.py coverage                          # do the intervals of its fits hold what they promise? results/coverage.jsonl

Each network of the scaling law is one line of results/scaling.jsonl, written as soon as its stack is trained: start the command again and it goes on."""
import argparse, json, math, statistics, sys
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from torch import nn
from tqdm.auto import trange
from train_ticket.data import DataError, load_dataset
from train_ticket.models import build
from train_ticket.scaling import PowerLaw, fit_scaling
from train_ticket.sweep import train_stack
from train_ticket.ticket import accuracy, entropy
from train_ticket.train import Config, ConfigError, hardware, test_batches, versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/'results/scaling.jsonl'
EPOCHS, HIDDEN, TUNED = 5, 128, (.125, .5, 2.)   # widths at which the learning rate is looked for
RATES = dict(ticket=(.05, .1, .2, .4), twin=(.001, .002, .004, .008, .016, .032))
SETTINGS = dict(ticket={}, twin=dict(gate='none'))


CASES = {'floor, 9 sizes, 5 seeds': (.01, 40., .75, 9, 5), 'floor, 9 sizes, 3 seeds': (.01, 40., .75, 9, 3), 'floor, 5 small sizes': (.01, 40., .75, 5, 5),
         'no floor, 9 sizes, 5 seeds': (0., 4., .4, 9, 5), 'no floor, 5 small sizes': (0., 4., .4, 5, 5)}


def tower(width: float, depth: int) -> nn.Module:
    "784-h-…-h-10 with `depth` layers of weights, h = 128·width."
    sizes = [784, *[round(HIDDEN*width)]*(depth - 1), 10]
    return nn.Sequential(nn.Flatten(), *[layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.ReLU())][:-1])

def records(study: str = '') -> list:
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return [r for r in map(json.loads, lines) if study in ('', r['study'])]

def tuned(kind: str, depth: int, width: float, arch: str = 'tower') -> float:
    "The learning rate that was best on the validation split, mean of its seeds, at the nearest width where it was looked for."
    found = [r for r in records('rates') if (r['kind'], r['depth'], r['arch']) == (kind, depth, arch)]
    if not found: raise SystemExit(f'error: no learning rate was looked for on {arch} of depth {depth}: run `python scripts/sweep.py rates` first')
    near = min({r['width'] for r in found}, key=lambda w: (abs(math.log(w/width)), w))
    mean = lambda lr: statistics.mean(r['validation_accuracy'] for r in found if (r['width'], r['lr']) == (near, lr))
    return max(sorted({r['lr'] for r in found if r['width'] == near}), key=mean)

# A study yields points: what its networks have in common, and the variants of one stack.

def rates():
    for width in TUNED:
        for depth in (2, 3, 4, 5):
            for kind in SETTINGS: yield dict(kind=kind, width=width, depth=depth), [dict(lr=lr, seed=seed) for lr in RATES[kind] for seed in (101, 102)]
    for kind in SETTINGS: yield dict(kind=kind, arch='lenet5', width=.5, depth=5), [dict(lr=lr, seed=seed) for lr in (*RATES[kind], *((.8,) if kind == 'ticket' else ())) for seed in (101, 102)]

def sizes():
    for seeds, widths in (((1, 2, 3, 4, 5), (.125, .25, .5, 1., 2., 4.)), ((1, 2, 3), (8.,)), ((4, 5), (8.,))):
        for width in widths:
            for depth in (2, 3, 4, 5):
                for kind in SETTINGS: yield dict(kind=kind, width=width, depth=depth), [dict(lr=tuned(kind, depth, width), seed=seed) for seed in seeds]

def images(): # as many images seen, of fewer different ones
    for count in (1000, 2000, 8000, 32000):
        for kind in SETTINGS: yield dict(kind=kind, width=1., depth=3, images=count), [dict(lr=tuned(kind, 3, 1.), seed=seed) for seed in (1, 2, 3, 4, 5)]

def keeps(): # of the weights, ranked over the whole network
    for width in (.5, 1.):
        yield dict(kind='ticket', width=width, depth=3), [dict(lr=.1, keep=keep, seed=seed) for keep in (.02, .05, .1, .2, .3, .5, .7, .9) for seed in (1, 2, 3)]

def lenet5():
    for width in (.25, .5, 1., 2.):
        for kind in SETTINGS: yield dict(kind=kind, arch='lenet5', width=width, depth=5), [dict(lr=tuned(kind, 5, width, 'lenet5'), seed=seed) for seed in (1, 2, 3)]

STUDIES = {study.__name__: study for study in (rates, sizes, images, keeps, lenet5)}


def rounded(state: dict, bits: int) -> dict:
    "Each row of weights to the nearest of 2^bits - 1 equidistant values, symmetric about 0; biases stay as they are."
    steps, out = 2**(bits - 1) - 1, dict(state)
    for name, value in state.items():
        if not name.endswith('weight'): continue
        unit = value.flatten(1).abs().amax(1).clamp(min=1e-30).div(steps).view(-1, *[1]*(value.dim() - 1))
        out[name] = (value/unit).round()*unit
    return out

def with_state(model: nn.Module, state: dict) -> nn.Module: model = deepcopy(model).eval(); model.load_state_dict(state); return model


def train_point(study: str, point: dict, variants: list):
    "Train one point's stack, less what is there already, and add a line a network."
    key = lambda r: tuple(r.get(name) for name in ('kind', 'arch', 'width', 'depth', 'images', 'lr', 'keep', 'seed'))
    point = dict(arch='tower', images=None) | point
    there = {key(r) for r in records(study)}
    variants = [v for v in variants if key(point | v) not in there]
    if not variants: return
    dataset = load_dataset('mnist')
    whole, epochs = len(dataset.train), EPOCHS
    if point['images']: dataset, epochs = replace(dataset, train=dataset.train[:point['images']]), round(EPOCHS*whole/point['images'])
    config = Config(dataset='mnist', loader='resident', device='cpu', epochs=epochs, data_seed=0, batch_size=256, **SETTINGS[point['kind']])
    model = tower(point['width'], point['depth']) if point['arch'] == 'tower' else build(point['arch'], point['width'])
    tested, lines = list(test_batches(dataset)), []
    about = dict(command=f'python scripts/sweep.py {study}', hardware=hardware('cpu'), versions={k: v for k, v in versions().items() if k in ('python', 'torch', 'numpy')})
    for r in train_stack(config, variants, model, dataset):
        ticket, state, _ = r.pop('ticket'), r.pop('state'), r.pop('pruned')
        line = dict(study=study, **point) | r | dict(weights=sum(p.numel() for name, p in model.named_parameters() if name.endswith('weight')))
        if ticket: line |= dict(bits=sum(mask.size*entropy(float(mask.mean())) for mask in ticket.masks.values()))
        else: line |= dict(rounded={bits: accuracy(with_state(model, rounded(state, bits)), tested)['accuracy'] for bits in (8, 4, 3)})
        lines.append(json.dumps(line | about | dict(finished=datetime.now(timezone.utc).isoformat(timespec='seconds'))) + '\n')
    with open(RESULTS, 'a') as file: file.write(''.join(lines))


def coverage(times: int = 300):
    "How often do the intervals of `fit_scaling` hold the exponent of synthetic data? To results/coverage.jsonl."
    path = ROOT/'results/coverage.jsonl'
    there = {json.loads(line)['case'] for line in path.read_text().splitlines()} if path.exists() else set()
    for case, (floor, scale, exponent, count, seeds) in CASES.items():
        if case in there: continue
        law, sizes = PowerLaw(floor, scale, exponent), 12_700*2.**np.arange(count)
        fits = []
        for k in trange(times, desc=case):
            random = np.random.default_rng(k)
            fits.append(fit_scaling(sizes, [law(n)*np.exp(.05*random.standard_normal(seeds)) for n in sizes], draws=300, seed=k))
        held = [low <= exponent <= high for low, high in (fit.interval() for fit in fits)]
        line = dict(case=case, floor=floor, scale=scale, exponent=exponent, sizes=count, seeds=seeds, spread=.05, level=.9, draws=times, held=float(np.mean(held)), identified=float(np.mean([f.identified for f in fits])),
                    mean_exponent=float(np.mean([f.law.exponent for f in fits])), command='python scripts/sweep.py coverage', versions=dict(numpy=np.__version__), hardware=hardware('cpu'), finished=datetime.now(timezone.utc).isoformat(timespec='seconds'))
        with open(path, 'a') as file: file.write(json.dumps(line) + '\n')


def main():
    if not set(sys.argv[1:]) & {'-h', '--help', 'coverage', *STUDIES}:
        from train_ticket.studies import main as study
        return study()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', nargs='+', choices=['coverage', *STUDIES], help='of the scaling law, in this order; rates first. coverage: of the fit, on synthetic data')
    try:
        for study in parser.parse_args().study:
            if study == 'coverage': coverage(); continue
            for point, variants in STUDIES[study](): print(study, point, flush=True); train_point(study, point, variants)
    except (DataError, ConfigError, OSError) as error: return f'error: {error}'
    except KeyboardInterrupt: return 'stopped: the same command goes on with what is missing'


if __name__ == '__main__': sys.exit(main())
