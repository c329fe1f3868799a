"""The site, into _docs: python scripts/make_docs.py [--plain] [--output FOLDER]

nbdev's processors make pages of the notebooks (in _proc). Quarto renders them where it is installed. Elsewhere, or with
--plain, nbconvert does, into the same folder: the same pages, sidebar and links, a search over headings, no theme.
"""
import argparse, html, json, os, re, shutil, subprocess
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


class show_docs(processors.exec_show_docs):
    "As nbdev's, but documents the exported module instead of executing the notebook's cells again."
    def begin(self):
        super().begin()
        module = next((cell.directives_['default_exp'][0] for cell in self.nb.cells if 'default_exp' in (cell.directives_ or {})), None)
        if module: self.k.run_cell(f'import train_ticket.{module}; globals().update(vars(train_ticket.{module}))')
    def __call__(self, cell):
        if self.nb.has_docs_ and processors._is_showdoc(cell): self.k.cell(cell)
        for output in cell.get('outputs', []):                                      # nbdev looks for 'def train_ticket.ticket.pack' and finds no line
            if 'text/markdown' in output.get('data', {}): output['data']['text/markdown'] = re.sub(r'(\w+)\.py#LNone', lambda m: f'{m[1]}.py#L{self.line(m[1], cell)}', ''.join(output['data']['text/markdown']))
        if self.k.exc: raise RuntimeError(f'no documentation for {cell.source}') from self.k.exc
    def line(self, module, cell):
        name = re.search(r'show_doc\(([\w.]+)', cell.source)[1].split('.')[-1]
        return next((i for i, line in enumerate((top/f'train_ticket/{module}.py').read_text().splitlines(), 1) if re.match(rf'\s*(def|class) {name}\b', line)), 1)
    def end(self): pass                                                             # no widgets to embed


def processed(path: Path):
    "A notebook as nbdev's processors leave it."
    procs = [show_docs if proc is processors.exec_show_docs else proc for proc in processors.FilterDefaults().procs()]
    procs = [proc for proc in procs if getattr(proc, '__name__', '') != 'insert_warning']
    processor = NBProcessor(path, procs=procs)
    processor.process()
    return processor.nb


def process(pages: list, proc: Path):
    "All notebooks into _proc, with what they show."
    shutil.rmtree(proc, ignore_errors=True)
    shutil.copytree(top/'nbs', proc, ignore=shutil.ignore_patterns('*.ipynb', '.*', '__pycache__'), symlinks=False)
    for page in pages:
        (proc/page).parent.mkdir(parents=True, exist_ok=True)
        write_nb(processed(top/'nbs'/page), proc/page)


def sidebar(config: dict) -> list: # of (section, [(page, its own text or None)])
    "The sidebar of _quarto.yml."
    entry = lambda item: (item, None) if isinstance(item, str) else (item['href'], item.get('text'))
    return [(item['section'], [entry(inner) for inner in item['contents']]) if 'section' in item else ('', [entry(item)]) for item in config['website']['sidebar']['contents']]


STYLE = '''*{box-sizing:border-box}body{margin:0;font:16px/1.6 system-ui,sans-serif;color:#222;overflow-wrap:break-word}a{color:#0058a3}
header{background:#27313b;padding:.7rem 1.2rem}header a{color:#fff;text-decoration:none;font-weight:600;margin-right:1.2rem}
.frame{display:grid;grid-template-columns:15rem minmax(0,1fr);max-width:78rem;margin:auto}nav{padding:1rem;border-right:1px solid #ddd;font-size:.92rem}nav ul{list-style:none;margin:0;padding:0 0 0 .4rem}
nav h2{font-size:.95rem;margin:1rem 0 .2rem}nav input{width:100%;padding:.35rem;font:inherit}nav [aria-current]{font-weight:600;color:#222}main{padding:1rem 1.6rem;min-width:0}
main img,main svg{max-width:100%;height:auto}pre,table,.jp-OutputArea-output,mjx-container,.math{overflow-x:auto;max-width:100%}pre{background:#f6f8fa;padding:.7rem;border-radius:4px;font-size:.84rem;line-height:1.4}
.output pre,.jp-OutputArea-output pre{background:none;border-left:3px solid #d0d7de;border-radius:0}table{display:block;border-collapse:collapse;font-size:.9rem}th,td{padding:.25rem .6rem;border-bottom:1px solid #e3e3e3;text-align:left}
code{font-size:.9em}h1 code,p code,li code,td code{background:#f2f4f6;padding:.1em .25em;border-radius:3px}blockquote{margin:.6rem 0;padding-left:1rem;border-left:3px solid #ccc;color:#444}math,p:has(math){max-width:100%;overflow-x:auto;overflow-y:hidden}dt,dd,h1,h2,h3{overflow-wrap:anywhere}.anchor-link{display:none}.source{float:right;font-size:.85rem}main hr{border:0;border-top:1px solid #ddd;margin:1.2rem 0 .3rem}.subtitle{font-size:1.15rem;color:#444}
@media(max-width:760px){.frame{display:block}nav{border:0;border-bottom:1px solid #ddd}nav ul{display:flex;flex-wrap:wrap;gap:.1rem .9rem}main{padding:1rem}}'''

SEARCH = '''const box=document.querySelector("#search"),found=document.querySelector("#found");
box.addEventListener("input",()=>{const words=box.value.toLowerCase().split(/\\s+/).filter(Boolean);found.replaceChildren();
if(words.length)for(const [text,href] of INDEX.filter(([text])=>words.every(word=>text.toLowerCase().includes(word))).slice(0,12)){
const item=document.createElement("li"),link=document.createElement("a");link.href=ROOT+href;link.textContent=text;item.append(link);found.append(item)}});'''

FRAME = '''<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><meta name="description" content="{description}">
<link rel="icon" href="data:,"><link rel="stylesheet" href="{root}site.css"></head><body><header><a href="{root}index.html">{site}</a><a href="{repo}">source</a></header><div class="frame"><nav aria-label="pages"><input id="search" type="search" placeholder="search headings" aria-label="search headings"><ul id="found"></ul>{menu}</nav>
<main>{body}<p><a href="{repo}/blob/{branch}/nbs/{page}">Source of this page</a></p></main></div><script>const ROOT="{root}"</script><script src="{root}search.js"></script></body></html>'''


def math(text: str) -> str: # LaTeX between dollars → MathML, which browsers draw by themselves
    from latex2mathml.converter import convert
    part = lambda m: convert(html.unescape(m[2]), display='block' if m[1] == '$$' else 'inline')
    outside = lambda piece: re.sub(r'(\$\$?)(?=\S)([^$]+?)(?<=\S)\1', part, piece)
    return ''.join(piece if re.match(r'<(pre|code|script|style)\b', piece) else outside(piece) for piece in re.split(r'(<(?:pre|code|script|style)\b.*?</(?:pre|code|script|style)>)', text, flags=re.S))


def cleaned(notebook):
    "Without what only Quarto reads: front matter, directives, hidden sources, fenced divs."
    title, description, address = 'train_ticket', '', None
    for cell in notebook.cells:
        if cell.cell_type == 'raw' and cell.source.startswith('---'):
            front = yaml.safe_load(cell.source.strip().strip('-'))
            title, description, address = front.get('title', title), front.get('description', '') or '', front.get('output-file')
            cell.cell_type, cell.source = 'markdown', f'# {title}\n\n<p class="subtitle">{html.escape(description)}</p>'
        elif cell.cell_type == 'code':
            directives = dict(re.findall(r'^#\|\s*([\w-]+):?\s*(.*?)\s*$', cell.source, flags=re.M))
            cell.source = '' if directives.get('echo') == 'false' else re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()
            if directives.get('output') == 'false' or directives.get('include') == 'false': cell.outputs = []
            if not cell.source: cell.metadata = dict(tags=['bare'])
        cell.outputs = [output for output in cell.get('outputs', []) if 'application/vnd.jupyter.widget-view+json' not in output.get('data', {})]   # dead without a kernel
        plain = lambda text: re.sub(r'^:{3,}.*\n?|\s*\{(?:#|\.)[\w.# ="-]+\}[ \t]*$', '', re.sub(r'\[source\]\(([^)]*)\)\{target=[^}]*\}', r'<a class="source" href="\1">source</a>', ''.join(text)), flags=re.M)
        if cell.cell_type == 'markdown': cell.source = plain(cell.source)
        for output in cell.get('outputs', []):
            if 'text/markdown' in output.get('data', {}): output['data'] = {'text/markdown': plain(output['data']['text/markdown'])}
    return title, description, address


def page_html(page: str, proc: Path) -> tuple: # (title, description, address, body) of a page of _proc
    notebook = read_nb(proc/page)
    title, description, address = cleaned(notebook)
    notebook = nbformat.from_dict(rejoin_lines(nbformat.from_dict(notebook)))
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip() or cell.get('outputs')]
    notebook.metadata.language_info = dict(name='python')
    exporter = HTMLExporter(template_name='basic', exclude_input_prompt=True, exclude_output_prompt=True, config=Config(TagRemovePreprocessor=dict(enabled=True, remove_input_tags=['bare'])))
    exporter.display_data_priority = ['text/html', 'text/markdown', 'image/svg+xml', 'image/png', 'text/plain']
    body, _ = exporter.from_notebook_node(notebook)
    body = re.sub(r'(<h\d id=|href=)"([^":]*#)?([^"]*)"', lambda m: f'{m[1]}"{m[2] or ""}{m[3].lower() if m[2] or m[1] != "href=" else m[3]}"', body)   # anchors as Quarto's
    return title, description, Path(page).with_name(address or Path(page).stem + '.html').as_posix(), math(body)


def config_value(key: str) -> str: return get_config().get(key)


def plain_site(config: dict, menu: list, proc: Path, docs: Path):
    "The pages of _proc as a static site."
    website, made = config['website'], {page: page_html(page, proc) for _, pages in menu for page, _ in pages}
    shutil.rmtree(docs, ignore_errors=True)
    shutil.copytree(proc, docs, ignore=shutil.ignore_patterns('*.ipynb', '_quarto.yml'))
    site, index = config_value('doc_host') + config_value('doc_baseurl'), []
    for page, (title, description, address, body) in made.items():
        root, folder = '../'*page.count('/'), Path(page).parent
        def address_of(m):                                                          # of a notebook, seen from this page
            target = os.path.normpath(folder/m[1])
            return f'href="{root}{made[target][2] if target in made else "missing/" + target}{m[2] or ""}"'
        body = re.sub(rf'href="{re.escape(site)}/?([^"]*)"', lambda m: f'href="{root}{m[1].lower() or "index.html"}"', body)   # nbdev's, made from names
        body = re.sub(r'href="(?![a-z]+:)([^"#]*\.ipynb)(#[^"]*)?"', address_of, body)
        index += [(title, address)] + [(f'{title}: {re.sub("<.*?>|¶", "", text).strip()}', f'{address}#{anchor}') for anchor, text in re.findall(r'<h[23] id="([^"]+)"[^>]*>(.*?)</h[23]>', body, flags=re.S)]
        entry = lambda p, text: f'<li><a href="{root}{made[p][2]}"{" aria-current=page" if p == page else ""}>{html.escape(text or made[p][0])}</a></li>'
        listed = ''.join((f'<h2>{section}</h2>' if section else '') + '<ul>' + ''.join(entry(*item) for item in pages) + '</ul>' for section, pages in menu)
        (docs/address).parent.mkdir(parents=True, exist_ok=True)
        (docs/address).write_text(FRAME.format(title=html.escape(title), description=html.escape(description, quote=True), site=html.escape(website['title']), root=root, repo=website['repo-url'], branch=website['repo-branch'], page=page, menu=listed, body=body))
    (docs/'site.css').write_text(STYLE + HtmlFormatter(style='default').get_style_defs('.highlight'))
    (docs/'search.js').write_text(f'const INDEX={json.dumps([[html.unescape(text), href] for text, href in index])};\n{SEARCH}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--plain', action='store_true', help='without Quarto, even where it is installed')
    parser.add_argument('--output', type=Path, default=top/'_docs')
    args = parser.parse_args()
    docs = args.output.resolve(); proc = docs.with_name('_proc')
    os.chdir(top)
    config = yaml.safe_load((top/'_quarto.yml').read_text())
    menu = sidebar(config)
    process([page for _, pages in menu for page, _ in pages], proc)
    if shutil.which('quarto') and not args.plain:
        subprocess.run(['quarto', 'render', '--no-cache'], cwd=proc, check=True)
        shutil.rmtree(docs, ignore_errors=True); shutil.move(proc/config['project']['output-dir'], docs)
    else: plain_site(config, menu, proc, docs)
    print(f'{docs}/index.html: {sum(1 for _ in docs.rglob("*.html"))} pages')
