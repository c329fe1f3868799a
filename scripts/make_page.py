"""The page that classifies what you draw: a ticket's C file as WebAssembly, in one HTML file.

`python scripts/make_page.py` writes nbs/tutorials/draw.html; it needs clang and wasm-ld, and MNIST.
"""
import argparse, shutil, subprocess, tempfile
from base64 import b64encode
from pathlib import Path
import numpy as np
from train_ticket.core import atomic_write
from train_ticket.datasets import load_dataset
from train_ticket.export_c import CALIBRATION_IMAGES, c_source, calibrated, integer_scores
from train_ticket.export_c import stages_of, zeros_of
from train_ticket.squeeze import squeeze
from train_ticket.ticket import load_ticket

TOP = Path(__file__).resolve().parent.parent
USUAL = TOP/'results/conv3-small/best.ticket.safetensors'
FLAGS = ('--target=wasm32', '-Oz', '-std=c99', '-ffreestanding', '-fno-builtin', '-nostdlib',
         '-Wl,--no-entry', '-Wl,--strip-all', '-Wl,-z,stack-size=4096')


def webassembly(source: str, weights: int) -> bytes: # weights: of the largest layer
    "A C file of `export_c`, compiled with page.c."
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder)/'digit.c').write_text(source)
        own = f'-DTT_MOST_WEIGHTS={weights}', f'-I{folder}', TOP/'scripts/c/page.c', '-o', 'page'
        subprocess.run(['clang', *FLAGS, *own], cwd=folder, check=True)
        return (Path(folder)/'page').read_bytes()


def facts(ticket, data) -> dict: # what the page states
    "Bytes and accuracy of the integer form."
    stages, zeros = stages_of(ticket), zeros_of(ticket)
    stages = calibrated(stages, zeros, data.train.images[:CALIBRATION_IMAGES])
    parts = zip(*(np.array_split(part, 10) for part in (data.test.images, data.test.labels)))
    right = sum((integer_scores(stages, zeros, x).argmax(1) == y).sum() for x, y in parts)
    kept = sum(int(mask.sum()) for mask in ticket.masks.values())
    return dict(bytes=f'{len(squeeze(ticket)):,}', weights=f'{ticket.weights:,}', kept=f'{kept:,}',
                seed=ticket.seed, accuracy=f'{right/len(data.test.labels):.2%}', side=data.shape[1])


def page(ticket, data) -> str:
    "The HTML file."
    source = c_source(ticket, data.train.images[:CALIBRATION_IMAGES])
    most = max(mask.size for mask in ticket.masks.values())
    wasm = b64encode(webassembly(source, most)).decode()
    text = (TOP/'scripts/site/draw.html').read_text()
    for name, value in (facts(ticket, data) | dict(wasm=wasm)).items():
        text = text.replace('{{' + name + '}}', str(value))
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('ticket', nargs='?', type=Path, default=USUAL)
    parser.add_argument('-o', '--output', type=Path, default=TOP/'nbs/tutorials/draw.html')
    args = parser.parse_args()
    for tool in 'clang', 'wasm-ld':
        if not shutil.which(tool): parser.error(f'{tool} is not installed')
    ticket = load_ticket(args.ticket)
    data = load_dataset(ticket.training.get('dataset', 'mnist'), ticket.arch_args.get('in_shape'))
    text = page(ticket, data)
    atomic_write(args.output, text.encode())
    print(f'{args.output}: {len(text.encode()):,} bytes')


if __name__ == '__main__':
    main()
