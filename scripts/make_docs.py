"""The site, into _docs: python scripts/make_docs.py [--plain] [--output FOLDER]

nbdev's processors make pages of the notebooks (in _proc). Quarto renders them where it is installed.
Elsewhere, or with --plain, nbconvert does, into the same folder: the same pages, sidebar and links, a
search over headings, no theme. What such a page looks like is in scripts/site/.
"""
import argparse, html, itertools, json, os, re, shutil, subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from execnb.nbio import read_nb, write_nb
from nbconvert import HTMLExporter
from nbdev import processors
from nbdev.config import get_config
from nbdev.process import NBProcessor
from traitlets.config import Config
from pygments.formatters import HtmlFormatter
import nbformat, yaml
from nbformat.v4.rwbase import rejoin_lines

top = Path(__file__).resolve().parent.parent
LOOKS = top/'scripts'/'site'


# ---- the notebooks, with the documentation of what they export

def processed(path: Path):
    "A notebook as nbdev's processors leave it."
    procs = [proc for proc in processors.FilterDefaults().procs()
             if getattr(proc, '__name__', '') != 'insert_warning']
    processor = NBProcessor(path, procs=procs)
    processor.process()
    return processor.nb


def process(pages: list, proc: Path):
    "All notebooks into _proc, with what they show."
    shutil.rmtree(proc, ignore_errors=True)
    others = shutil.ignore_patterns('*.ipynb', '.*', '__pycache__')
    shutil.copytree(top/'nbs', proc, ignore=others, symlinks=False)
    for page in pages:
        (proc/page).parent.mkdir(parents=True, exist_ok=True)
        write_nb(processed(top/'nbs'/page), proc/page)


def sidebar(config: dict) -> list: # of (section, [(page, its own text or None)])
    "The sidebar of _quarto.yml."
    def entry(item): return (item, None) if isinstance(item, str) else (item['href'], item.get('text'))
    items = config['website']['sidebar']['contents']
    return [(item.get('section', ''), [entry(inner) for inner in item.get('contents', [item])])
            for item in items]


# ---- pages without Quarto

def math(text: str) -> str:
    "LaTeX between dollars as MathML, which browsers draw by themselves."
    from latex2mathml.converter import convert
    def formula(m): return convert(html.unescape(m[2]), display='block' if m[1] == '$$' else 'inline')
    pieces = re.split(r'(<(?:pre|code|script|style)\b.*?</(?:pre|code|script|style)>)', text, flags=re.S)
    for i, piece in enumerate(pieces):
        if not re.match(r'<(pre|code|script|style)\b', piece):
            pieces[i] = re.sub(r'(\$\$?)(?=\S)([^$]+?)(?<=\S)\1', formula, piece)
    return ''.join(pieces)


def without_quarto(text) -> str: # of Markdown
    "Without fenced divs and attributes in braces; links to the source as HTML."
    link = r'<a class="source" href="\1">source</a>'
    text = re.sub(r'\[source\]\(([^)]*)\)\{target=[^}]*\}', link, ''.join(text))
    return re.sub(r'^:{3,}.*\n?|\s*\{(?:#|\.)[\w.# ="-]+\}[ \t]*$', '', text, flags=re.M)


def clean_code(cell):
    "Apply a cell's directives: echo, output, include, fig-alt."
    directives = dict(re.findall(r'^#\|\s*([\w-]+):?\s*(.*?)\s*$', cell.source, flags=re.M))
    hidden = directives.get('echo') == 'false'
    cell.source = '' if hidden else re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()
    if 'false' in (directives.get('output'), directives.get('include')):
        cell.outputs = []
    if not cell.source:
        cell.metadata = dict(tags=['bare'])
    if 'fig-alt' in directives:
        for output in cell.outputs:
            output['metadata'] = {'image/png': dict(alt=json.loads(directives['fig-alt']))}


def clean_outputs(cell):
    "Drop widgets, which are dead without a kernel, and clean Markdown."
    widget = 'application/vnd.jupyter.widget-view+json'
    cell.outputs = [output for output in cell.get('outputs', []) if widget not in output.get('data', {})]
    for output in cell.outputs:
        if 'text/markdown' in output.get('data', {}):
            output['data'] = {'text/markdown': without_quarto(output['data']['text/markdown'])}


def cleaned(notebook) -> dict: # title, description, address
    "Remove what only Quarto reads: front matter, directives, hidden sources, fenced divs."
    about = dict(title='train_ticket', description='', address=None)
    for cell in notebook.cells:
        if cell.cell_type == 'raw' and cell.source.startswith('---'):
            front = yaml.safe_load(cell.source.strip().strip('-'))
            about |= dict(title=front.get('title', about['title']), address=front.get('output-file'),
                          description=front.get('description') or '')
            subtitle = f'<p class="subtitle">{html.escape(about["description"])}</p>'
            cell.cell_type, cell.source = 'markdown', f'# {about["title"]}\n\n{subtitle}'
        elif cell.cell_type == 'code':
            clean_code(cell)
        elif cell.cell_type == 'markdown':
            cell.source = without_quarto(cell.source)
        clean_outputs(cell)
    return about


@dataclass
class Page:
    "A page of the site."
    path: str           # Of the notebook, seen from nbs/
    title: str
    description: str
    address: str        # Of the page, seen from the site's root
    body: str           # HTML

    @property
    def root(self) -> str: return '../'*self.path.count('/')

    def headings(self) -> list: # of (text, address)
        found = [(self.title, self.address)]
        for anchor, text in re.findall(r'<h[23] id="([^"]+)"[^>]*>(.*?)</h[23]>', self.body, flags=re.S):
            text = re.sub('<.*?>|¶', '', text).strip()
            found.append((f'{self.title}: {text}', f'{self.address}#{anchor}'))
        return found


def lower_anchors(body: str) -> str:
    "Anchors in lower case, as Quarto makes them."
    def lowered(m):
        attribute, address, anchor = m[1], m[2] or '', m[3]
        return f'{attribute}"{address}{anchor.lower() if address or attribute != "href=" else anchor}"'
    return re.sub(r'(<h\d id=|href=)"([^":]*#)?([^"]*)"', lowered, body)


def unique_ids(body: str) -> str:
    "Ids of headings, each given once: to the entry of the reference, else to the first heading that has it."
    found = list(re.finditer(r'<h\d id="([^"]*)"', body))
    entries = {m.start(): 'class="source"' in body[:m.start()].rpartition('<h')[2] for m in found}
    owners, taken = {}, set()
    for m in sorted(found, key=lambda m: (not entries[m.start()], m.start())):
        owners.setdefault(m[1], m.start())
    def numbered(m):
        names = (f'{m[2]}-{i}' for i in itertools.count(1))
        name = m[2] if owners[m[2]] == m.start() else next(n for n in names if n not in owners.keys() | taken)
        taken.add(name)
        return f'{m[1]}"{name}"'
    return re.sub(r'(<h\d id=)"([^"]*)"', numbered, body)


@cache
def exporter() -> HTMLExporter: # the same for all pages, so that it compiles its templates once
    "From notebooks to HTML: without prompts, and without the code of cells that are tagged bare."
    bare = Config(TagRemovePreprocessor=dict(enabled=True, remove_input_tags=['bare']))
    made = HTMLExporter(template_name='basic', exclude_input_prompt=True, exclude_output_prompt=True,
                        config=bare)
    made.display_data_priority = ['text/html', 'text/markdown', 'image/svg+xml', 'image/png', 'text/plain']
    return made


def make_page(path: str, proc: Path) -> Page:
    "The page of a notebook in _proc."
    notebook = read_nb(proc/path)
    about = cleaned(notebook)
    notebook = nbformat.from_dict(rejoin_lines(nbformat.from_dict(notebook)))
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip() or cell.get('outputs')]
    notebook.metadata.language_info = dict(name='python')
    body, _ = exporter().from_notebook_node(notebook)
    address = Path(path).with_name(about['address'] or Path(path).stem + '.html').as_posix()
    return Page(path, about['title'], about['description'], address, math(unique_ids(lower_anchors(body))))


def config_value(key: str) -> str: return get_config().get(key)


def with_links(page: Page, pages: dict) -> str: # the body
    "Links to notebooks as links to their pages."
    site = config_value('doc_host') + config_value('doc_baseurl')
    def of_site(m): return f'href="{page.root}{m[1].lower() or "index.html"}"'   # nbdev's, made from names
    def of_notebook(m):
        target = os.path.normpath(Path(page.path).parent/m[1])
        address = pages[target].address if target in pages else f'missing/{target}'
        return f'href="{page.root}{address}{m[2] or ""}"'
    body = re.sub(rf'href="{re.escape(site)}/?([^"]*)"', of_site, page.body)
    return re.sub(r'href="(?![a-z]+:)([^"#]*\.ipynb)(#[^"]*)?"', of_notebook, body)


def menu_html(page: Page, menu: list, pages: dict) -> str:
    "The sidebar, seen from a page."
    def entry(path, text):
        target, current = pages[path], ' aria-current=page'*(path == page.path)
        link = f'<a href="{page.root}{target.address}"{current}>{html.escape(text or target.title)}</a>'
        return f'<li>{link}</li>'
    parts = [f'<h2>{section}</h2>'*bool(section) + f'<ul>{"".join(entry(*item) for item in items)}</ul>'
             for section, items in menu]
    return ''.join(parts)


def plain_site(config: dict, menu: list, proc: Path, docs: Path):
    "The pages of _proc as a static site."
    pages = {path: make_page(path, proc) for _, items in menu for path, _ in items}
    frame, index, website = (LOOKS/'page.html').read_text(), [], config['website']
    fixed = dict(site=html.escape(website['title']), repo=website['repo-url'], branch=website['repo-branch'])
    shutil.rmtree(docs, ignore_errors=True)
    shutil.copytree(proc, docs, ignore=shutil.ignore_patterns('*.ipynb', '_quarto.yml'))
    for page in pages.values():
        page.body = with_links(page, pages)
        index += page.headings()
        own = dict(title=html.escape(page.title), description=html.escape(page.description, quote=True),
                   root=page.root, page=page.path, menu=menu_html(page, menu, pages), body=page.body)
        (docs/page.address).parent.mkdir(parents=True, exist_ok=True)
        (docs/page.address).write_text(frame.format(**fixed, **own))
    colours = HtmlFormatter(style='default').get_style_defs('.highlight')
    (docs/'site.css').write_text((LOOKS/'site.css').read_text() + colours)
    entries = json.dumps([[html.unescape(text), address] for text, address in index])
    (docs/'search.js').write_text(f'const INDEX = {entries};\n' + (LOOKS/'search.js').read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--plain', action='store_true', help='without Quarto, even where it is installed')
    parser.add_argument('--output', type=Path, default=top/'_docs')
    args = parser.parse_args()
    docs = args.output.resolve()
    proc = docs.with_name('_proc')
    os.chdir(top)
    config = yaml.safe_load((top/'_quarto.yml').read_text())
    menu = sidebar(config)
    process([page for _, pages in menu for page, _ in pages], proc)
    if shutil.which('quarto') and not args.plain:
        subprocess.run(['quarto', 'render', '--no-cache'], cwd=proc, check=True)
        shutil.rmtree(docs, ignore_errors=True)
        shutil.move(proc/config['project']['output-dir'], docs)
    else:
        plain_site(config, menu, proc, docs)
    print(f'{docs}/index.html: {sum(1 for _ in docs.rglob("*.html"))} pages')


if __name__ == '__main__':
    main()
