"""A ticket as a program for microcontrollers: flash, RAM, instructions; does it decide as Python does?

`python scripts/bench_c.py TICKET` writes the C file of a ticket in both codings, builds it with each compiler
that is installed, runs it under qemu, and adds a record for each to results/c.jsonl.
"""
import argparse, re, shutil, subprocess, tempfile
from pathlib import Path
import numpy as np
import torch
from train_ticket.core import append_record, hardware, versions
from train_ticket.datasets import load_dataset
from train_ticket.export_c import CALIBRATION_IMAGES, c_source, calibrated, integer_scores
from train_ticket.export_c import stages_of, zeros_of
from train_ticket.squeeze import squeeze
from train_ticket.ticket import load_ticket, to_model

TOP = Path(__file__).resolve().parent.parent
SOURCES = TOP/'scripts/c'
USUAL = 'results/conv3-small/best.ticket.safetensors'
SMALL = '-Os', '-std=gnu99', '-ffreestanding', '-Wall', '-Wextra', '-Werror'
EXACT = '-O2', '-std=gnu99', '-ffp-contract=off'
RISCV = '-march=rv32imc', '-mabi=ilp32', '-Wl,--no-relax'
TARGETS = { # name: (prefix of the compiler's tools, its options, qemu)
    'cortex-m0': ('arm-none-eabi-', ('-mcpu=cortex-m0', '-mthumb'), 'qemu-arm'),
    'rv32imc': ('riscv64-unknown-elf-', RISCV, 'qemu-riscv32')}


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
    given = f'-I{folder}', SOURCES/'digit_main.c', '-lgcc', '-o', program
    run(f'{prefix}gcc', *SMALL, *options, '-nostdlib', '-static', *given)
    return program


def build_here(folder: Path, *options) -> Path:
    "The same program for this machine."
    run('gcc', *options, f'-I{folder}', SOURCES/'digit_main.c', '-o', folder/'here')
    return folder/'here'


def rows_of(images: np.ndarray) -> bytes: # uint8 [N, H, W, C]
    "What the program reads: each row of all channels, then the next."
    return np.ascontiguousarray(images.transpose(0, 1, 3, 2)).tobytes()


def classes(images: np.ndarray, *command) -> np.ndarray:
    "What a program decides."
    return np.array([int(word) for word in run(*command, input=rows_of(images)).stdout.split()])


def instructions(target: str, program: Path, image: np.ndarray, folder: Path) -> int: # or None
    "How many instructions the program takes for an image, counted by qemu; None where it takes no plugins."
    plugin = folder/'count.so'
    run('gcc', '-O2', '-shared', '-fPIC', SOURCES/'count_instructions.c', '-o', plugin)
    try:
        done = run(TARGETS[target][2], '-plugin', plugin, program, input=rows_of(image[None]))
    except subprocess.CalledProcessError:
        return None
    return int(re.search(rb'(\d+) instructions', done.stderr)[1])


def integer_classes(ticket, data) -> np.ndarray:
    "The classes that the integer form gives to all test images, computed in Python."
    zeros = zeros_of(ticket)
    stages = calibrated(stages_of(ticket), zeros, data.train.images[:CALIBRATION_IMAGES])
    parts = np.array_split(data.test.images, -(-len(data.test.images)//1000))
    return np.concatenate([integer_scores(stages, zeros, part).argmax(1) for part in parts])


@torch.no_grad()
def float_classes(ticket, data) -> np.ndarray:
    "The classes that PyTorch gives to all test images."
    mean, std = (torch.tensor(ticket.normalisation[what])[:, None, None] for what in ('mean', 'std'))
    images, model = torch.from_numpy(data.test.images).permute(0, 3, 1, 2), to_model(ticket).eval()
    return np.concatenate([model((part/255 - mean)/std).argmax(1).numpy() for part in images.split(1000)])


def float_form(ticket, data) -> dict: # fields of a record
    "How the float form in C, on this machine, decides about all test images."
    expected = float_classes(ticket, data)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder)/'digit.c').write_text(c_source(ticket, masks='bits'))
        found = classes(data.test.images, build_here(Path(folder), *EXACT))
    return dict(float_accuracy=float((found == data.test.labels).mean()),
                float_as_torch=int((found == expected).sum()))


def measured(ticket, data, target: str, masks: str, expected: np.ndarray) -> dict:
    "A ticket on a processor; expected: of the first images; `row`: bytes of the image that the caller holds."
    given, images = data.train.images[:CALIBRATION_IMAGES], data.test.images[:len(expected)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder/'digit.c').write_text(c_source(ticket, given, masks))
        program = build(target, folder)
        decided = classes(images, TARGETS[target][2], program)
        return sizes(target, folder) | dict(
            row=images[0][0].size, instructions=instructions(target, program, images[0], folder),
            images=len(images), as_python=int((decided == expected).sum()))


def about(ticket, name: str, data, expected: np.ndarray) -> dict:
    "What holds on all processors."
    found = dict(ticket=name, arch=ticket.arch, width=ticket.arch_args.get('width'), dataset=data.name)
    found |= dict(squeezed=len(squeeze(ticket)), test_accuracy=float((expected == data.test.labels).mean()))
    return found | float_form(ticket, data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('ticket', nargs='?', type=Path, default=Path(USUAL))
    parser.add_argument('--images', type=int, default=500, help='how many test images run under qemu')
    parser.add_argument('--records', type=Path, default=TOP/'results/c.jsonl')
    args = parser.parse_args()
    ticket, name = load_ticket(args.ticket), args.ticket.as_posix()
    data = load_dataset(ticket.training.get('dataset', 'mnist'), ticket.arch_args.get('in_shape'))
    expected = integer_classes(ticket, data)
    common = about(ticket, name, data, expected)
    where = dict(hardware=hardware('cpu'), versions=versions(), command=f'python scripts/bench_c.py {name}')
    for target in TARGETS:
        if missing(target):
            print(f'{target}: {missing(target)} is not installed')
            continue
        for masks in 'bits', 'adaptive':
            found = dict(target=target, masks=masks) | common
            found |= measured(ticket, data, target, masks, expected[:args.images])
            append_record(args.records, found | where)
            print(found, flush=True)


if __name__ == '__main__':
    main()
