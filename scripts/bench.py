"""Measure the ratios that the docs state, each against a baseline in the same run: python scripts/bench.py

Adds a line to results/bench.jsonl. Variants take turns, so that other load on the
machine affects all of them alike.
"""
import argparse, json, os, resource, statistics, subprocess, sys, time
from datetime import datetime, timezone
from functools import partial
from itertools import islice, product
from pathlib import Path

os.environ.setdefault('TQDM_DISABLE', '1')
import torch
from train_ticket.config import configure
from train_ticket.core import append_record, hardware, instructions, keep_large_blocks, versions
from train_ticket.engine import distributed
from train_ticket.loop import BareEngine, Callback, Run, train_epoch
from train_ticket.optim import make_optimizer
from train_ticket.train import make_loaders, make_run, parameter_groups, prepare

RECORDS = Path(__file__).resolve().parent.parent/'results/bench.jsonl'

def bare_run(config) -> Run:
    "A run of a configuration without DeepSpeed."
    job, options = prepare(config), config.optimizer
    optimizer = make_optimizer(options.optimizer, parameter_groups(job.model, options), options.lr,
                               options.weight_decay)
    loaders = make_loaders(config, job.dataset)
    return Run(BareEngine(job.model, optimizer), loaders.train, rate=partial(config.rate, peak=options.lr),
               options=config.loop)


def in_the_middle(run: Run) -> Run:
    "The same run, all of whose steps are as in the middle of training, where the mask is hard."
    run.progress_at = lambda epoch, step: .5
    return run


# a step: gated against dense, DeepSpeed against bare PyTorch, DALI against the resident loader

ENGINES = ('bare', 'resident'), ('deepspeed', 'resident'), ('deepspeed', 'dali')
RATIOS = {'deepspeed / bare, gated': ('gated deepspeed resident', 'gated bare resident'),
          'deepspeed / bare, dense': ('dense deepspeed resident', 'dense bare resident'),
          'gated / dense, bare': ('gated bare resident', 'dense bare resident'),
          'gated / dense, deepspeed': ('gated deepspeed resident', 'dense deepspeed resident'),
          'deepspeed + dali / bare + resident, gated': ('gated deepspeed dali', 'gated bare resident')}


def variants(args, ranks) -> dict: # name → run
    made = {}
    for gate, (engine, loader) in product(('sigmoid', 'none'), ENGINES):
        config = configure(arch=args.arch, dataset=args.dataset, batch_size=256, gate=gate, loader=loader)
        run = bare_run(config) if engine == 'bare' else make_run(prepare(config), ranks)
        made[f'{"gated" if config.gate else "dense"} {engine} {loader}'] = in_the_middle(run)
    return made


def epoch_seconds(run: Run) -> float:
    begun = time.perf_counter()
    train_epoch(run)
    run.state.next_epoch()
    return time.perf_counter() - begun


def steps(args) -> dict:
    "Epochs of each variant, in turns."
    keep_large_blocks()
    config = configure()
    with distributed(config.engine.device, config.engine.timeout) as ranks:
        runs = variants(args, ranks)
        seconds = {name: [] for name in runs}
        for turn, (name, run) in product(range(args.repeats + 1), runs.items()):
            took = epoch_seconds(run)
            if turn:   # the first warms up
                seconds[name].append(took)
    for name, times in seconds.items():
        print(f'{name:28} {spread(times)} s per epoch')
    ratios = {name: [a/b for a, b in zip(seconds[over], seconds[under])]
              for name, (over, under) in RATIOS.items()}
    medians = {name: statistics.median(seconds[over])/statistics.median(seconds[under])
               for name, (over, under) in RATIOS.items()}
    for name, ratio in ratios.items():
        print(f'{name:44} {spread(ratio)}')
    return dict(arch=args.arch, dataset=args.dataset, batch_size=256, seconds_an_epoch=seconds, ratios=ratios,
                ratios_of_medians=medians)


# memory: freed blocks that stay in the process, or go back to the kernel

STEPS = dict(lenet5=80, cnn=20)   # of a measurement


class First:
    "So many batches of a loader."
    def __init__(self, loader, count: int):
        self.loader, self.count = loader, count
    def __len__(self): return self.count
    def __iter__(self): return islice(iter(self.loader), self.count)
    def set_epoch(self, epoch): return self.loader.set_epoch(epoch)


class Watch(Callback):
    "The time and the page faults of each step."
    def __init__(self):
        self.seen = []
    def after_step(self, run):
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        self.seen.append((time.perf_counter(), faults))


def one_process(arch: str, keep: bool, count: int, threads: int) -> dict: # the child's measurement
    torch.set_num_threads(threads)
    if keep and not keep_large_blocks(): raise SystemExit('this allocator has no such setting')
    watch = Watch()
    config = configure(arch=arch, dataset='mnist', batch_size=256, loader='resident', device='cpu')
    run = in_the_middle(bare_run(config))
    run.batches, run.callbacks, run.steps = First(run.batches, count), [watch], count
    train_epoch(run)
    (begun, before), *_, (ended, after) = watch.seen[count//5:]   # the first fifth warms up
    measured = count - count//5 - 1
    return dict(images_per_second=256*measured/(ended - begun), faults_per_step=(after - before)/measured)


def memory(args) -> dict:
    "Each variant in a process of its own, in turns."
    found = {}
    for _, (arch, count), keep in product(range(args.repeats), STEPS.items(), (False, True)):
        command = [sys.executable, __file__, '--child', json.dumps([arch, keep, count, args.threads])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode: raise SystemExit(done.stderr)
        own = found.setdefault(f'{arch} {"kept" if keep else "given back"}', [])
        own.append(json.loads(done.stdout.splitlines()[-1]))
    values = {name: {key: [each[key] for each in own] for key in own[0]} for name, own in found.items()}
    for name, each in values.items():
        faults = statistics.median(each['faults_per_step'])
        rate = spread(each['images_per_second'], 0)
        print(f'{name:20} {rate} images/s, {faults:,.0f} page faults per step')
    about = dict(batch_size=256, dataset='mnist', steps=STEPS)
    return about | dict(processes=values, ratios=memory_ratios(values))


def memory_ratios(values: dict) -> dict: # name → ratios of images/s, one per turn
    ratios = {}
    for arch in 'lenet5', 'cnn':
        kept, free = (values[f'{arch} {what}']['images_per_second'] for what in ('kept', 'given back'))
        ratios[f'memory kept / given back, {arch}'] = [a/b for a, b in zip(kept, free)]
    for name, ratio in ratios.items():
        print(f'{name:44} {spread(ratio)}')
    return ratios


# the script

def spread(values, digits=3) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f'{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}, n = {len(values)})'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=7, help='measurements of each variant (default: 7)')
    parser.add_argument('--arch', default='lenet300', help='network of the steps (default: lenet300)')
    parser.add_argument('--dataset', default='auto', help='data set of the steps (default: auto)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='threads of PyTorch')
    parser.add_argument('--child', type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(one_process(*args.child)))
        return
    torch.set_num_threads(args.threads)
    command = ' '.join(['python scripts/bench.py', *sys.argv[1:]])
    about = dict(study='bench', command=command, load_before=os.getloadavg()[0])
    kept, found = memory(args), steps(args)
    for name, ratio in kept['ratios'].items():
        found['ratios_of_medians'][name] = statistics.median(ratio)
    finished = datetime.now(timezone.utc).isoformat(timespec='seconds')
    machine = hardware(configure().engine.device)
    about |= dict(threads=args.threads, hardware=machine, instructions=instructions(), versions=versions(),
                  finished=finished)
    append_record(RECORDS, about | found | dict(memory=kept))
    print(f'recorded in results/{RECORDS.name}')


if __name__ == '__main__':
    main()
