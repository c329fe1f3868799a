"""Tickets per minute: many at once (train_stack) against one after another (the bare loop), in the same run.

    python scripts/bench_sweep.py   # 64 tickets of 784-64-32-10 on MNIST, two epochs; to results/sweep.jsonl
    python scripts/bench_sweep.py --device cuda --arch lenet300 --tickets 256   # on a GPU
"""
import argparse
import statistics
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import torch
from train_ticket.config import configure
from train_ticket.core import append_record, hardware, keep_large_blocks, versions
from train_ticket.datasets import load_dataset
from train_ticket.loop import BareEngine, Run, train_epoch
from train_ticket.models import build
from train_ticket.optim import make_optimizer
from train_ticket.stack import network_of, train_stack, vary
from train_ticket.ticket import accuracy
from train_ticket.train import make_loaders

RESULTS = Path(__file__).parent.parent/'results/sweep.jsonl'


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--tickets', type=int, default=64, help='tickets to train (default: 64)')
    parser.add_argument('--epochs', type=int, default=2, help='epochs of each training (default: 2)')
    parser.add_argument('--repeats', type=int, default=3, help='trainings of each kind (default: 3)')
    parser.add_argument('--images', type=int, help='images of the training split to use (default: all)')
    parser.add_argument('--arch', help='built-in network (default: 784-64-32-10)')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    return parser.parse_args()


def trained_alone(dense, config, dataset) -> float:
    "The test accuracy of a ticket with its own loaders; validated after each epoch, as the stack is."
    model, options = network_of(dense, config).to(config.engine.device), config.optimizer
    optimizer = make_optimizer(options.optimizer, model.parameters(), 1., options.weight_decay)
    loaders = make_loaders(config, dataset)
    run = Run(BareEngine(model, optimizer), loaders.train, None, lambda at: config.rate(at, options.lr),
              config.loop)
    while run.state.epoch < config.loop.epochs:
        train_epoch(run)
        accuracy(model, loaders.validation)
        run.state.next_epoch()
    return accuracy(model, loaders.test)['accuracy']


def measure(ways: dict, repeats: int) -> tuple:
    "Seconds of each turn, and the test accuracies of the last, by the names of the ways; they take turns."
    seconds, found = {name: [] for name in ways}, {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - start)
    return seconds, found


def show(seconds: dict, found: dict, tickets: int, ratios: list):
    for name, times in seconds.items():
        rate, span = 60*tickets/statistics.median(times), f'{min(times):.1f} to {max(times):.1f} s'
        mean, spread = 100*statistics.mean(found[name]), 100*statistics.stdev(found[name])
        print(f'{name:18} {rate:6.0f} tickets per minute ({span} for {tickets}, n = {len(times)}); '
              f'test accuracy {mean:.2f} ± {spread:.2f} %')
    middle, spread = statistics.median(ratios), f'{min(ratios):.2f} to {max(ratios):.2f}'
    print(f'ratio {middle:.2f} ({spread}, n = {len(ratios)})')


def main():
    args, dataset = parse(), load_dataset('mnist')
    dataset = replace(dataset, train=dataset.train[:args.images])
    dense = build(args.arch) if args.arch else build('feedforward', hidden=(64, 32))
    config = configure(dataset='mnist', loader='resident', device=args.device, epochs=args.epochs,
                       batch_size=256, data_seed=0, keep=None)
    keep_large_blocks()
    variants = [dict(seed=seed) for seed in range(args.tickets)]
    configs = vary(config, variants)

    def at_once():
        return [r['test_accuracy'] for r in train_stack(config, variants, dense, dataset, progress=False)]

    def one_by_one():
        return [trained_alone(dense, config, dataset) for config in configs]

    trained_alone(dense, configs[0], dataset)   # to warm up
    seconds, found = measure({'at once': at_once, 'one after another': one_by_one}, args.repeats)
    ratios = [alone/stack for stack, alone in zip(*seconds.values())]   # one per turn
    show(seconds, found, args.tickets, ratios)
    append_record(RESULTS, dict(
        study='sweep', command=' '.join(['python scripts/bench_sweep.py', *sys.argv[1:]]),
        network=args.arch or '784-64-32-10', tickets=args.tickets, epochs=args.epochs, seconds=seconds,
        ratio=statistics.median(ratios), ratios=ratios, test_accuracy=found, threads=torch.get_num_threads(),
        hardware=hardware(args.device), instructions=torch.backends.cpu.get_cpu_capability(),
        versions=versions(), finished=datetime.now(timezone.utc).isoformat(timespec='seconds')))


if __name__ == '__main__':
    main()
