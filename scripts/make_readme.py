"""README.md from nbs/index.ipynb, without Quarto: python scripts/make_readme.py [--check]

nbdev's processors drop hidden cells and directives; nbconvert writes Markdown; links into nbs/ are made to
work from the top.
"""
import re, sys
from pathlib import Path
from nbconvert import MarkdownExporter
from nbdev.process import NBProcessor
from nbdev.processors import FilterDefaults
import nbformat
from nbformat.v4.rwbase import rejoin_lines

top = Path(__file__).resolve().parent.parent
UNWANTED = 'add_links', 'insert_warning', 'FrontmatterProc'
NOTE = '<!-- Generated from nbs/index.ipynb by `make readme`: edit the notebook. -->\n\n'


def name_of(proc) -> str: return getattr(proc, '__name__', type(proc).__name__)


def render() -> str:
    "The text of README.md."
    procs = [proc for proc in FilterDefaults().procs() if name_of(proc) not in UNWANTED]
    processor = NBProcessor(top/'nbs/index.ipynb', procs=procs)
    processor.process()
    notebook = rejoin_lines(nbformat.from_dict(processor.nb))
    notebook.metadata.language_info = dict(name='python')
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    text = re.sub(r'```python\n#\| echo: false\n.*?\n```\n', '', text, flags=re.S)
    text = re.sub(r'\]\((?!https?:|#|/)([^)]+)\)', r'](nbs/\1)', text)   # links beside index.ipynb
    return NOTE + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


if __name__ == '__main__':
    readme = top/'README.md'
    if '--check' in sys.argv:
        same = readme.read_text() == render()
        sys.exit(None if same else 'README.md is not what `make readme` makes of nbs/index.ipynb')
    readme.write_text(render())
