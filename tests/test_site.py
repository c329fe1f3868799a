"The rendered site, as `make docs` builds it without Quarto: its sidebar, its links, its looks in a browser."
import os, re, subprocess, sys, threading
from collections import Counter
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import pytest, yaml
from browser import Browser, chromium
from conftest import top


def is_page(path) -> bool:
    return not path.name.startswith('_') and '.ipynb_checkpoints' not in path.parts


found = filter(is_page, (top/'nbs').rglob('*.ipynb'))
notebooks = sorted(path.relative_to(top/'nbs').as_posix() for path in found)
CODE = 'pre', 'code', 'script', 'style'


class Page(HTMLParser):
    "A page's links, pictures, anchors, cells of tables, and its text outside code."
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.text, self.code = [], [], [], 0
        self.pictures, self.cells, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        if 'id' in given:
            self.ids.append(given['id'])
        if tag == 'img':
            self.pictures.append(given.get('alt'))
        if tag in ('td', 'th'):
            self.cells.append('')
        self.links += [given[key] for key in ('href', 'src') if given.get(key)]
        self.code += tag in CODE

    def handle_endtag(self, tag):
        self.tags.append(f'/{tag}')
        self.code -= tag in CODE

    def handle_data(self, data):
        if self.tags and self.tags[-1] in ('td', 'th'):
            self.cells[-1] += data
        if not self.code:
            self.text.append(data)


@pytest.fixture(scope='module')
def site(tmp_path_factory, environment):
    folder = tmp_path_factory.mktemp('site')/'_docs'
    command = [sys.executable, 'scripts/make_docs.py', '--plain', '--output', folder]
    own = environment | dict(PYTHONPATH=str(top))
    done = subprocess.run(command, cwd=top, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope='module')
def pages(site):
    found = (path for path in site.rglob('*.html') if path.name != 'draw.html')   # which test_c.py tests
    return {path.relative_to(site).as_posix(): Page(path.read_text()) for path in found}


def test_every_notebook_has_a_page_and_a_place_in_the_sidebar(pages):
    sections = yaml.safe_load((top/'_quarto.yml').read_text())['website']['sidebar']['contents']
    items = [item for section in sections for item in section.get('contents', [section])]
    assert sorted(item if isinstance(item, str) else item['href'] for item in items) == notebooks
    assert len(pages) == len(notebooks) and 'index.html' in pages


def leads_somewhere(link: str, name: str, site, pages) -> bool: # name: of the page that has the link
    path, _, anchor = link.partition('#')
    target = ((site/name).parent/path).resolve() if path else (site/name).resolve()
    if not target.is_file(): return False
    if not anchor or target.suffix != '.html': return True
    return anchor in pages[target.relative_to(site.resolve()).as_posix()].ids


def test_no_dead_internal_link(site, pages):
    links = [(link, name) for name, page in pages.items() for link in page.links]
    internal = [found for found in links if not re.match(r'[a-z]+:', found[0])]
    assert [found for found in internal if not leads_somewhere(*found, site, pages)] == []


def test_nothing_raw_is_shown(site, pages):
    for name, page in pages.items():
        text = ''.join(page.text)
        assert not re.search(r'^:::|\{target=|\{\.\w|\$\\', text, flags=re.M), name
        assert not re.search(r'^(<[^>]+>)*#\|', (site/name).read_text(), flags=re.M), name
        assert not re.search(r'/(?:work|root|home|Users)/|/tmp/(?!tmp)', text), name   # a path of one machine


def test_every_id_is_given_once(pages):
    twice = {name: [i for i, count in Counter(page.ids).items() if count > 1] for name, page in pages.items()}
    assert {name: ids for name, ids in twice.items() if ids} == {}


def test_a_heading_named_like_an_entry_leaves_it_its_anchor(site):
    text = (site/'masks.html').read_text()   # it has a section and a class of this name
    before = text[:re.search('<h3 id="inventory"', text).start()]
    assert 'class="source"' in before[before.rindex('<h'):]


def test_every_picture_has_words_in_its_place(pages):
    default = None, '', 'No description has been provided for this image'
    assert [name for name, page in pages.items() if set(default) & set(page.pictures)] == []
    assert sum(len(page.pictures) for page in pages.values()) > 50


def test_tables_have_no_nan(pages):
    wrong = {'nan', '<na>', 'nat'}
    cells = {name: {cell.strip().lower() for cell in page.cells} for name, page in pages.items()}
    assert [name for name, found in cells.items() if wrong & found] == []
    assert any('–' in page.cells for page in pages.values())


def test_no_line_breaks_beside_plus_minus(pages):
    texts = {name: ''.join(page.text) for name, page in pages.items()}
    assert [name for name, text in texts.items() if re.search(r'[ \n]±[ \n]', text)] == []
    assert '\u00a0±\u00a0' in texts['index.html']


def test_links_to_source(pages):
    source = re.compile(r'/blob/main/train_ticket/ticket\.py#L\d+$')
    assert any(source.search(link) for link in pages['ticket.html'].links)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass


@pytest.fixture
def address(site):
    "The site, served on this machine."
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


SEARCH = '''(() => {
    const box = document.querySelector("#tt-search");
    box.value = "unpack";
    box.dispatchEvent(new Event("input"));
})()'''


# in JavaScript: what sticks out of the screen and can't be scrolled to
CUT = '''[...document.querySelectorAll("main *")].filter(part => {
    const box = part.getBoundingClientRect();
    let around = part;
    while (around && getComputedStyle(around).overflowX == "visible") around = around.parentElement;
    return !around && box.width && box.right > innerWidth + 1;
}).map(part => part.outerHTML.slice(0, 80))'''


SHOTS = os.environ.get('SCREENSHOTS')   # a folder, to look at what the test saw
SHOWN = 'index.html', 'experiments/which_gate.html', 'ticket.html', 'theory.html'


def shoot(browser, name):
    for width in 390, 1440:
        browser.size(width, 900)
        browser.screenshot(f'{SHOTS}/{name.replace("/", "-")}-{width}.png')


@pytest.mark.skipif(not chromium, reason='Chromium is not installed (Debian: apt-get install chromium)')
def test_in_a_browser(address, pages, tmp_path):
    with Browser(tmp_path/'profile') as browser:
        for name in pages:
            browser.go(f'{address}/{name}')
            for width in 390, 1440:
                browser.size(width, 900)
                assert browser.evaluate('document.documentElement.scrollWidth') <= width, (name, width)
                assert browser.evaluate(CUT) == [], (name, width)
                folded = f'document.querySelector("nav details").open == {str(width > 760).lower()}'
                browser.wait(folded, 10, f'the list of pages on {name} at {width}')
            if SHOTS and name in SHOWN:
                shoot(browser, name)
            assert not browser.errors(), name
            assert browser.evaluate('[...document.images].every(image => image.naturalWidth > 0)'), name
        browser.evaluate(SEARCH)
        assert 'coding.html#unpack' in browser.evaluate('document.querySelector("#tt-found a").href')
