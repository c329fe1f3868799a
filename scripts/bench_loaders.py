"""How fast are the loaders? Measures DALI, the resident loader and PyTorch's DataLoader; appends one JSON line a case to results/loaders.jsonl.

    python scripts/bench_loaders.py            # a few minutes
    python scripts/bench_loaders.py --seconds .1 --repeats 2 --out try.jsonl
"""
import argparse, importlib.metadata, json, os, platform, statistics, sys, time
from pathlib import Path
import numpy as np
import torch
from train_ticket.data import Augmentation, load_dataset, make_loader, warp, affine_matrices

AUGMENTATIONS = {
    'none': None,
    'shift': Augmentation(shift=2),
    'rotate': Augmentation(rotate=7),
    'original': Augmentation(rotate=7, crop=.8, aspect=1.1, brightness=.1, contrast=.2, noise=.01),
    'elastic': Augmentation(shift=1, elastic=1.)}

class Pictures(torch.utils.data.Dataset):
    "A map-style data set whose items are augmented one by one, as is usual with PyTorch's DataLoader."
    def __init__(self, dataset, augmentation):
        self.images, self.labels, self.a = torch.from_numpy(dataset.train.images).permute(0, 3, 1, 2), dataset.train.labels, augmentation
        self.mean, self.std, self.rng = dataset.mean[0], dataset.std[0], np.random.default_rng(0)

    def __len__(self): return len(self.labels)
    def __getitem__(self, row):
        a, x = self.a, self.images[row].float()/255
        if a:
            shift = self.rng.integers(-a.shift, a.shift + 1, (1, 2))
            if a.warps:
                bend = None
                if a.elastic:
                    coarse = torch.randn(1, 2, 7, 7)*a.elastic
                    bend = torch.nn.functional.interpolate(coarse, x.shape[-2:], mode='bicubic')
                x = warp(x[None], torch.from_numpy(affine_matrices(self.rng, 1, a, shift, x.shape[-2:])), bend=bend)[0]
            elif a.shift:
                (down, right), m = shift[0], a.shift
                x = torch.nn.functional.pad(x, (m, m, m, m))[:, m - down:m - down + x.shape[1], m - right:m - right + x.shape[2]]
            if a.brightness: x = x*float(self.rng.uniform(1 - a.brightness, 1 + a.brightness))
            if a.contrast: x = (x - .5)*float(self.rng.uniform(1 - a.contrast, 1 + a.contrast)) + .5
            if a.noise: x = x + a.noise*torch.randn_like(x)
            if a.recolours: x = x.clamp(0, 1)
        return (x - self.mean)/self.std, int(self.labels[row])

def loaders(dataset, augmentation, batch_size, device):
    "Name → a function that makes the loader."
    cores = os.cpu_count()
    ours = lambda backend, threads: lambda: make_loader(dataset, 'train', batch_size, backend=backend, augmentation=augmentation, device=device, threads=threads)
    theirs = lambda workers: lambda: torch.utils.data.DataLoader(Pictures(dataset, augmentation), batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0,
                                                               multiprocessing_context='forkserver' if workers else None)   # a fork beside DALI's threads may hang
    return {'dali, 1 thread': ours('dali', 1), f'dali, {cores} threads': ours('dali', cores), 'resident': ours('resident', 1),
            'DataLoader, in process': theirs(0), f'DataLoader, {cores} workers': theirs(cores)}

def rate(loader, seconds, repeats, device):
    "Images a second (a list), and CPU milliseconds of this process for a batch; the first batches aren't counted."
    def batches():
        while True:
            for x, y in loader: yield x.to(device), y.to(device)
    stream, rates = batches(), []
    for _ in range(3): next(stream)
    cpu, count = time.process_time(), 0
    for _ in range(repeats):
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < seconds: images += len(next(stream)[1]); count += 1
        if device != 'cpu': torch.cuda.synchronize()
        rates.append(images/(time.perf_counter() - start))
    return rates, 1e3*(time.process_time() - cpu)/count

def hardware(device):
    "What the figures were measured on."
    names = [line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines() if line.startswith('model name')] if Path('/proc/cpuinfo').exists() else []
    return dict(cpu=names[0] if names else platform.processor(), cores=os.cpu_count(), gpu=torch.cuda.get_device_name() if device != 'cpu' else None, torch_threads=torch.get_num_threads(), load_before=round(os.getloadavg()[0], 1))

def version(package):
    try: return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError: return None

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--dataset', default='auto'); parser.add_argument('--device', default='cpu')
    parser.add_argument('--batch_sizes', type=int, nargs='+', default=[64, 256, 1024])
    parser.add_argument('--seconds', type=float, default=.3, help='length of one measurement'); parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--out', type=Path, default=Path('results/loaders.jsonl'))
    args = parser.parse_args()
    dataset = load_dataset(args.dataset)
    common = dict(study='loaders', run=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()), command=' '.join(['python', 'scripts/bench_loaders.py', *sys.argv[1:]]), dataset=dataset.name,
                  hardware=hardware(args.device), versions=dict(python=platform.python_version()) | {name: version(name) for name in ('torch', 'numpy', 'nvidia-dali-cuda120')})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for batch_size in args.batch_sizes:
        for kind, augmentation in AUGMENTATIONS.items():
            for name, make in loaders(dataset, augmentation, batch_size, args.device).items():
                rates, cpu = rate(make(), args.seconds, args.repeats, args.device)
                record = common | dict(batch_size=batch_size, augmentation=kind, loader=name, n=len(rates), images_per_second=round(statistics.median(rates)), spread=[round(min(rates)), round(max(rates))],
                                       cpu_ms_per_batch=None if 'workers' in name else round(cpu, 3))
                with open(args.out, 'a') as file: file.write(json.dumps(record) + '\n')
                print(f'{batch_size:5} {kind:9} {name:24} {record["images_per_second"]:>10,} images/s ({record["spread"][0]:,} … {record["spread"][1]:,})', flush=True)

if __name__ == '__main__': main()
