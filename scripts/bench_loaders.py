"""Measure how fast DALI, the resident loader and PyTorch's DataLoader load images.
Appends one JSON line per case to results/loaders.jsonl.

    python scripts/bench_loaders.py            # a few minutes
    python scripts/bench_loaders.py --seconds .1 --repeats 2 --out try.jsonl
"""
import argparse, os, statistics, sys, time
from pathlib import Path
import numpy as np
import torch
from torch.nn import functional as F
from train_ticket.core import append_record, hardware, versions
from train_ticket.datasets import load_dataset
from train_ticket.loaders import Augmentation, affine_matrices, draw_bend, make_loader, warp

AUGMENTATIONS = {
    'none': None,
    'shift': Augmentation(shift=2),
    'rotate': Augmentation(shift=0, rotate=7),
    'original': Augmentation(shift=0, rotate=7, crop=.8, aspect=1.1, brightness=.1, contrast=.2, noise=.01),
    'elastic': Augmentation(shift=1, elastic=1.)}


class Images(torch.utils.data.Dataset):
    "A map-style data set whose items are augmented one by one, as is usual with PyTorch's DataLoader."
    def __init__(self, dataset, augmentation):
        self.images = torch.from_numpy(dataset.train.images).permute(0, 3, 1, 2)
        self.labels, self.augmentation = dataset.train.labels, augmentation
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (dataset.mean, dataset.std))
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        x = self.images[row].float()/255
        if self.augmentation:
            x = recolour(move(x, self.augmentation, self.rng), self.augmentation, self.rng)
        return (x - self.mean)/self.std, int(self.labels[row])


def move(x, a, rng):
    "Shift, turn, crop and bend one image."
    shift, size = rng.integers(-a.shift, a.shift + 1, (1, 2)), x.shape[-2:]
    if a.warps:
        bend = draw_bend(1, size, a.elastic, int(rng.integers(2**32))) if a.elastic else None
        return warp(x[None], torch.from_numpy(affine_matrices(rng, 1, a, shift, size)), bend=bend)[0]
    (down, right), m = shift[0], a.shift
    return F.pad(x, (m, m, m, m))[:, m - down:m - down + size[0], m - right:m - right + size[1]]


def recolour(x, a, rng):
    "Change one image's values."
    if not a.recolours:
        return x
    x = x*float(rng.uniform(1 - a.brightness, 1 + a.brightness))
    x = (x - .5)*float(rng.uniform(1 - a.contrast, 1 + a.contrast)) + .5
    return (x + a.noise*torch.randn_like(x)).clamp(0, 1)


def loaders(dataset, augmentation, batch_size, device):
    "Name → a function that makes the loader."
    cores = os.cpu_count()
    def ours(backend, threads):
        return lambda: make_loader(dataset, 'train', batch_size, backend=backend, augmentation=augmentation,
                                   device=device, threads=threads)
    def usual(workers): # a fork beside DALI's threads may hang
        options = dict(multiprocessing_context='forkserver', persistent_workers=True) if workers else {}
        return lambda: torch.utils.data.DataLoader(Images(dataset, augmentation), batch_size, shuffle=True,
                                                   drop_last=True, num_workers=workers, **options)
    return {'dali, 1 thread': ours('dali', 1), f'dali, {cores} threads': ours('dali', cores),
            'resident': ours('resident', 1),
            'DataLoader, in process': usual(0), f'DataLoader, {cores} workers': usual(cores)}


def endless(loader, device):
    "Batches on the device, epoch after epoch."
    while True:
        for x, y in loader:
            yield x.to(device), y.to(device)


def rate(loader, seconds, repeats, device):
    "Images per second (a list), and CPU milliseconds per batch, after the first ones."
    stream, rates, count = endless(loader, device), [], 0
    for _ in range(3):
        next(stream)
    cpu = time.process_time()
    for _ in range(repeats):
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            images += len(next(stream)[1])
            count += 1
        if device != 'cpu':
            torch.cuda.synchronize()
        rates.append(images/(time.perf_counter() - start))
    return rates, 1e3*(time.process_time() - cpu)/count


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('--dataset', default='auto', help='data set to load (default: auto)')
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--batch_sizes', type=int, nargs='+', default=[64, 256, 1024],
                        help='images per batch (default: 64 256 1024)')
    parser.add_argument('--seconds', type=float, default=.3, help='length of each measurement (default: 0.3)')
    parser.add_argument('--repeats', type=int, default=5, help='measurements per case (default: 5)')
    parser.add_argument('--out', type=Path, default=Path('results/loaders.jsonl'), help='file to append to')
    return parser.parse_args()


def main():
    args = parse()
    dataset = load_dataset(args.dataset)
    machine = dict(cpu=hardware('cpu').rpartition(',')[0], cores=os.cpu_count(),
                   torch_threads=torch.get_num_threads(),
                   gpu=torch.cuda.get_device_name() if args.device != 'cpu' else None,
                   load_before=round(os.getloadavg()[0], 1))
    common = dict(study='loaders', run=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
                  command=' '.join(['python', 'scripts/bench_loaders.py', *sys.argv[1:]]),
                  dataset=dataset.name, hardware=machine, versions=versions())
    for batch_size in args.batch_sizes:
        for kind, augmentation in AUGMENTATIONS.items():
            for name, make in loaders(dataset, augmentation, batch_size, args.device).items():
                rates, cpu = rate(make(), args.seconds, args.repeats, args.device)
                low, middle, high = round(min(rates)), round(statistics.median(rates)), round(max(rates))
                append_record(args.out, common | dict(
                    batch_size=batch_size, augmentation=kind, loader=name, n=len(rates),
                    images_per_second=middle, spread=[low, high],
                    cpu_ms_per_batch=None if 'workers' in name else round(cpu, 3)))
                print(f'{batch_size:5} {kind:9} {name:24} {middle:>10,} images/s ({low:,} … {high:,})')


if __name__ == '__main__':
    main()
