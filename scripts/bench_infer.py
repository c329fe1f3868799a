"""Compare the modes of a ticket's network with dense float32: python scripts/bench_infer.py [--ticket FILE]

Appends to results/infer.jsonl: a line for each size and batch (generated against dense), each size and
density (sparse against dense), and, with --ticket, one for the 10,000 MNIST test images in each mode.
Variants take turns, so that what else the machine does falls on all alike.
"""
import os
# PyTorch's threads are not to spin through the next variant's turn; it has to be set before PyTorch is loaded
os.environ.setdefault('GOMP_SPINCOUNT', '10000')
from datetime import datetime, timezone
from pathlib import Path
import argparse, statistics, time
import torch
from torch.nn import functional as F
from train_ticket import kernels
from train_ticket.coding import pack
from train_ticket.core import append_record, hardware
from train_ticket.infer import MODES, SparseLinear, network_of, test_images, weight_memory
from train_ticket.ticket import accuracy, load_ticket, to_model

SHAPES = (10, 100), (100, 300), (300, 784), (512, 512), (724, 724), (1024, 1024), (1448, 1448), (2048, 2048)
BATCHES = 1, 4, 16, 64, 256, 1000
SPARSE = 512, 1024, 2048, 4096
DENSITIES = .3, .2, .1, .05, .02


def turns(variants: dict, seconds=.3, least=5) -> dict: # name → milliseconds, best and median of n turns
    times, end = {name: [] for name in variants}, time.perf_counter() + seconds
    for call in variants.values(): call()
    while time.perf_counter() < end or min(map(len, times.values())) < least:
        for name, call in variants.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start)*1000)
    return {name: dict(best=min(found), median=statistics.median(found), n=len(found))
            for name, found in times.items()}


def generated(shape, batch):
    bits, dense, x = pack(torch.rand(shape) < .5), torch.randn(shape), torch.randn(batch, shape[1])
    variants = dict(dense=lambda: F.linear(x, dense),
                    generated=lambda: kernels.masked_linear(x, bits, 1, 0, .1))
    return dict(kind='generated', shape=shape, batch=batch, milliseconds=turns(variants))


def sparse(size, density, batch):
    dense, x = torch.randn(size, size)*(torch.rand(size, size) < density), torch.randn(batch, size)
    layer = SparseLinear(dense)
    variants = dict(dense=lambda: F.linear(x, dense), sparse=lambda: layer(x))
    return dict(kind='sparse', shape=(size, size), density=density, batch=batch, milliseconds=turns(variants))


def mnist(path):
    ticket, found = load_ticket(path), {}
    batches = [(images.clone(), labels.clone()) for images, labels in test_images(ticket, 'mnist')]
    networks = {mode: network_of(ticket, mode=mode, batch=1000) for mode in MODES}
    networks = dict(dense=to_model(ticket)) | networks

    def right(name):
        found[name] = accuracy(networks[name], batches)['correct']

    times = turns({name: lambda name=name: right(name) for name in networks}, seconds=20)
    size = Path(path).stat().st_size
    return dict(kind='mnist', ticket=Path(path).parent.name, ticket_bytes=size, batch=1000,
                correct=found, milliseconds=times,
                weight_bytes={name: weight_memory(network)['total'] for name, network in networks.items()})


def lines(ticket=None):
    if ticket: yield mnist(ticket)
    for shape in SHAPES:
        for batch in BATCHES: yield generated(shape, batch)
    for size in SPARSE:
        for density in DENSITIES:
            for batch in 1, 16, 100: yield sparse(size, density, batch)


def main():
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument('--ticket', help='a ticket of MNIST')
    parser.add_argument('--output', type=Path, default=Path(__file__).parent.parent/'results/infer.jsonl')
    args = parser.parse_args()
    about = dict(study='infer', date=datetime.now(timezone.utc).isoformat(timespec='seconds'),
                 hardware=hardware('cpu').rpartition(',')[0], threads=torch.get_num_threads(),
                 backend=kernels.backends()[0], torch=torch.__version__, load_before=os.getloadavg()[0])
    with torch.no_grad():
        for line in lines(args.ticket):
            append_record(args.output, about | line)
            best = {name: round(found['best'], 3) for name, found in line['milliseconds'].items()}
            print(best, line['kind'], *(line.get(key) for key in ('shape', 'density', 'batch')))


if __name__ == '__main__': main()
