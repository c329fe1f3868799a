"""The C kernels on 64-bit Arm have the bits of plain C on this machine: cross-compiled, run by qemu.

Debian has both: apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
"""
import shutil, struct, subprocess
from pathlib import Path
import numpy as np
import pytest
import torch
from train_ticket import kernels_c
from train_ticket.coding import pack
from train_ticket.kernels import C_FLAGS, PLACES, Generator
from train_ticket.prng import STREAMS

COMPILER, EMULATOR, SYSTEM = 'aarch64-linux-gnu-gcc', 'qemu-aarch64', '/usr/aarch64-linux-gnu'
LINEAR, PACKED, WEIGHTS = range(3)
SHAPES = ((1, 1, 1), (4, 129, 7), (5, 512, 8), (1, 513, 9), (9, 640, 17), (4, 1500, 40), (2, 700, 300),
          (16, 1024, 64), (3, 128, 16), (1, 4096, 33), (515, 40, 5), (1, 600, 700))   # batch, fan_in, out
top = Path(__file__).resolve().parent


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    "The test program for Arm."
    for tool in COMPILER, EMULATOR:
        if not shutil.which(tool):
            pytest.skip(f'{tool} is not installed')
    if not kernels_c.works('cpu'):
        pytest.skip('there is no C compiler for this machine to compare with')
    path = tmp_path_factory.mktemp('arm')/'kernels'
    flags = [flag for flag in C_FLAGS if flag not in ('-shared', '-fPIC')]
    headers = Path(kernels_c.__file__).parent
    command = [COMPILER, *flags, f'-I{headers}', str(top/'kernels_main.c'), '-o', str(path)]
    subprocess.run(command, check=True)
    return path


def question(kind, generator, batch=0, fan_in=0, out=0, base=0, planes=(), threads=1): # bytes
    head = struct.pack('<5qQIIfi', kind, batch, fan_in, out, base, generator.seed, generator.layer,
                       generator.stream, generator.unit, threads)
    return head + b''.join(plane.contiguous().numpy().tobytes() for plane in planes)


def answers(program, questions): # names of instruction sets, float32 array of all results
    command = [EMULATOR, '-L', SYSTEM, str(program)]
    made = subprocess.run(command, input=b''.join(questions), capture_output=True, check=True, timeout=300)
    names, _, values = made.stdout.partition(b'\n\n')
    return names.decode().splitlines(), np.frombuffer(values, np.float32)


def check(program, pairs): # (question, this machine's answer in plain C): equal bits on every instruction set
    names, found = answers(program, [asked for asked, _ in pairs])
    expected = np.concatenate([np.tile(answer.numpy().ravel(), len(names)) for _, answer in pairs])
    assert names == ['plain C', 'NEON']
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def layer(batch, fan_in, out): # input, what is kept, signs
    random = torch.Generator().manual_seed(fan_in)
    kept, sign = (pack(torch.rand(out, fan_in, generator=random) < .5) for _ in range(2))
    return torch.randn(batch, fan_in, generator=random), kept, sign


def test_weights(program):
    pairs = []
    for distribution in STREAMS:
        for seed, number, rows, fan_in in PLACES:
            generator = Generator(seed, number, .3, distribution)
            asked = question(WEIGHTS, generator, fan_in=fan_in, out=len(rows), base=rows.start)
            pairs.append((asked, kernels_c.weights(generator, rows, fan_in, instructions=0)))
    check(program, pairs)


@pytest.mark.parametrize('threads', [1, 3])
def test_generated(program, threads):
    generator, pairs = Generator(2**64 - 5, 3, .1), []
    for shape in SHAPES:
        x, kept, _ = layer(*shape)
        asked = question(LINEAR, generator, *shape, planes=(x, kept), threads=threads)
        pairs.append((asked, kernels_c.linear(x, kept, generator, 0)))
    check(program, pairs)


def test_packed(program):
    generator, pairs = Generator(0, 0, .1), []
    for shape in SHAPES:
        x, kept, sign = layer(*shape)
        asked = question(PACKED, generator, *shape, planes=(x, kept, sign))
        pairs.append((asked, kernels_c.linear_packed(x, kept, sign, .1, shape[1], 0)))
    check(program, pairs)
