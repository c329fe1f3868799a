"""The long experiments of the notebook 20_theory.

`python scripts/theory.py NAME…` runs what results/theory.jsonl doesn't have yet and adds it there.
"""
import argparse, hashlib, os, tempfile, time
from functools import cache, partial
from itertools import product
from pathlib import Path

os.environ.setdefault('TQDM_DISABLE', '1')
import numpy as np
import torch
from torch import nn
from tqdm import trange
from train_ticket.config import configure
from train_ticket.core import made_by, run_missing
from train_ticket.datasets import load_dataset
from train_ticket.infer import evaluate
from train_ticket.models import build
from train_ticket.stack import train_stack
from train_ticket.subset_sums import (METHODS, draws, fewest_subset, greedy_subset, halvings, misses,
                                      nearest_subset, success_bound)
from train_ticket.theory import (as_ticket, construct, construct_binary, grey_loaders, output_bound,
                                 target_layers, tower, train_target)
from train_ticket.ticket import accuracy, audit, save_ticket

RECORDS = Path(__file__).resolve().parent.parent/'results/theory.jsonl'
TICKET_COUNT = 24        # candidates per weight in the ticket: 21 don't suffice for all of 397,000
TOLERANCE, COUNT = .01, 21
NORMALISATION = .1307, .3081   # mean and standard deviation of MNIST's grey values, as the authors have them
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


# Pensia's experiment. The authors' code: github.com/acnagle/optimal-lottery-tickets

def with_matrices(matrices) -> nn.Module:
    network = tower(matrices[0].shape[1], *(len(matrix) for matrix in matrices))
    for layer, matrix in zip(network[1::2], matrices):
        layer.weight.data = matrix.float()
    return network


def tested(matrices, loader) -> float:
    "Test accuracy of a network with these matrices."
    return accuracy(with_matrices(matrices), loader)['accuracy']


def normalised(images): # uint8 [N, 28, 28, 1] → float32 [N, 784]
    return (torch.from_numpy(images).flatten(1)/255 - NORMALISATION[0])/NORMALISATION[1]


def train_as_authors(seed: int, data) -> nn.Module:
    "All 60,000 normalised images, SGD, a cosine over ten epochs, the last one's weights."
    torch.manual_seed(seed)
    images = normalised(np.concatenate([data.train.images, data.validation.images]))
    labels = torch.from_numpy(np.concatenate([data.train.labels, data.validation.labels])).long()
    model = tower(784, 500, 10)
    optimizer = torch.optim.SGD(model.parameters(), .1, momentum=.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in trange(10, desc=f'target {seed}', leave=False, disable=None):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


class Tests:
    "The test set twice: normalised as the targets were trained, and as grey values from 0 to 1."
    def __init__(self, data):
        self.normalised, self.labels = normalised(data.test.images), torch.from_numpy(data.test.labels)
        self.grey = self.normalised*NORMALISATION[1] + NORMALISATION[0]

    def __call__(self, matrices) -> dict:
        network, names = with_matrices(matrices), ('normalised', 'grey')
        with torch.no_grad():
            answers = {name: network(getattr(self, name)).argmax(1) for name in names}
        return {f'{name}_accuracy': (answers[name] == self.labels).float().mean().item() for name in names}


def fast(targets, candidates):
    "The greedy search, and the exact one where it misses."
    kept = greedy_subset(targets, candidates)
    missed = (misses(targets, candidates, kept) > TOLERANCE).any(1)
    kept[missed] = nearest_subset(targets[missed], candidates[missed])
    return kept


SAMPLE = 20_000   # weights for which the slow searches look among candidates of their own
FEWEST = partial(fewest_subset, tolerance=TOLERANCE)
WAYS = (('shared by a row', 'nearest subset', nearest_subset, None),   # what the authors' code does
        ('shared by a row', 'fewest within ε', FEWEST, None),
        ('independent', 'greedy, exact where it misses', fast, None),
        ('independent', 'nearest subset', nearest_subset, SAMPLE),
        ('independent', 'fewest within ε', FEWEST, SAMPLE))


def range_of(matrices) -> tuple: # of the authors' candidates: from the smallest weight to the largest
    return min(matrix.min().item() for matrix in matrices), max(matrix.max().item() for matrix in matrices)


def shared_by_rows(matrices, seed: int, sample=None) -> tuple: # targets, candidates, per matrix
    "21 numbers per row, drawn as the authors' code draws them."
    rows = [len(matrix) for matrix in matrices]
    drawn = np.random.RandomState(seed).uniform(*range_of(matrices), (sum(rows), COUNT))
    return matrices, torch.from_numpy(drawn).split(rows)


def independent(matrices, seed: int, sample=None) -> tuple: # as above, in one piece
    "21 numbers per weight, or per weight of a sample."
    targets = torch.cat([matrix.flatten() for matrix in matrices])[:, None]
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    targets = targets[order[:sample]] if sample else targets
    return [targets], [draws(seed, 0, len(targets), COUNT, *range_of(matrices))]


def sums_of(kept, candidates): # float64 [G, T]
    return torch.einsum('gtn,gn->gt', kept.double(), candidates.double())


def approximated(way, matrices, seed: int, test) -> dict:
    "What one way of choosing makes of all weights, or of a sample of them."
    drawn, method, search, sample = way
    draw = shared_by_rows if drawn == 'shared by a row' else independent
    targets, candidates = draw(matrices, seed, sample)
    begun = time.perf_counter()
    kept = [search(t, c) for t, c in zip(targets, candidates)]
    seconds = time.perf_counter() - begun
    error = torch.cat([misses(*each).flatten() for each in zip(targets, candidates, kept)])
    numbers = sum(c.numel() for c in candidates)
    found = dict(candidates=drawn, method=method, weights=len(error), random=numbers,
                 kept=sum(int(k.sum()) for k in kept), largest_error=error.max().item(),
                 mean_error=error.mean().item(), missed=int((error > TOLERANCE).sum()), seconds=seconds)
    if sample: return found
    sums = torch.cat([sums_of(*each).flatten() for each in zip(kept, candidates)])
    parts = sums.split([matrix.numel() for matrix in matrices])
    return found | test([part.view_as(matrix) for part, matrix in zip(parts, matrices)])


def pensia_record(target: str, matrices, seed: int, test, **facts) -> dict:
    size = torch.cat([matrix.flatten() for matrix in matrices]).abs()
    about = dict(target=target, seed=seed, weights=len(size), count=COUNT, tolerance=TOLERANCE,
                 within=int((size <= TOLERANCE).sum()), interval=range_of(matrices))
    ways = [approximated(way, matrices, seed, test) for way in WAYS]
    return about | test(matrices) | facts | dict(ways=ways)


def published(path, test): # the authors' own target, and the candidates of their seed
    matrices = list(torch.load(path, map_location='cpu', weights_only=True).values())
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    source = 'subset-sum/weights/fc2.pt of github.com/acnagle/optimal-lottery-tickets'
    yield 'published target', pensia_record('published', matrices, 1, test, source=source, sha256=digest)


def trained(seed: int, data, test):
    begun = time.perf_counter()
    model = train_as_authors(seed, data)
    seconds = time.perf_counter() - begun
    matrices = target_layers(model)
    yield f'target {seed}', pensia_record('trained', matrices, seed, test, training_seconds=seconds)


def pensia(weights=None):
    "784-500-10 as its authors ran it: their target, if its file is given, and three trained as they did."
    data = load_dataset('mnist')
    test = Tests(data)
    jobs = {'published target': partial(published, weights, test)} if weights else {}
    jobs |= {f'target {seed}': partial(trained, seed, data, test) for seed in (1, 2, 3)}
    return jobs | dict(ticket=partial(pensia_ticket, data))


def pensia_ticket(data):
    "The first target once more, as a real ticket: candidates are products of two weights of `prng`."
    model = train_as_authors(1, data)
    found = construct(model, 7, TICKET_COUNT, TOLERANCE, 'greedy', nonnegative=False)
    mean, std = NORMALISATION
    about = dict(dataset='mnist', construction='subset sum', candidates=TICKET_COUNT, tolerance=TOLERANCE)
    pixels = dict(mean=[mean], std=[std])
    ticket = as_ticket(found, classes=data.classes, normalisation=pixels, **about)
    facts = 'test_accuracy', 'test_correct', 'weight_bytes', 'pure'
    with tempfile.TemporaryDirectory() as folder:
        path = save_ticket(ticket, Path(folder)/'pensia.ticket.safetensors')
        evaluated = {mode: evaluate(path, mode=mode) for mode in ('materialise', 'generate')}
        about = dict(ticket_bytes=path.stat().st_size, audit=str(audit(path)),
                     evaluated={mode: {key: each[key] for key in facts} for mode, each in evaluated.items()})
    yield 'ticket', dict(target='trained', seed=7, count=TICKET_COUNT, method='greedy, exact where it misses',
                         scales=[layer.scale for layer in ticket.layers], layers=len(ticket.layers),
                         widths=[784, *(layer.shape[0] for layer in ticket.layers)],
                         **Tests(data)(target_layers(model)), **facts_of(found),
                         output_bound=output_bound(found)) | about


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
                          test_accuracy=tested(found.made(), self.loader))]

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
                   pensia=pensia, price=price)


def plain_numbers(value): # as JSON can say it: NumPy's numbers become Python's
    if isinstance(value, dict): return {key: plain_numbers(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)): return [plain_numbers(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('study', nargs='+', choices=EXPERIMENTS)
    parser.add_argument('--weights', metavar='FILE', help="pensia: the authors' subset-sum/weights/fc2.pt")
    options = parser.parse_args()
    for study in options.study:
        given = options.weights if study == 'pensia' else None
        jobs, command = EXPERIMENTS[study](*[given][:bool(given)]), f'python scripts/theory.py {study}'
        command += f' --weights {Path(given).name}' if given else ''
        run = lambda setting: [dict(study=study, name=name) | plain_numbers(record) | made_by(command)
                               for name, record in jobs[setting['name']]()]
        run_missing([dict(study=study, name=name) for name in jobs], run, RECORDS)


if __name__ == '__main__':
    main()
