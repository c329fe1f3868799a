"""A ticket as a program for microcontrollers: flash, RAM, instructions, and whether it decides as Python does.

`python scripts/bench_c.py` writes the C file of a ticket in both codings, builds it with each compiler that
is installed, runs it under qemu, and adds a record for each to results/c.jsonl.
"""
import argparse, re, shutil, subprocess, tempfile
from pathlib import Path
import numpy as np
from train_ticket.core import append_record, hardware, versions
from train_ticket.datasets import load_dataset
from train_ticket.export_c import CALIBRATION_IMAGES, c_source, calibrated, integer_scores, stages_of, zeros_of
from train_ticket.ticket import load_ticket

TOP = Path(__file__).resolve().parent.parent
SOURCES = TOP/'scripts/c'
SMALL = '-Os', '-std=gnu99', '-ffreestanding', '-Wall', '-Wextra', '-Werror'
TARGETS = { # name: (prefix of the compiler's tools, its options, qemu)
    'cortex-m0': ('arm-none-eabi-', ('-mcpu=cortex-m0', '-mthumb'), 'qemu-arm'),
    'rv32imc': ('riscv64-unknown-elf-', ('-march=rv32imc', '-mabi=ilp32', '-Wl,--no-relax'), 'qemu-riscv32')}


def missing(target: str) -> str: # '' where there is everything
    "What has to be installed for a target."
    prefix, _, qemu = TARGETS[target]
    return next((tool for tool in (f'{prefix}gcc', qemu) if not shutil.which(tool)), '')


def run(*command, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, **options)


def sizes(target: str, folder: Path) -> dict: # of digit.c in the folder
    "Flash and RAM in bytes; `stack` is the sum over all functions, more than any call can need."
    prefix, options, _ = TARGETS[target]
    run(f'{prefix}gcc', *SMALL, *options, '-fstack-usage', '-c', 'digit.c', '-o', 'digit.o', cwd=folder)
    text, data, bss = run(f'{prefix}size', folder/'digit.o').stdout.decode().splitlines()[1].split()[:3]
    stack = sum(int(line.split('\t')[1]) for line in (folder/'digit.su').read_text().splitlines())
    return dict(flash=int(text) + int(data), ram=int(data) + int(bss), stack=stack)


def build(target: str, folder: Path) -> Path:
    "A program of digit.c in the folder that reads images and prints classes."
    prefix, options, _ = TARGETS[target]
    program = folder/f'{target}.elf'
    run(f'{prefix}gcc', *SMALL, *options, '-nostdlib', '-static', f'-I{folder}', SOURCES/'digit_main.c',
        '-lgcc', '-o', program)
    return program


def classes(target: str, program: Path, images: np.ndarray) -> np.ndarray:
    "What the program decides, under qemu."
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).tobytes()
    return np.array([int(word) for word in run(TARGETS[target][2], program, input=planes).stdout.split()])


def instructions(target: str, program: Path, image: np.ndarray, folder: Path) -> int: # or None
    "How many instructions the program takes for an image, counted by qemu; None where it takes no plugins."
    plugin = folder/'count.so'
    run('gcc', '-O2', '-shared', '-fPIC', SOURCES/'count_instructions.c', '-o', plugin)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()
    try:
        done = run(TARGETS[target][2], '-plugin', plugin, program, input=planes)
    except subprocess.CalledProcessError:
        return None
    return int(re.search(rb'(\d+) instructions', done.stderr)[1])


def measured(ticket, data, target: str, masks: str, count: int) -> dict:
    "All that a record states about a ticket on a processor."
    given, zeros = data.train.images[:CALIBRATION_IMAGES], zeros_of(ticket)
    images, labels = data.test.images[:count], data.test.labels[:count]
    expected = integer_scores(calibrated(stages_of(ticket), zeros, given), zeros, images).argmax(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder/'digit.c').write_text(c_source(ticket, given, masks))
        program = build(target, folder)
        decided = classes(target, program, images)
        return sizes(target, folder) | dict(
            image=images[0].size, instructions=instructions(target, program, images[0], folder), images=len(images),
            correct=int((decided == labels).sum()), as_python=int((decided == expected).sum()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('ticket', nargs='?', type=Path, default=TOP/'results/lenet5-tenth/best.ticket.safetensors')
    parser.add_argument('--images', type=int, default=10_000, help='how many test images')
    parser.add_argument('--records', type=Path, default=TOP/'results/c.jsonl')
    args = parser.parse_args()
    ticket = load_ticket(args.ticket)
    data = load_dataset(ticket.training.get('dataset', 'mnist'), ticket.arch_args.get('in_shape'))
    where = dict(hardware=hardware('cpu'), versions=versions(), command='python scripts/bench_c.py')
    for target in TARGETS:
        if missing(target):
            print(f'{target}: {missing(target)} is not installed')
            continue
        for masks in 'bits', 'adaptive':
            found = dict(target=target, masks=masks, arch=ticket.arch, seed=ticket.seed, dataset=data.name)
            found |= measured(ticket, data, target, masks, args.images)
            append_record(args.records, found | where)
            print(found, flush=True)


if __name__ == '__main__':
    main()
