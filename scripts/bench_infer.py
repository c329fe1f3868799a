"""Time a ticket's network in each mode on MNIST's test images: python scripts/bench_infer.py [--ticket FILE]

Appends a line to results/infer.jsonl. The modes take turns with the dense float32 network.
"""
import argparse, os, sys
from datetime import datetime, timezone
from pathlib import Path
from bench_kernels import spread, timed   # sets a variable before PyTorch is loaded
import torch
from train_ticket import kernels
from train_ticket.core import append_record, hardware, versions
from train_ticket.infer import MODES, choices, machine, network_of, test_images, weight_memory
from train_ticket.ticket import accuracy, load_ticket, to_model

RESULTS = Path(__file__).resolve().parent.parent/'results'


def measure(path, repeats): # a record
    ticket, found = load_ticket(path), {}
    batches = [(images.clone(), labels.clone()) for images, labels in test_images(ticket, 'mnist')]
    networks = {mode: network_of(ticket, mode=mode, batch=1000) for mode in MODES}
    networks = dict(dense=to_model(ticket)) | networks

    def right(name):
        found[name] = accuracy(networks[name], batches)['correct']

    times = timed({name: lambda name=name: right(name) for name in networks}, repeats=repeats)
    spreads = {name: spread([1e3*each for each in turns]) | dict(n=repeats) for name, turns in times.items()}
    memory = {name: weight_memory(network)['total'] for name, network in networks.items()}
    held = {name: choice.how for name, choice in choices(networks['auto']).items()}
    about = dict(ticket=Path(path).parent.name, ticket_bytes=Path(path).stat().st_size, batch=1000)
    return about | dict(kind='mnist', correct=found, held=held, milliseconds=spreads, weight_bytes=memory)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, ticket = parser.add_argument, RESULTS/'lenet300-1/best.ticket.safetensors'
    add('--ticket', default=ticket, help='file of a ticket for MNIST')
    add('--repeats', type=int, default=15, help='measurements per mode, after two to warm up (default: 15)')
    add('--output', type=Path, default=RESULTS/'infer.jsonl', help='file to append to')
    args = parser.parse_args()
    about = dict(study='infer', command=' '.join(['python scripts/bench_infer.py', *sys.argv[1:]]),
                 date=datetime.now(timezone.utc).isoformat(timespec='seconds'), machine=machine(),
                 hardware=hardware('cpu').rpartition(',')[0], threads=torch.get_num_threads(),
                 backend=kernels.backends()[0], versions=versions(), load_before=os.getloadavg()[0])
    with torch.no_grad():
        record = measure(args.ticket, args.repeats)
    append_record(args.output, about | record)
    for name, times in record['milliseconds'].items():
        print(f'{name:12} {times["median"]:7.1f} ms ({times["best"]:.1f}..{times["worst"]:.1f}), '
              f'{record["correct"][name]:,} right, {record["weight_bytes"][name]:,} bytes of weights')


if __name__ == '__main__':
    main()
