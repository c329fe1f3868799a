"""The long experiments of the notebook 20_theory.

`python scripts/theory.py NAME…` runs what results/theory.jsonl doesn't have yet and adds it there.
"""
import argparse, os, tempfile, time
from functools import cache, partial
from itertools import product
from pathlib import Path

os.environ.setdefault('TQDM_DISABLE', '1')
import numpy as np
import torch
from train_ticket.config import configure
from train_ticket.core import made_by, run_missing
from train_ticket.datasets import load_dataset
from train_ticket.infer import evaluate
from train_ticket.models import build
from train_ticket.stack import train_stack
from train_ticket.subset_sums import (METHODS, MOST, draws, greedy_subset, halvings, misses, nearest_subset,
                                      success_bound, sufficient_subset)
from train_ticket.theory import (as_ticket, construct, construct_binary, grey_loaders, output_bound,
                                 target_layers, tower, train_target)
from train_ticket.ticket import accuracy, audit, save_ticket

RECORDS = Path(__file__).resolve().parent.parent/'results/theory.jsonl'
INTERVAL = -.464, .541   # of the candidates in Pensia and others 2020
SPARE = 5                # more candidates for a weight that 21 miss, and 5 more where those weren't enough
TICKET_COUNT = 24        # candidates per weight in the ticket: 21 don't suffice for all of 397,000
TOLERANCE, COUNT = .01, 21
PRICE_TARGETS = (16,), (32,), (100,)
PRICE_EPOCHS, PRICE_SEEDS = 12, (1, 2, 3)


# the law: error against the number of candidates

FITS = ('exact', 6, 20, False), ('exact', 6, 20, True), ('exact', 6, 12, False), ('exact', 14, 20, False)


def law():
    "10,000 targets, each with candidates of its own, one more at a time."
    targets, most, seed = 10_000, 21, 20   # more than 21 would see float32's grid of 2⁻²⁵
    z, c = draws(seed, 0, targets, 1, -.5, .5), draws(seed, 1, targets, most)
    errors = {(method, n): misses(z, c[:, :n], METHODS[method](z, c[:, :n]))[:, 0].numpy()
              for method, n in product(METHODS, range(1, most + 1))}
    rows = [law_row(method, n, e) for (method, n), e in errors.items()]
    fits = []
    for method, low, high, root in FITS:
        counts = range(low, high + 1)
        own = np.stack([errors[method, n] for n in counts])
        slope, *interval, intercept = halvings(counts, own, root=root)
        fits.append(dict(method=method, low=low, high=high, root=root, slope=slope, interval=interval,
                         intercept=intercept))
    yield 'law', dict(targets=targets, seed=seed, rows=rows, fits=fits)


def law_row(method, n, errors) -> dict:
    row = dict(method=method, n=n, mean=errors.mean(), median=np.median(errors), q10=np.quantile(errors, .1),
               q90=np.quantile(errors, .9), within=np.mean(errors <= .01))
    if method == 'exact':
        row['bound'] = median_bound(n)
    return row


def median_bound(n: int) -> float: # None: larger than the largest that is tried
    "The error below which the proposition puts half of all draws, for each of four targets."
    for power in range(-4, 100):
        eps = .5*2**(-power/4)
        if min(success_bound(n, eps, z) for z in (.125, .25, .375, .5)) < .5:
            return None if power == -4 else .5*2**(-(power - 1)/4)


# the probability of success

GRID = [-.5 + .1*k for k in range(11) if k != 5]
COUNTS = *range(1, 11), 12, 14, 16, 18, 20, 22, 24


def success():
    "Probability that a subset is within the tolerance: 10,000 targets per point, −½…½ without 0."
    targets, seed = 10_000, 21
    z = torch.tensor(GRID, dtype=torch.float64).repeat(targets//len(GRID))[:, None]
    rows = []
    for tolerance, n in product((.05, .01, .001), COUNTS):
        c = draws(seed, round(1/tolerance)*100 + n, targets, n)
        for method in 'exact', 'one':
            found = int((misses(z, c, METHODS[method](z, c)) <= tolerance).sum())
            rows.append(dict(tolerance=tolerance, n=n, method=method, targets=targets, successes=found,
                             bound=mean_bound(method, n, tolerance)))
    yield 'success', dict(seed=seed, rows=rows)


def mean_bound(method, n, tolerance) -> float: # what is proved, over the grid
    if method == 'one': return np.mean([1 - (1 - tolerance)**n for _ in GRID])
    return np.mean([success_bound(n, tolerance, abs(t)) for t in GRID])


# Pensia's experiment

def tested(sizes, matrices, loader) -> float:
    "Test accuracy of a network with these matrices."
    network = tower(*sizes)
    for layer, matrix in zip(network[1::2], matrices):
        layer.weight.data = matrix.float()
    return accuracy(network, loader)['accuracy']


def fast(targets, candidates):
    "The greedy search, and the exact one where it misses."
    kept = greedy_subset(targets, candidates)
    missed = (misses(targets, candidates, kept) > TOLERANCE).any(1)
    kept[missed] = nearest_subset(targets[missed], candidates[missed])
    return kept


CHOICES = {'nearest subset': nearest_subset,
           'first that does': partial(sufficient_subset, tolerance=TOLERANCE),
           'greedy, exact where it misses': fast}


class Approximation:
    "The matrices of a target, made from subsets of random candidates, and what that took."
    def __init__(self, way: str, shared: bool, seed: int):
        self.way, self.shared, self.seed = way, shared, seed
        self.made, self.errors, self.kept, self.random, self.short, self.spare = [], [], 0, 0, 0, 0

    def layer(self, place: int, matrix):
        targets = matrix if self.shared else matrix.reshape(-1, 1)
        candidates = draws(self.seed, 2*place + self.shared, len(targets), COUNT, *INTERVAL)
        chosen = CHOICES[self.way](targets, candidates)
        error, sums = misses(targets, candidates, chosen), sums_of(chosen, candidates)
        used, missed = chosen.sum(-1), (error > TOLERANCE).any(1)
        self.random += candidates.numel()
        self.short += int((error > TOLERANCE).sum())
        for extra in range(1, 6):   # the theorem allows misses: they get spares, and are counted
            if not missed.any():
                break
            more = self.with_spares(candidates, missed, place, extra)
            again = nearest_subset(targets[missed], more)
            self.spare += int(missed.sum())*SPARE
            used[missed] = again.sum(-1)
            error[missed], sums[missed] = misses(targets[missed], more, again), sums_of(again, more)
            missed = (error > TOLERANCE).any(1)
        self.kept += int(used.sum())
        self.errors.append(error.flatten())
        self.made.append(sums.view_as(matrix))

    def with_spares(self, candidates, missed, place, extra):
        spares = draws(self.seed, 10 + 2*place + self.shared, len(candidates), SPARE*extra, *INTERVAL)
        return torch.cat([candidates[missed], spares[missed]], 1)[:, -MOST:]


def sums_of(kept, candidates): # float64 [G, T]
    return torch.einsum('gtn,gn->gt', kept.double(), candidates.double())


def approximated(way, shared, seed, matrices, loader) -> dict:
    begun, own = time.perf_counter(), Approximation(way, shared, seed)
    for place, matrix in enumerate(matrices):
        own.layer(place, matrix)
    seconds, error = time.perf_counter() - begun, torch.cat(own.errors)
    return dict(candidates='shared by a row' if shared else 'independent', method=way,
                random=own.random + own.spare, kept=own.kept, largest_error=error.max().item(),
                mean_error=error.mean().item(), short=own.short, spare=own.spare,
                missed=int((error > TOLERANCE).sum()), seconds=seconds,
                test_accuracy=tested((784, 500, 10), own.made, loader))


def pensia():
    "784-500-10, 21 candidates per weight, tolerance 0.01; then the same target as a real ticket."
    start, seed, data = time.perf_counter(), 22, load_dataset('mnist')
    model, record = train_target((500,), data, seed=1, epochs=10, lr=1e-3, interval=INTERVAL, stop_at=.965)
    matrices, loader = target_layers(model), grey_loaders(data, 128, 1)['test']
    ways = [approximated(way, False, seed, matrices, loader) for way in CHOICES]
    ways.append(approximated('nearest subset', True, seed, matrices, loader))
    seconds = time.perf_counter() - start
    ticket, size = pensia_ticket(model, data, record), sum(matrix.numel() for matrix in matrices)
    yield 'pensia', dict(target=record, weights=size, count=COUNT, tolerance=TOLERANCE, interval=INTERVAL,
                         seed=seed, ways=ways, seconds=seconds, ticket=ticket)


def pensia_ticket(model, data, record) -> dict:
    found = construct(model, 7, TICKET_COUNT, TOLERANCE, 'greedy')
    ticket = as_ticket(found, classes=data.classes, dataset='mnist', construction='subset sum',
                       candidates=TICKET_COUNT, tolerance=TOLERANCE,
                       target_test_accuracy=record['test_accuracy'])
    facts = 'test_accuracy', 'test_correct', 'images_per_second', 'weight_bytes', 'pure'
    with tempfile.TemporaryDirectory() as folder:
        path = save_ticket(ticket, Path(folder)/'pensia.ticket.safetensors')
        evaluated = {mode: evaluate(path, mode=mode) for mode in ('materialise', 'generate')}
        about = dict(ticket_bytes=path.stat().st_size, audit=str(audit(path)),
                     evaluated={mode: {key: each[key] for key in facts} for mode, each in evaluated.items()})
    return dict(seed=7, count=TICKET_COUNT, method='greedy, exact where it misses',
                scales=[layer.scale for layer in ticket.layers], distribution=ticket.distribution,
                layers=len(ticket.layers), widths=[784, *(layer.shape[0] for layer in ticket.layers)],
                **facts_of(found), output_bound=output_bound(found)) | about


def facts_of(found) -> dict: # of a construction
    return dict(price=found.price, random=found.random, kept=found.kept, largest_error=found.error,
                mean_error=found.mean_error, seconds=found.seconds)


# constructed against learned

class Price:
    "Random weights per target weight, and the accuracy that they give: all experiments on one target."
    def __init__(self, hidden: tuple, data):
        self.hidden, self.data, self.sizes = hidden, data, (784, *hidden, 10)
        self.size = sum(a*b for a, b in zip(self.sizes, self.sizes[1:]))
        self.loader = grey_loaders(data, 128, 0)['test']
        self.target = cache(lambda seed: train_target(hidden, data, seed, PRICE_EPOCHS))

    def name(self, way, setting, seed): return f'{"-".join(map(str, self.sizes))} {way} {setting} seed {seed}'

    def note(self, way, setting, seed, **more): # (name, record)
        about = dict(hidden=self.hidden, way=way, setting=setting, seed=seed)
        return self.name(way, setting, seed), about | more

    def dense(self, seed) -> list:
        record = {key: value for key, value in self.target(seed)[1].items() if key != 'seed'}
        return [self.note('target', '', seed, **record, price=1.)]

    def built(self, way, setting, seed, make) -> list:
        model, record = self.target(seed)
        found = make(model, seed)
        return [self.note(way, setting, seed, **facts_of(found), target_test_accuracy=record['test_accuracy'],
                          test_accuracy=tested(self.sizes, found.made(), self.loader))]

    def learned(self, way, setting, times) -> list: # one record per seed, trained in one stack
        dense = build('feedforward', hidden=[self.hidden[0]*times])
        config = configure(dataset='mnist', loader='resident', device='cpu', epochs=PRICE_EPOCHS, data_seed=0,
                           keep=None)   # any density, as all records of the price
        seeds = [dict(seed=seed) for seed in PRICE_SEEDS]
        found = train_stack(config, seeds, dense, self.data, progress=False)
        kept = 'test_accuracy', 'validation_accuracy', 'density', 'seconds'
        price = (784 + 10)*self.hidden[0]*times/self.size
        return [self.note(way, setting, r['seed'], price=price, **{key: r[key] for key in kept})
                for r in found]

    def jobs(self): # (name of the last record, function that makes the records)
        for seed in PRICE_SEEDS:
            yield self.name('target', '', seed), partial(self.dense, seed)
        for count, seed in product((1, 2, 3, 4, 5, 6, 8, 12, 16), PRICE_SEEDS):
            make = partial(construct, count=count, tolerance=None)
            yield self.job('subset sums', f'{count} candidates', seed, make)
        small = self.hidden[0] <= 32
        for bits, copies, seed in product((3, 4, 5, 6, 7) if small else (), (2, 3), PRICE_SEEDS):
            make = partial(construct_binary, bits=bits, copies=copies)
            yield self.job(f'±1, {copies} copies', f'{bits} bits', seed, make)
        for times in (1, 2, 3, 4, 6, 8):
            if self.hidden[0]*times <= 400:
                how = 'learned masks', f'width ×{times}'
                yield self.name(*how, PRICE_SEEDS[-1]), partial(self.learned, *how, times)

    def job(self, way, setting, seed, make):
        return self.name(way, setting, seed), partial(self.built, way, setting, seed, make)


def price():
    data = load_dataset('mnist')
    return dict(job for hidden in PRICE_TARGETS for job in Price(hidden, data).jobs())


# An experiment is a dict: name → function that makes (name, record) pairs.

EXPERIMENTS = dict(law=lambda: dict(law=law), success=lambda: dict(success=success),
                   pensia=lambda: dict(pensia=pensia), price=price)


def plain_numbers(value): # as JSON can say it: NumPy's numbers become Python's
    if isinstance(value, dict): return {key: plain_numbers(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)): return [plain_numbers(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('study', nargs='+', choices=EXPERIMENTS)
    for study in parser.parse_args().study:
        jobs, command = EXPERIMENTS[study](), f'python scripts/theory.py {study}'
        run = lambda setting: [dict(study=study, name=name) | plain_numbers(record) | made_by(command)
                               for name, record in jobs[setting['name']]()]
        run_missing([dict(name=name) for name in jobs], run, RECORDS)


if __name__ == '__main__':
    main()
