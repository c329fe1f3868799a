"""Tickets a minute: many at once (train_stack) against one after another (the bare PyTorch loop), the same work in the same run.

    python scripts/bench_sweep.py                                               # 64 tickets of 784-64-32-10 on MNIST, two epochs; appends to results/sweep.jsonl
    python scripts/bench_sweep.py --device cuda --arch lenet300 --tickets 256   # the same on a GPU, of a network of the registry
"""
import argparse, json, statistics, sys, time
from datetime import datetime, timezone
from pathlib import Path
import torch
from torch import nn
from bench import Bare
from train_ticket.data import load_dataset
from train_ticket.layers import ticketize
from train_ticket.models import build
from train_ticket.sweep import train_stack, vary
from train_ticket.ticket import accuracy
from train_ticket.train import Config, check_config, config_gate, hardware, learning_rate, make_loaders, sized, train_epoch, versions


def one_after_another(dense, configs, dataset):
    "Test accuracies; each ticket with its own loader, evaluated after each epoch as the stack's are."
    found = []
    for config in configs:
        gate = config_gate(config)
        run, loaders, rate = Bare(ticketize(dense, config.seed, gate).to(config.device), config), make_loaders(config, dataset, 0, 1), learning_rate(config)
        steps = len(loaders.train)
        for epoch in range(config.epochs):
            loaders.train.set_epoch(epoch)
            train_epoch(run, gate, rate, loaders.train, lambda step: (epoch*steps + step)/(config.epochs*steps - 1), config.label_smoothing)
            accuracy(run.module, loaders.validation)
        found.append(accuracy(run.module, loaders.test)['accuracy'])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--tickets', type=int, default=64), parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=3, help='turns of each (default: 3)')
    parser.add_argument('--arch', help='network of the registry (default: 784-64-32-10)'), parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    args = parser.parse_args()
    dataset = load_dataset('mnist')
    dense = build(args.arch) if args.arch else nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    config = check_config(Config(dataset='mnist', loader='resident', device=args.device, epochs=args.epochs, data_seed=0))
    variants = [dict(seed=seed) for seed in range(args.tickets)]
    configs = [sized(c, dataset) for c in vary(config, variants)]
    ways = {'at once': lambda: [r['test_accuracy'] for r in train_stack(config, variants, dense, dataset, progress=False)],
            'one after another': lambda: one_after_another(dense, configs, dataset)}
    one_after_another(dense, configs[:1], dataset)   # to warm up
    seconds, found = {name: [] for name in ways}, {}
    for _ in range(args.repeats):
        for name, way in ways.items():
            start = time.perf_counter(); found[name] = way()
            seconds[name].append(time.perf_counter() - start)
    ratio = statistics.median(seconds['one after another'])/statistics.median(seconds['at once'])
    for name, times in seconds.items():
        print(f'{name:18} {60*args.tickets/statistics.median(times):6.0f} tickets a minute ({min(times):.1f} to {max(times):.1f} s for {args.tickets}, n = {len(times)}); '
              f'test accuracy {100*statistics.mean(found[name]):.2f} ± {100*statistics.stdev(found[name]):.2f} %')
    print(f'ratio of medians {ratio:.2f}')
    record = dict(study='sweep', command='python scripts/bench_sweep.py ' + ' '.join(sys.argv[1:]), network=args.arch or '784-64-32-10', tickets=args.tickets, epochs=args.epochs, seconds=seconds, ratio=ratio,
                  test_accuracy=found, threads=torch.get_num_threads(), hardware=hardware(config.device), versions=versions(), finished=datetime.now(timezone.utc).isoformat(timespec='seconds'))
    with open(Path(__file__).parent.parent/'results/sweep.jsonl', 'a') as f: f.write(json.dumps(record) + '\n')


if __name__ == '__main__': main()
