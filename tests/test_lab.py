"JupyterLab for real: a person opens a tutorial, runs all cells and uses the explorer."
import json, os, shutil, socket, subprocess, sys, time
from pathlib import Path
import pytest
from browser import Browser, chromium
from conftest import top

pytestmark = pytest.mark.skipif(   # 75 s on two quiet cores
    not chromium or os.environ.get('TRAIN_TICKET_LAB') == '0',
    reason="JupyterLab in a browser: install Debian's chromium, and set no TRAIN_TICKET_LAB=0")
SHOTS = os.environ.get('SCREENSHOTS')   # a folder, to look at what the tests saw

# in JavaScript: the code cells of the notebook, and whether its kernel waits for something to do
CODE = '''(cells => [...Array(cells.length).keys()].map(i => cells.get(i))
    .filter(cell => cell.type == "code"))(window.jupyterapp.shell.currentWidget.content.model.cells)'''
IDLE = '''(context => !!context?.isReady && context.session?.kernel?.connectionStatus == "connected"
    && context.session.kernel.status == "idle")(
    window.jupyterapp?.shell?.currentWidget?.sessionContext)'''
ERRORS = f'''{CODE}.flatMap(cell => cell.outputs.toJSON()).filter(output => output.output_type == "error")
    .map(output => output.ename + ": " + output.evalue)'''

SHARP = 'image => image.naturalWidth >= 1.9*image.getBoundingClientRect().width'   # two pixels per point


def prepare(path: Path):
    "Remove a notebook's outputs, so that the tests see those of this session; shorten the explorer's runs."
    notebook = json.loads(path.read_text())
    for cell in notebook['cells']:
        if cell['cell_type'] == 'code':
            cell.update(outputs=[], execution_count=None)
        if path.name == 'explorer.ipynb':
            cell['source'] = [line.replace('epochs=4', 'epochs=1') for line in cell['source']]
    path.write_text(json.dumps(notebook))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def answers(port: int) -> bool:
    try:
        socket.create_connection(('127.0.0.1', port), 1).close()
        return True
    except OSError:
        return False


def command(folder: Path, port: int) -> list:
    "JupyterLab on a folder, without a look at the network."
    options = dict(ServerApp__port_retries=0, IdentityProvider__token='secret', ServerApp__root_dir=folder,
                   LabApp__news_url=None, LabApp__check_for_updates_class='jupyterlab.NeverCheckForUpdate',
                   LabApp__extension_manager='readonly', LabApp__expose_app_in_browser=True)
    given = [f'--{name.replace("__", ".")}={value}' for name, value in options.items()]
    return [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--port={port}', *given]


@pytest.fixture(scope='module')
def lab(tmp_path_factory, environment):
    "JupyterLab on a copy of nbs/ and results/: a function of a path that returns its address."
    folder, port = tmp_path_factory.mktemp('lab'), free_port()
    ignore = shutil.ignore_patterns('runs', '.ipynb_checkpoints', '_quarto.yml')
    for name in 'nbs', 'results':
        shutil.copytree(top/name, folder/name, ignore=ignore)
    for path in (folder/'nbs').rglob('*.ipynb'):
        prepare(path)
    own = environment | dict(PYTHONPATH=str(top))
    own.pop('MPLBACKEND', None)
    for name in '_CONFIG', 'LAB_SETTINGS', 'LAB_WORKSPACES', '_RUNTIME':
        own[f'JUPYTER{name}_DIR'] = str(folder/name.lower())
    with open(folder/'log', 'w') as log:
        process = subprocess.Popen(command(folder, port), cwd=folder, env=own, stdout=log, stderr=log)
    end = time.monotonic() + 60
    while not answers(port):
        assert process.poll() is None and time.monotonic() < end, (folder/'log').read_text()[-2000:]
        time.sleep(.2)
    yield lambda path: f'http://127.0.0.1:{port}/lab/tree/{path}?token=secret&reset'
    process.terminate()
    process.wait(20)


def run_all(browser, address, seconds):
    "Open a notebook, run all its cells, wait until they have run; an `AssertionError` where one fails."
    browser.size(1300, 1000, scale=2)
    browser.go(address)
    def ready():
        browser.click(900, 900)   # the notebook gets the focus, and its commands with it
        return browser.evaluate(IDLE)
    browser.wait(ready, 120, 'the notebook and its kernel')
    browser.evaluate('void window.jupyterapp.commands.execute("notebook:run-all-cells")')
    browser.wait(f'{CODE}[0].executionCount', 120, 'the first cell')
    browser.wait(f'({ERRORS}).length || ({IDLE} && {CODE}.at(-1).executionCount)', seconds, 'all cells')
    assert browser.evaluate(ERRORS) == []


def shot(browser, name):
    if SHOTS:
        browser.screenshot(f'{SHOTS}/{name}.png')


def middle(browser, selector): # → x, y of its middle
    "Scroll to a part of the page."
    browser.evaluate(f'document.querySelector("{selector}").scrollIntoView({{block: "center"}})')
    time.sleep(.5)
    return browser.evaluate(f'''(box => [box.x + box.width/2, box.y + box.height/2])(
        document.querySelector("{selector}").getBoundingClientRect())''')


def text(selector: str) -> str: # in JavaScript
    return f'document.querySelector("{selector}").textContent'


# in JavaScript: how many characters of code are visible in a line, and the cells that scroll sideways
COLUMNS = '''(scroller => {
    const content = scroller.querySelector(".cm-content"), line = scroller.querySelector(".cm-line");
    const around = [content, line].map(part => getComputedStyle(part))
        .reduce((sum, style) => sum + parseFloat(style.paddingLeft) + parseFloat(style.paddingRight), 0);
    const pen = document.createElement("canvas").getContext("2d");
    const style = getComputedStyle(content);
    pen.font = `${style.fontSize} ${style.fontFamily}`;
    return Math.floor((scroller.clientWidth - around)/(pen.measureText("m".repeat(100)).width/100));
})(document.querySelector(".jp-CodeCell .jp-InputArea-editor .cm-scroller"))'''
SIDEWAYS = '''[...document.querySelectorAll(".jp-CodeCell .jp-InputArea-editor .cm-scroller")]
    .filter(part => part.scrollWidth > part.clientWidth + 1).map(part => part.textContent.slice(0, 200))'''


def to_be_read() -> list: # of paths: index, the spine, the tutorials
    patterns = 'index.ipynb', '0*.ipynb', '1[0-3]*.ipynb', 'tutorials/*.ipynb'
    return [path for pattern in patterns for path in sorted((top/'nbs').glob(pattern))]


def wider_than(columns: int) -> list: # of (name, line)
    sources = [(path.name, ''.join(cell['source'])) for path in to_be_read()
               for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == 'code']
    return [(name, line) for name, source in sources for line in source.splitlines() if len(line) > columns]


def test_no_code_cell_scrolls_sideways(lab, tmp_path):
    "In a window of 1440 pixels, with the file browser open."
    with Browser(tmp_path/'profile') as browser:
        browser.size(1440, 1000)
        browser.go(lab('nbs/index.ipynb'))
        browser.wait('!!document.querySelector(".jp-CodeCell .cm-line")', 120, 'a code cell')
        shot(browser, 'index')
        assert browser.evaluate(SIDEWAYS) == []
        columns = browser.evaluate(COLUMNS)
        assert 60 < columns < 300 and wider_than(columns) == [], f'{columns} characters are visible'


def test_first_ticket(lab, tmp_path, mnist):
    with Browser(tmp_path/'profile') as browser:
        run_all(browser, lab('nbs/tutorials/first_ticket.ipynb'), 400)
        outputs = 'cell.outputs.toJSON().filter(output => output.data?.["image/png"])'
        figures = f'{CODE}.map(cell => {outputs}.length)'
        assert browser.evaluate(figures)[-2] == 1, 'the closing figure'
        pictures = 'document.querySelectorAll(".jp-Notebook .jp-OutputArea img")'
        browser.wait(f'[...{pictures}].at(-1)?.naturalWidth > 400', 20, 'the closing figure')
        assert browser.evaluate(f'[...{pictures}].every({SHARP})'), 'two pixels per point'
        shot(browser, 'first_ticket')


def slide_and_click(browser):
    "Move the threshold, and the picture and the accuracy change; click, and the unit is described."
    picture, result = 'document.querySelector(".tt-picture").toDataURL()', text('.tt-result')
    there = f'document.querySelector(".tt-picture") && {result}.includes("accuracy")'
    browser.wait(there, 20, 'the picture of the layer')
    before, words = json.dumps(browser.evaluate(picture)), json.dumps(browser.evaluate(result))
    browser.evaluate('document.querySelector(".jp-Notebook .noUi-handle").focus()')
    for _ in range(2):
        browser.key('ArrowRight', 39)
    browser.wait(f'{picture} != {before} && {result} != {words}', 20, 'the picture to change')
    browser.click(*middle(browser, '.tt-picture'))   # 5 rows of 8 units: the gap between the fourth and fifth
    found = browser.wait(text('.tt-found'), 20, 'what the unit connects to')
    assert 'Unit 19 ' in found or 'Unit 20 ' in found
    shot(browser, 'explorer')


def paint_a_one(browser):
    "Draw a vertical line: the ticket reads a 1."
    x, y = middle(browser, '.tt-paint')
    browser.mouse('mousePressed', x, y - 80)
    for step in range(-80, 81, 8):
        browser.mouse('mouseMoved', x, y + step)
    browser.mouse('mouseReleased', x, y + 80)
    assert 'ticket: 1' in browser.wait(text('.tt-guess'), 20, 'a guess')
    shot(browser, 'drawing')


def press(browser, label):
    buttons = '[...document.querySelectorAll(".jp-Notebook button")]'
    browser.evaluate(f'{buttons}.find(button => button.textContent == "{label}").click()')


def start_stop_go_on(browser):
    "A live run starts, stops and goes on."
    notebook = text('.jp-Notebook')
    epoch = f'Number(({notebook}.match(/epoch (\\d+) of 200/) || [0, 0])[1])'
    press(browser, 'start')
    reached = browser.wait(epoch, 180, 'the first epoch of a live run')
    press(browser, 'stop')
    words = r'epoch \d+ of 200, validation accuracy [\d.]+% \(stopped\)'   # "stopped" is in the code too
    stopped = f'/{words}/.test({notebook})'
    browser.wait(stopped, 60, 'the run to stop')
    press(browser, 'go on')
    browser.wait(f'{epoch} > {reached} + 2', 60, 'the run to go on')
    middle(browser, '.jp-Notebook .widget-image')
    assert browser.evaluate(f'({SHARP})(document.querySelector(".jp-Notebook .widget-image"))')
    shot(browser, 'live')
    press(browser, 'stop')


def test_explorer(lab, tmp_path, mnist):
    with Browser(tmp_path/'profile') as browser:
        run_all(browser, lab('nbs/tutorials/explorer.ipynb'), 400)
        slide_and_click(browser)
        paint_a_one(browser)
        start_stop_go_on(browser)
