"JupyterLab for real: a person opens a tutorial, runs all cells and uses the explorer."
import json, os, shutil, socket, subprocess, sys, time
import pytest
from browser import Browser, chromium
from conftest import top

pytestmark = pytest.mark.skipif(not chromium or os.environ.get('TRAIN_TICKET_LAB') == '0', reason='JupyterLab in a browser: install Debian\'s chromium, and set no TRAIN_TICKET_LAB=0')   # 75 s on two quiet cores
CODE = '(m => [...Array(m.length).keys()].map(i => m.get(i)).filter(cell => cell.type == "code"))(window.jupyterapp.shell.currentWidget.content.model.cells)'
IDLE = '(context => !!context?.isReady && context.session?.kernel?.connectionStatus == "connected" && context.session.kernel.status == "idle")(window.jupyterapp?.shell?.currentWidget?.sessionContext)'
SHOTS = os.environ.get('SCREENSHOTS')   # a folder, to look at what the tests saw


@pytest.fixture(scope='module')
def lab(tmp_path_factory, environment):
    "JupyterLab on a copy of nbs/ and results/; its address, with the token."
    folder = tmp_path_factory.mktemp('lab')
    for name in 'nbs', 'results': shutil.copytree(top/name, folder/name, ignore=shutil.ignore_patterns('runs', '.ipynb_checkpoints', '_quarto.yml'))
    for path in (folder/'nbs').rglob('*.ipynb'):                    # outputs must come from this session
        notebook = json.loads(path.read_text())
        for cell in notebook['cells']:
            if cell['cell_type'] == 'code': cell.update(outputs=[], execution_count=None)
            if path.name == 'explorer.ipynb': cell['source'] = [line.replace('epochs=4', 'epochs=1') for line in cell['source']]   # a coarser ticket is enough
        path.write_text(json.dumps(notebook))
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    own = {key: value for key, value in environment.items() if key != 'MPLBACKEND'} | dict(PYTHONPATH=str(top), JUPYTER_CONFIG_DIR=str(folder/'config'), JUPYTERLAB_SETTINGS_DIR=str(folder/'settings'), JUPYTERLAB_WORKSPACES_DIR=str(folder/'workspaces'), JUPYTER_RUNTIME_DIR=str(folder/'runtime'))
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--port={port}', '--ServerApp.port_retries=0', '--IdentityProvider.token=secret', f'--ServerApp.root_dir={folder}', '--LabApp.news_url=None', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.extension_manager=readonly', '--LabApp.expose_app_in_browser=True']
    with open(folder/'log', 'w') as log: process = subprocess.Popen(command, cwd=folder, env=own, stdout=log, stderr=log)
    end = time.monotonic() + 60
    while True:
        try: socket.create_connection(('127.0.0.1', port), 1).close(); break
        except OSError: assert process.poll() is None and time.monotonic() < end, (folder/'log').read_text()[-2000:]; time.sleep(.2)
    yield lambda path: f'http://127.0.0.1:{port}/lab/tree/{path}?token=secret&reset'
    process.terminate(); process.wait(20)


def run_all(browser, address, seconds):
    "Open a notebook, run all its cells, wait until they have run; an `AssertionError` where one fails."
    browser.size(1300, 1000)
    browser.go(address)
    def ready():
        browser.click(900, 900)                                     # the notebook gets the focus, and its commands with it
        return browser.evaluate(IDLE)
    browser.wait(ready, 120, 'the notebook and its kernel')
    browser.evaluate('void window.jupyterapp.commands.execute("notebook:run-all-cells")')
    browser.wait(f'{CODE}[0].executionCount', 120, 'the first cell')
    error = f'{CODE}.flatMap(cell => cell.outputs.toJSON()).filter(output => output.output_type == "error").map(output => output.ename + ": " + output.evalue)'
    browser.wait(f'{error}.length || ({IDLE} && {CODE}.at(-1).executionCount)', seconds, 'all cells')
    assert browser.evaluate(error) == []


def shot(browser, name):
    if SHOTS: browser.screenshot(f'{SHOTS}/{name}.png')


def middle(browser, selector): # scroll there; → x, y of its middle
    browser.evaluate(f'document.querySelector("{selector}").scrollIntoView({{block: "center"}})'); time.sleep(.5)
    return browser.evaluate(f'(box => [box.x + box.width/2, box.y + box.height/2])(document.querySelector("{selector}").getBoundingClientRect())')


def test_first_ticket(lab, tmp_path, mnist):
    with Browser(tmp_path/'profile') as browser:
        run_all(browser, lab('nbs/tutorials/first_ticket.ipynb'), 400)
        figures = f'{CODE}.map(cell => cell.outputs.toJSON().filter(output => output.data?.["image/png"]).length)'
        assert browser.evaluate(figures)[-2] == 1, 'the closing figure'
        browser.wait('(pictures => pictures.length && [...pictures].at(-1).naturalWidth > 400)(document.querySelectorAll(".jp-Notebook .jp-OutputArea img"))', 20, 'the closing figure')
        shot(browser, 'first_ticket')


def test_explorer(lab, tmp_path, mnist):
    with Browser(tmp_path/'profile') as browser:
        run_all(browser, lab('nbs/tutorials/explorer.ipynb'), 400)
        picture, said = 'document.querySelector(".tt-picture").toDataURL()', 'document.querySelector(".tt-said").textContent'
        browser.wait(f'document.querySelector(".tt-picture") && {said}.includes("accuracy")', 20, 'the picture of the layer')
        before, text = browser.evaluate(picture), browser.evaluate(said)
        browser.evaluate('document.querySelector(".jp-Notebook .noUi-handle").focus()')
        for _ in range(2): browser.key('ArrowRight', 39)
        browser.wait(f'{picture} != {json.dumps(before)} && {said} != {json.dumps(text)}', 20, 'the picture to change')
        x, y = middle(browser, '.tt-picture')
        browser.click(x, y)
        assert 'Unit' in browser.wait('document.querySelector(".tt-found").textContent', 20, 'what the unit connects to')
        shot(browser, 'explorer')
        x, y = middle(browser, '.tt-paint')
        browser.mouse('mousePressed', x, y - 80)
        for step in range(-80, 81, 8): browser.mouse('mouseMoved', x, y + step)
        browser.mouse('mouseReleased', x, y + 80)
        assert 'ticket: 1' in browser.wait('document.querySelector(".tt-guess").textContent', 20, 'a guess')
        shot(browser, 'drawing')
        press = lambda label: browser.evaluate(f'[...document.querySelectorAll(".jp-Notebook button")].find(button => button.textContent == "{label}").click()')
        epoch = 'Number((document.querySelector(".jp-Notebook").textContent.match(/epoch (\\d+) of 200/) || [0, 0])[1])'
        press('start'); reached = browser.wait(epoch, 180, 'the first epoch of a live run')
        press('stop'); browser.wait(r'/epoch \d+ of 200, validation accuracy [\d.]+% \(stopped\)/.test(document.querySelector(".jp-Notebook").textContent)', 60, 'the run to stop')   # the words alone stand in the code
        press('go on'); browser.wait(f'{epoch} > {reached} + 2', 60, 'the run to go on')
        middle(browser, '.jp-Notebook .widget-image'); shot(browser, 'live')
        press('stop')
