"The C file of a ticket: built by gcc and by cross compilers, run natively and under qemu."
import base64, json, re, shutil, subprocess, sys
import pytest
from browser import Browser, chromium
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
    undefined = bench_c.run('nm', '--undefined-only', source/'native.o').stdout.split()
    assert set(undefined) <= {b'U', b'_GLOBAL_OFFSET_TABLE_'}


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


drawing = top/'nbs/tutorials/draw.html'
NODE = '''
const given = JSON.parse(require("fs").readFileSync(0, "utf8"))
const page = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(given.wasm, "base64"))).exports
const found = given.images.map(image => {
    new Uint8Array(page.memory.buffer, page.image(), image.length).set(image)
    return [...new Int32Array(page.memory.buffer, page.scores(), 10)]
})
console.log(JSON.stringify(found))'''


def test_the_page_is_small_and_needs_no_network():
    text = drawing.read_text()
    assert len(text.encode()) < 30_000
    assert not re.search('https?:|fetch|import ', text)


def test_the_pages_webassembly():
    "The page's scores are those of the integer form, and the page has the ticket that it claims."
    if not shutil.which('node'): pytest.skip('node is not installed')
    wasm = re.search("atob\\('(.+?)'", drawing.read_text())[1]
    assert base64.b64decode(wasm)[:4] == b'\0asm'
    question = json.dumps(dict(wasm=wasm, images=shown.reshape(len(shown), -1).tolist()))
    done = subprocess.run(['node', '-e', NODE], input=question, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert [max(range(10), key=row.__getitem__) for row in found] == expected.argmax(1).tolist()


@pytest.mark.skipif(not chromium, reason='no Chromium')
def test_a_finger_draws_a_one(tmp_path):
    "On a screen of 400 pixels, with touches; nothing is loaded, and nothing is wider than the screen."
    with Browser(tmp_path) as browser:
        browser.send('Emulation.setDeviceMetricsOverride', width=400, height=800, deviceScaleFactor=1, mobile=True)
        browser.send('Emulation.setTouchEmulationEnabled', enabled=True)
        browser.go(drawing.as_uri())
        assert browser.evaluate('document.documentElement.scrollWidth') <= 400
        box = browser.evaluate('JSON.stringify(document.getElementById("draw").getBoundingClientRect())')
        x, y = (json.loads(box)[side] for side in 'xy')
        for kind, at in ('touchStart', 40), *(('touchMove', at) for at in range(60, 241, 20)), ('touchEnd', None):
            points = [] if at is None else [dict(x=x + 140, y=y + at)]
            browser.send('Input.dispatchTouchEvent', type=kind, touchPoints=points)
        browser.wait('document.getElementById("answer").textContent == "This is a 1."')
        assert browser.evaluate('document.querySelectorAll("#scores .best").length') == 1
        assert browser.evaluate('document.querySelectorAll("#masks canvas").length') == len(ticket.layers)
        asked = [event for event in browser.events if event['method'] == 'Network.requestWillBeSent']
        assert all(event['params']['request']['url'].startswith(('file:', 'data:')) for event in asked)
