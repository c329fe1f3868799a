"Headless Chromium by its debugging protocol: what the tests of the site and of JupyterLab share."
import base64, json, re, shutil, subprocess, time, urllib.request
from pathlib import Path

found = map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))
chromium = next(filter(None, found), None)
FLAGS = '''--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0'''.split()


class Browser:
    "One page of a browser; use it in a `with`."
    def __init__(self, folder: Path): # an empty folder for the profile
        from websocket import create_connection
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        command = [chromium, *FLAGS, f'--user-data-dir={folder}', 'about:blank']
        self.process, self.number, self.events = subprocess.Popen(command, **quiet), 0, []
        port = self.wait(lambda: first_line(folder/'DevToolsActivePort'), 30)
        pages = json.load(urllib.request.urlopen(f'http://127.0.0.1:{port}/json/list'))
        address = next(page['webSocketDebuggerUrl'] for page in pages if page['type'] == 'page')
        self.socket = create_connection(address, suppress_origin=True, timeout=60)
        for domain in 'Page', 'Runtime', 'Log', 'Network':
            self.send(f'{domain}.enable')

    def __enter__(self): return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)

    def send(self, method: str, **params) -> dict:
        self.number += 1
        self.socket.send(json.dumps(dict(id=self.number, method=method, params=params)))
        while (message := json.loads(self.socket.recv())).get('id') != self.number:
            self.events.append(message)
        assert 'error' not in message, message
        return message['result']

    def evaluate(self, script: str): # a JavaScript expression → its value
        found = self.send('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in found, found
        return found['result'].get('value')

    def wait(self, ask, seconds: float = 30, what: str = ''): # ask: a function, or a JavaScript expression
        "Ask until the answer is true; the answer."
        end = time.monotonic() + seconds
        while not (found := self.evaluate(ask) if isinstance(ask, str) else ask()):
            assert time.monotonic() < end, f'waited {seconds} s for {what or ask}'
            time.sleep(.1)
        return found

    def go(self, address: str):
        "Open a page, and wait until it has loaded."
        self.events.clear()
        self.send('Page.navigate', url=address)
        path = json.dumps(re.split('[?#]', address)[0])
        loaded = f'location.href.split(/[?#]/)[0] == {path} && document.readyState == "complete"'
        self.wait(loaded, what=address)

    def size(self, width: int, height: int, scale: int = 1): # scale: pixels of the screen per point
        about = dict(width=width, height=height, deviceScaleFactor=scale, mobile=False)
        self.send('Emulation.setDeviceMetricsOverride', **about)

    def key(self, key: str, code: int, modifiers: int = 0): # modifiers: 2 control, 8 shift
        about = dict(key=key, code=key, windowsVirtualKeyCode=code, modifiers=modifiers)
        for kind in 'rawKeyDown', 'keyUp':
            self.send('Input.dispatchKeyEvent', type=kind, **about)

    def mouse(self, kind: str, x: float, y: float, button: str = 'left'):
        about = dict(button=button, buttons=int(button == 'left'), clickCount=1)
        self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y, **about)

    def click(self, x: float, y: float):
        self.mouse('mousePressed', x, y)
        self.mouse('mouseReleased', x, y)

    def screenshot(self, path: Path):
        Path(path).write_bytes(base64.b64decode(self.send('Page.captureScreenshot')['data']))

    def errors(self) -> list: # of texts
        "What the console has complained of since `go`."
        self.evaluate('1')
        kinds = 'Runtime.exceptionThrown', 'Runtime.consoleAPICalled', 'Log.entryAdded'
        entries = [event['params'] for event in self.events if event.get('method') in kinds]
        return [str(entry)[:300] for entry in entries if is_error(entry)]


def is_error(entry: dict) -> bool: # of the console
    if 'exceptionDetails' in entry or entry.get('type') == 'error': return True
    return entry.get('entry', {}).get('level') == 'error'


def first_line(path: Path) -> str: # '' where there is no file yet
    return path.read_text().split('\n')[0] if path.exists() else ''
