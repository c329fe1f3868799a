"The C file of a ticket: built by gcc and by cross compilers, run natively and under qemu."
import re, shutil, subprocess, sys
import numpy as np, pytest
from conftest import top
from train_ticket.datasets import load_dataset
from train_ticket.export_c import c_source, calibrated, integer_scores, stages_of, zeros_of
from train_ticket.ticket import load_ticket

sys.path.insert(0, str(top/'scripts'))
import bench_c

ticket = load_ticket(top/'results/lenet5-tenth/best.ticket.safetensors')
images = load_dataset('digits', (1, 28, 28)).train.images
given, shown = images[:200], images[200:230]
expected = integer_scores(calibrated(stages_of(ticket), zeros_of(ticket), given), zeros_of(ticket), shown)


@pytest.fixture(scope='module', params=['adaptive', 'bits'])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder/'digit.c').write_text(c_source(ticket, given, request.param))
    return folder


def test_it_needs_no_library(source):
    "An object file without undefined symbols, from C99 without warnings."
    if not shutil.which('gcc'): pytest.skip('gcc is not installed')
    flags = '-std=c99', '-pedantic', '-Wall', '-Wextra', '-Werror', '-Os'
    bench_c.run('gcc', *flags, '-c', 'digit.c', '-o', 'native.o', cwd=source)
    assert not bench_c.run('nm', '--undefined-only', source/'native.o').stdout.replace(b'_GLOBAL_OFFSET_TABLE_', b'').strip(b' U\n')


def test_no_undefined_behaviour(source):
    "The sanitizers of gcc find nothing, and the decisions are those of Python."
    if not shutil.which('gcc'): pytest.skip('gcc is not installed')
    plane = shown[0].size
    main = f'''#include <stdio.h>
    #include "digit.c"
    int main(void) {{
        static uint8_t image[{plane}];
        while (fread(image, 1, {plane}, stdin) == {plane}) printf("%d\\n", digit_class(image));
    }}'''
    (source/'main.c').write_text(main)
    bench_c.run('gcc', '-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover', 'main.c', '-o', 'main',
                cwd=source)
    done = subprocess.run([source/'main'], input=shown.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert [int(word) for word in done.stdout.split()] == expected.argmax(1).tolist()


@pytest.mark.parametrize('target', bench_c.TARGETS)
def test_microcontrollers(target, source):
    "The same decisions under qemu, within 16 kB of flash memory and 4 kB of RAM."
    if bench_c.missing(target): pytest.skip(f'{bench_c.missing(target)} is not installed')
    program, found = bench_c.build(target, source), bench_c.sizes(target, source)
    assert bench_c.classes(target, program, shown).tolist() == expected.argmax(1).tolist()
    assert found['flash'] <= 16_384 and found['ram'] + found['stack'] + shown[0].size <= 4096
    counted = bench_c.instructions(target, program, shown[0], source)
    if counted is None: pytest.skip('qemu takes no plugins here: instructions are not counted')
    weights = sum(stage.mask.size for stage in stages_of(ticket))
    assert counted > weights   # it decodes each of them
