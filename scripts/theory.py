"""The long experiments of the notebook 20_theory: `python scripts/theory.py NAME…` runs what results/theory.jsonl doesn't have yet and adds it there."""
import argparse, json, os, tempfile, time
from dataclasses import replace
from datetime import datetime, timezone
from itertools import product
from pathlib import Path

os.environ.setdefault('TQDM_DISABLE', '1')
import numpy as np
import torch
from torch import nn
from train_ticket.data import load_dataset, make_loader
from train_ticket.infer import evaluate
from train_ticket.models import build
from train_ticket.sweep import train_stack
from train_ticket.theory import METHODS, MOST, as_ticket, construct, construct_binary, draws, greedy_subset, halvings, misses, nearest_subset, output_bound, success_bound, sufficient_subset, target_layers, train_target
from train_ticket.ticket import accuracy, audit, save_ticket
from train_ticket.train import Config, hardware, versions

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT/'results/theory.jsonl'
INTERVAL = -.464, .541   # of the candidates in Pensia and others 2020
SPARE = 5                # candidates more for a weight that 21 miss, and 5 more where that wasn't enough
TICKET_COUNT = 24        # candidates a weight in the ticket: with 21, some weight of 397,000 has nearly none of its sign
PRICE_TARGETS = (16,), (32,), (100,)
PRICE_EPOCHS, PRICE_SEEDS = 12, (1, 2, 3)


def law():
    "Error against the number of candidates: 10,000 targets, each with candidates of its own, one more at a time."
    targets, most, seed = 10_000, 21, 20   # float32 candidates: sums lie on a grid of 2⁻²⁵, which more would begin to see
    z, c = draws(seed, 0, targets, 1, -.5, .5), draws(seed, 1, targets, most)
    rows, errors = [], {method: {} for method in METHODS}
    for method, n in product(METHODS, range(1, most + 1)):
        e = errors[method][n] = misses(z, c[:, :n], METHODS[method](z, c[:, :n]))[:, 0].numpy()
        rows.append(dict(method=method, n=n, mean=e.mean(), median=np.median(e), q10=np.quantile(e, .1), q90=np.quantile(e, .9), within=np.mean(e <= .01)))
        if method == 'exact': rows[-1]['bound'] = median_bound(n)
        print(rows[-1], flush=True)
    fits = []
    for method, (low, high), root in ('exact', (6, 20), False), ('exact', (6, 20), True), ('exact', (6, 12), False), ('exact', (14, 20), False):
        slope, *interval, intercept = halvings(range(low, high + 1), np.stack([errors[method][n] for n in range(low, high + 1)]), root=root)
        fits.append(dict(method=method, low=low, high=high, root=root, slope=slope, interval=interval, intercept=intercept))
    yield 'law', dict(targets=targets, seed=seed, rows=rows, fits=fits)


def median_bound(n: int) -> float: # or None: the error below which the proposition puts half of all draws, for every target in −½…½ that is tried
    for power in range(-4, 100):
        eps = .5*2**(-power/4)
        if min(success_bound(n, eps, z) for z in (.125, .25, .375, .5)) < .5: return None if power == -4 else .5*2**(-(power - 1)/4)


def success():
    "Probability that a subset is within the tolerance: 10,000 targets a point, on a grid of −½…½ without 0."
    targets, seed, grid, rows = 10_000, 21, [-.5 + .1*k for k in range(11) if k != 5], []
    z = torch.tensor(grid, dtype=torch.float64).repeat(targets//len(grid))[:, None]
    for tolerance, n in product((.05, .01, .001), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 22, 24)):
        c = draws(seed, round(1/tolerance)*100 + n, targets, n)
        for method in 'exact', 'one':
            bound = np.mean([success_bound(n, tolerance, abs(t)) if method == 'exact' else 1 - (1 - tolerance)**n for t in grid])
            rows.append(dict(tolerance=tolerance, n=n, method=method, targets=targets, successes=int((misses(z, c, METHODS[method](z, c)) <= tolerance).sum()), bound=bound))
            print(rows[-1], flush=True)
    yield 'success', dict(seed=seed, rows=rows)


def grey(dataset): return replace(dataset, mean=(0.,), std=(1.,))   # grey values 0…1

def bare(hidden) -> nn.Module: # a network of the registry, without biases
    model = build('feedforward', hidden=list(hidden))
    for layer in model:
        if isinstance(layer, nn.Linear): layer.bias = None
    return model

def tested(model, matrices, loader) -> float: # test accuracy of a network with these matrices
    for layer, matrix in zip([step for step in model if isinstance(step, nn.Linear)], matrices): layer.weight.data = matrix.float()
    return accuracy(model, loader)['accuracy']


def choose(way, targets, candidates, tolerance):
    if way == 'nearest subset': return nearest_subset(targets, candidates)
    if way == 'first that does': return sufficient_subset(targets, candidates, tolerance)
    kept = greedy_subset(targets, candidates)
    missed = (misses(targets, candidates, kept) > tolerance).any(1)
    kept[missed] = nearest_subset(targets[missed], candidates[missed])
    return kept


def pensia():
    "784-500-10, 21 candidates a weight, tolerance 0.01; then the same target as a real ticket."
    start, count, tolerance, seed = time.perf_counter(), 21, .01, 22
    data = load_dataset('mnist')
    model, record = train_target((500,), data, seed=1, epochs=10, lr=1e-3, low=INTERVAL[0], high=INTERVAL[1], stop_at=.965)
    print(record, flush=True)
    matrices, loader, twin = target_layers(model), make_loader(grey(data), 'test', 1000, backend='resident'), bare((500,))
    ways = []
    for shared, way in (False, 'nearest subset'), (False, 'first that does'), (False, 'greedy, exact where it misses'), (True, 'nearest subset'):
        begun, made, errors, kept, random, short, spare = time.perf_counter(), [], [], 0, 0, 0, 0
        for place, matrix in enumerate(matrices):
            targets = matrix if shared else matrix.reshape(-1, 1)
            candidates = draws(seed, 2*place + shared, len(targets), count, *INTERVAL)
            chosen = choose(way, targets, candidates, tolerance)
            error, sums = misses(targets, candidates, chosen), torch.einsum('gtn,gn->gt', chosen.double(), candidates.double())
            random += candidates.numel(); used = chosen.sum(-1)
            missed = (error > tolerance).any(1)   # the theorem allows it, with a small probability: these get spare candidates, and are counted
            short += int((error > tolerance).sum())
            for extra in range(1, 6):
                if not missed.any(): break
                more = torch.cat([candidates[missed], draws(seed, 10 + 2*place + shared, len(targets), SPARE*extra, *INTERVAL)[missed]], 1)[:, -MOST:]
                again = nearest_subset(targets[missed], more)
                spare += int(missed.sum())*SPARE; used[missed] = again.sum(-1)
                error[missed], sums[missed] = misses(targets[missed], more, again), torch.einsum('gtn,gn->gt', again.double(), more.double())
                missed = (error > tolerance).any(1)
            kept += int(used.sum()); errors.append(error.flatten()); made.append(sums.view_as(matrix))
        seconds, error = time.perf_counter() - begun, torch.cat(errors)
        ways.append(dict(candidates='shared by a row' if shared else 'independent', method=way, random=random + spare, kept=kept, largest_error=error.max().item(), mean_error=error.mean().item(),
                         short=short, spare=spare, missed=int((error > tolerance).sum()), seconds=seconds, test_accuracy=tested(twin, made, loader)))
        print(ways[-1], flush=True)
    seconds = time.perf_counter() - start
    print(f'{seconds:.0f} s', flush=True)
    found = construct(model, 7, TICKET_COUNT, tolerance, 'greedy')
    ticket = as_ticket(found, classes=data.classes, dataset='mnist', construction='subset sum', candidates=TICKET_COUNT, tolerance=tolerance, target_test_accuracy=record['test_accuracy'])
    with tempfile.TemporaryDirectory() as folder:
        path = save_ticket(ticket, Path(folder)/'pensia.ticket.safetensors')
        evaluated = {mode: {key: value for key, value in evaluate(path, mode=mode).items() if key in ('test_accuracy', 'test_correct', 'images_per_second', 'weight_bytes', 'pure')} for mode in ('materialise', 'generate')}
        about = dict(seed=7, count=TICKET_COUNT, method='greedy, exact where it misses', scales=[layer.scale for layer in ticket.layers], distribution=ticket.distribution, random=found.random, kept=found.kept, price=found.price, layers=len(ticket.layers), widths=[784, *(layer.shape[0] for layer in ticket.layers)],
                     seconds=found.seconds, largest_error=found.error, mean_error=found.mean_error, output_bound=output_bound(found), ticket_bytes=path.stat().st_size, audit=str(audit(path)), evaluated=evaluated)
    print(about, flush=True)
    yield 'pensia', dict(target=record, weights=found.weights, count=count, tolerance=tolerance, interval=INTERVAL, seed=seed, ways=ways, seconds=seconds, ticket=about)


def price():
    "Constructed against learned: random weights a target weight, and the accuracy that they give."
    data = load_dataset('mnist')
    loader = make_loader(grey(data), 'test', 1000, backend='resident')
    for hidden in PRICE_TARGETS:
        name, size, made = f'784-{hidden[0]}-10', 784*hidden[0] + 10*hidden[0], bare(hidden)
        models = {}
        def target(seed):
            if seed not in models: models[seed] = train_target(hidden, data, seed, PRICE_EPOCHS)
            return models[seed]
        note = lambda way, setting, seed, name=name, hidden=hidden, **more: (f'{name} {way} {setting} seed {seed}', dict(hidden=hidden, way=way, setting=setting, seed=seed) | more)
        for seed in PRICE_SEEDS: yield lambda seed=seed: note('target', '', seed, **{key: value for key, value in target(seed)[1].items() if key != 'seed'}, price=1.), f'{name} target  seed {seed}'
        def built(way, setting, seed, make):
            found = make(target(seed)[0])
            return note(way, setting, seed, price=found.price, random=found.random, kept=found.kept, largest_error=found.error, mean_error=found.mean_error, seconds=found.seconds, target_test_accuracy=target(seed)[1]['test_accuracy'],
                        test_accuracy=tested(made, found.made(), loader))
        for count, seed in product((1, 2, 3, 4, 5, 6, 8, 12, 16), PRICE_SEEDS):
            way, setting = 'subset sums', f'{count} candidates'
            yield lambda w=way, s=setting, n=count, seed=seed: built(w, s, seed, lambda model: construct(model, seed, n, None)), f'{name} {way} {setting} seed {seed}'
        for bits, copies, seed in product((3, 4, 5, 6, 7), (2, 3), PRICE_SEEDS):
            way, setting = f'±1, {copies} copies', f'{bits} bits'
            if hidden[0] <= 32: yield lambda w=way, s=setting, b=bits, c=copies, seed=seed: built(w, s, seed, lambda model: construct_binary(model, seed, b, c)), f'{name} {way} {setting} seed {seed}'
        for times in (1, 2, 3, 4, 6, 8):
            way, setting = 'learned masks', f'width ×{times}'
            def learn(times=times, way=way, setting=setting):
                dense = build('feedforward', hidden=[hidden[0]*times])
                config = Config(dataset='mnist', loader='resident', device='cpu', epochs=PRICE_EPOCHS, data_seed=0)
                return [note(way, setting, r['seed'], price=(784 + 10)*hidden[0]*times/size, test_accuracy=r['test_accuracy'], validation_accuracy=r['validation_accuracy'], density=r['density'], seconds=r['seconds'])
                        for r in train_stack(config, [dict(seed=seed) for seed in PRICE_SEEDS], model=dense, dataset=data, progress=False)]
            if hidden[0]*times <= 400: yield learn, f'{name} {way} {setting} seed {PRICE_SEEDS[-1]}'


EXPERIMENTS = {f.__name__: f for f in (law, success, pensia, price)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name', nargs='+', choices=EXPERIMENTS)
    args = parser.parse_args()
    there = {json.loads(line)['name'] for line in RECORDS.read_text().splitlines()} if RECORDS.exists() else set()
    about = dict(hardware=hardware('cpu'), versions=versions())
    def write(study, name, record):
        line = dict(study=study, name=name, command=f'python scripts/theory.py {study}') | record | about | dict(finished=datetime.now(timezone.utc).isoformat(timespec='seconds'))
        with open(RECORDS, 'a') as f: f.write(json.dumps(line, default=float) + '\n')
    for study in args.name:
        if study == 'price':
            for job, name in price():
                if name in there: continue
                print(name, flush=True)
                done = job()
                for own, record in done if isinstance(done, list) else [done]: write(study, own, record)
        elif study not in there:
            for name, record in EXPERIMENTS[study](): write(study, name, record)


if __name__ == '__main__': main()
