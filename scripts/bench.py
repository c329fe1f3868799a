"""Measure the ratios that the docs state, each against a baseline in the same run: python scripts/bench.py [--repeats 7]

Appends one line to results/bench.jsonl. Variants take turns, so that what else the machine does falls on all of them alike.
"""
import argparse, json, statistics, sys, time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
import torch
from train_ticket.optim import LearningRate, make_optimizer
from train_ticket.train import Config, check_config, distributed, hardware, make_engine, make_loaders, prepare, train_epoch, versions


class Bare:
    "The interface of DeepSpeed's engine, in bare PyTorch: the baseline."
    def __init__(self, model, config): self.module, self.optimizer = model, make_optimizer(config.optimizer, model.parameters(), config.lr)
    def __call__(self, x): return self.module(x)
    def train(self): self.module.train()
    def backward(self, loss): loss.backward()
    def step(self): self.optimizer.step(); self.optimizer.zero_grad()


def variants(config, deepspeed):
    "name → a function that trains for one epoch."
    made = {}
    for gate in 'sigmoid', 'none':
        for engine in 'bare', 'deepspeed':
            for loader in ('resident', 'dali') if engine == 'deepspeed' else ('resident',):
                own = check_config(replace(config, gate=gate, loader=loader, lr=None))
                parts = prepare(own)
                fed = make_loaders(own, parts.dataset, 0, 1).train
                run = Bare(parts.model, own) if engine == 'bare' else make_engine(deepspeed, parts.model, own, 1)
                made[f'{"gated" if parts.gate else "dense"} {engine} {loader}'] = lambda run=run, parts=parts, own=own, fed=fed: train_epoch(
                    run, parts.gate, LearningRate(own.lr), fed, lambda step: .5, own.label_smoothing)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=7, help='epochs of each variant, after one to warm up (default: 7)')
    parser.add_argument('--arch', default='lenet300'), parser.add_argument('--dataset', default='auto')
    args = parser.parse_args()
    config = check_config(Config(arch=args.arch, dataset=args.dataset, batch_size=256))
    with distributed(config.device) as (deepspeed, _, _):
        epochs = variants(config, deepspeed)
        seconds = {name: [] for name in epochs}
        for turn in range(args.repeats + 1):
            for name, epoch in epochs.items():
                start = time.perf_counter(); epoch()
                if turn: seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = {'deepspeed / bare, gated': median['gated deepspeed resident']/median['gated bare resident'],
              'deepspeed / bare, dense': median['dense deepspeed resident']/median['dense bare resident'],
              'gated / dense, bare': median['gated bare resident']/median['dense bare resident'],
              'gated / dense, deepspeed': median['gated deepspeed resident']/median['dense deepspeed resident'],
              'deepspeed + dali / bare + resident, gated': median['gated deepspeed dali']/median['gated bare resident']}
    for name, times in seconds.items(): print(f'{name:28} {statistics.median(times):6.2f} s an epoch ({min(times):.2f} to {max(times):.2f}, n = {len(times)})')
    for name, ratio in ratios.items(): print(f'{name:44} {ratio:.3f}')
    record = dict(study='bench', command='python scripts/bench.py ' + ' '.join(sys.argv[1:]), arch=args.arch, dataset=args.dataset, batch_size=config.batch_size,
                  seconds_an_epoch=seconds, ratios_of_medians=ratios, hardware=hardware(config.device), versions=versions(),
                  finished=datetime.now(timezone.utc).isoformat(timespec='seconds'))
    path = Path(__file__).parent.parent/'results/bench.jsonl'
    with open(path, 'a') as f: f.write(json.dumps(record) + '\n')
    print(f'recorded in results/{path.name}')


if __name__ == '__main__': main()
