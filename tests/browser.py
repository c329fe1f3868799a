"Headless Chromium by its debugging protocol: what the tests of the site and of JupyterLab share."
import base64, json, re, shutil, subprocess, time, urllib.request
from pathlib import Path

chromium = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
FLAGS = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0'.split()


class Browser:
    "One page of a browser; use it in a `with`."
    def __init__(self, folder: Path): # an empty folder for the profile
        from websocket import create_connection
        self.process = subprocess.Popen([chromium, *FLAGS, f'--user-data-dir={folder}', 'about:blank'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = self.wait(lambda: (folder/'DevToolsActivePort').exists() and (folder/'DevToolsActivePort').read_text().split('\n')[0], 30)
        page = next(page for page in json.load(urllib.request.urlopen(f'http://127.0.0.1:{port}/json/list')) if page['type'] == 'page')
        self.socket, self.number, self.events = create_connection(page['webSocketDebuggerUrl'], suppress_origin=True, timeout=60), 0, []
        for domain in 'Page', 'Runtime', 'Log', 'Network': self.send(f'{domain}.enable')
    def __enter__(self): return self
    def __exit__(self, *_): self.socket.close(); self.process.terminate(); self.process.wait(10)

    def send(self, method: str, **params) -> dict:
        self.number += 1
        self.socket.send(json.dumps(dict(id=self.number, method=method, params=params)))
        while (message := json.loads(self.socket.recv())).get('id') != self.number: self.events.append(message)
        assert 'error' not in message, message
        return message['result']

    def evaluate(self, script: str): # a JavaScript expression → its value
        found = self.send('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in found, found
        return found['result'].get('value')

    def wait(self, ask, seconds: float = 30, what: str = ''): # until ask() is true; ask may be a JavaScript expression
        end = time.monotonic() + seconds
        while not (found := self.evaluate(ask) if isinstance(ask, str) else ask()):
            assert time.monotonic() < end, f'waited {seconds} s for {what or ask}'
            time.sleep(.1)
        return found

    def go(self, address: str):
        self.events.clear()
        self.send('Page.navigate', url=address)
        path = re.split('[?#]', address)[0]
        self.wait(f'location.href.split(/[?#]/)[0] == {json.dumps(path)} && document.readyState == "complete"', what=address)

    def size(self, width: int, height: int): self.send('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)
    def key(self, key: str, code: int, modifiers: int = 0): # modifiers: 2 control, 8 shift
        for kind in 'rawKeyDown', 'keyUp': self.send('Input.dispatchKeyEvent', type=kind, key=key, code=key, windowsVirtualKeyCode=code, modifiers=modifiers)
    def mouse(self, kind: str, x: float, y: float, button: str = 'left'): self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y, button=button, buttons=int(button == 'left'), clickCount=1)
    def click(self, x: float, y: float): self.mouse('mousePressed', x, y); self.mouse('mouseReleased', x, y)
    def screenshot(self, path: Path): Path(path).write_bytes(base64.b64decode(self.send('Page.captureScreenshot')['data']))

    def errors(self) -> list: # what the console has complained of since `go`
        self.evaluate('1')
        said = [event['params'] for event in self.events if event.get('method') in ('Runtime.exceptionThrown', 'Runtime.consoleAPICalled', 'Log.entryAdded')]
        return [str(p)[:300] for p in said if 'exceptionDetails' in p or p.get('type') == 'error' or p.get('entry', {}).get('level') == 'error']
