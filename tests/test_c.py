"The C file of a ticket: built by gcc and by cross compilers, run natively and under qemu."
import base64, json, re, shutil, subprocess, sys
from types import SimpleNamespace
import pytest
from browser import Browser, chromium
from conftest import data as data_folder, top
from train_ticket.datasets import load_dataset
from train_ticket.export_c import c_source, calibrated, integer_scores, stages_of, zeros_of
from train_ticket.ticket import load_ticket

sys.path.insert(0, str(top/'scripts'))
import bench_c, make_page

ticket = load_ticket(make_page.USUAL)
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
    program = bench_c.build_here(source, '-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover')
    assert bench_c.classes(shown, program).tolist() == expected.argmax(1).tolist()


def test_the_float_form_decides_as_pytorch_does(tmp_path):
    if not shutil.which('gcc'): pytest.skip('gcc is not installed')
    (tmp_path/'digit.c').write_text(c_source(ticket))
    found = bench_c.classes(shown, bench_c.build_here(tmp_path, *bench_c.EXACT))
    data = SimpleNamespace(test=SimpleNamespace(images=shown))
    assert found.tolist() == bench_c.float_classes(ticket, data).tolist()


@pytest.mark.parametrize('target', bench_c.TARGETS)
def test_microcontrollers(target, source):
    "The same decisions under qemu, in 16 kB of flash memory and 2 kB of RAM, or 3 kB for adaptive masks."
    if bench_c.missing(target): pytest.skip(f'{bench_c.missing(target)} is not installed')
    program, found = bench_c.build(target, source), bench_c.sizes(target, source)
    command = bench_c.TARGETS[target][2], program
    assert bench_c.classes(shown, *command).tolist() == expected.argmax(1).tolist()
    most = 3072 if 'TT_ADAPTIVE 1' in (source/'digit.c').read_text() else 2048
    assert found['flash'] <= 16_384 and found['ram'] + found['stack'] + shown[0][0].size <= most
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


def wasm_of(text: str) -> str: return re.search("atob\\('(.+?)'", text)[1]


def page_scores(text: str) -> list: # of `shown`
    if not shutil.which('node'): pytest.skip('node is not installed')
    question = json.dumps(dict(wasm=wasm_of(text), images=shown.reshape(len(shown), -1).tolist()))
    done = subprocess.run(['node', '-e', NODE], input=question, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_the_page_is_small_and_needs_no_network():
    text = drawing.read_text()
    assert len(text.encode()) < 30_000
    assert not re.search('https?:|fetch|import ', text)


@pytest.fixture
def digits(mnist, monkeypatch):
    "MNIST, on which the page's ticket was trained."
    monkeypatch.setenv('TRAIN_TICKET_DATA', str(data_folder))
    return load_dataset('mnist')


def test_the_pages_webassembly(digits):
    "The page's scores are those of the integer form in Python."
    text, zeros = drawing.read_text(), zeros_of(ticket)
    assert base64.b64decode(wasm_of(text))[:4] == b'\0asm'
    calibration = digits.train.images[:make_page.CALIBRATION_IMAGES]
    stages = calibrated(stages_of(ticket), zeros, calibration)
    assert page_scores(text) == integer_scores(stages, zeros, shown).tolist()


def test_the_page_is_that_of_the_ticket(digits):
    "The committed page is the one that make_page makes, but for what another version of clang compiles."
    if not all(map(shutil.which, ('clang', 'wasm-ld'))): pytest.skip('clang or wasm-ld is not installed')
    made, text = make_page.page(ticket, digits), drawing.read_text()
    assert made.replace(wasm_of(made), '') == text.replace(wasm_of(text), '')
    assert made == text or page_scores(made) == page_scores(text)


@pytest.mark.skipif(not chromium, reason='no Chromium')
def test_a_finger_draws_a_one(tmp_path):
    "On a screen of 400 pixels, with touches; nothing is loaded, and nothing is wider than the screen."
    with Browser(tmp_path) as browser:
        screen = dict(width=400, height=800, deviceScaleFactor=1, mobile=True)
        browser.send('Emulation.setDeviceMetricsOverride', **screen)
        browser.send('Emulation.setTouchEmulationEnabled', enabled=True)
        browser.go(drawing.as_uri())
        assert browser.evaluate('document.documentElement.scrollWidth') <= 400
        box = browser.evaluate('JSON.stringify(document.getElementById("draw").getBoundingClientRect())')
        x, y = (json.loads(box)[side] for side in 'xy')
        moves = [('touchMove', at) for at in range(60, 241, 20)]
        for kind, at in ('touchStart', 40), *moves, ('touchEnd', None):
            points = [] if at is None else [dict(x=x + 140, y=y + at)]
            browser.send('Input.dispatchTouchEvent', type=kind, touchPoints=points)
        browser.wait('document.getElementById("answer").textContent == "This is a 1."')
        assert browser.evaluate('document.querySelectorAll("#scores .best").length') == 1
        assert browser.evaluate('document.querySelectorAll("#masks canvas").length') == len(ticket.layers)
        asked = [event for event in browser.events if event['method'] == 'Network.requestWillBeSent']
        assert all(event['params']['request']['url'].startswith(('file:', 'data:')) for event in asked)
