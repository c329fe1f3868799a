"The tree itself: notebooks, package and scripts agree; README is generated; the Makefile's names."
import json, re, subprocess, sys
from pathlib import Path
import pytest
from conftest import top
from train_ticket.config import OPTIONS

notebooks = sorted(path for path in (top/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in path.parts)


@pytest.mark.parametrize('path', notebooks, ids=lambda path: path.name)
def test_notebook_metadata_and_size(path):
    notebook = json.loads(path.read_text())
    kernel = dict(display_name='python3', language='python', name='python3')
    assert notebook['metadata'] == dict(kernelspec=kernel)
    assert path.stat().st_size < 500_000
    outputs = [output for cell in notebook['cells'] for output in cell.get('outputs', [])]
    assert not any(output['output_type'] == 'error' for output in outputs)


def test_script_is_exported(tmp_path):
    code = f"nb_export('nbs/_train_script.ipynb', lib_path={str(tmp_path)!r}, name='train')"
    subprocess.run([sys.executable, '-c', f'from nbdev.export import nb_export; {code}'], cwd=top, check=True)
    assert statements(tmp_path/'train.py') == statements(top/'scripts/train.py')


def statements(path):
    return [line for line in path.read_text().splitlines() if not line.startswith('#')]


def test_oldest_python():
    "In Python 3.10, which settings.ini allows, `catch_warnings` does not take a filter's arguments."
    package = (top/'train_ticket').glob('*.py')
    assert [path.name for path in package if 'catch_warnings(action' in path.read_text()] == []


def test_readme_is_generated():
    subprocess.run([sys.executable, 'scripts/make_readme.py', '--check'], cwd=top, check=True)


def test_make_names_runs_after_their_options():
    assert run_name() == 'quickstart'
    assert run_name('DATASET=mnist', 'ARCH=lenet5', 'EPOCHS=20') == 'mnist-lenet5-epochs-20'
    assert run_name('EPOCHS=2') == 'epochs-2'
    assert run_name('ARCH=lenet5', 'NAME=mine') == 'mine'
    assert run_name('MODEL=net.py:small', 'KEEP=.25') == 'net.py-small-keep-.25'


def run_name(*options) -> str: # of the run that `make train` would start
    command = ['make', '-n', '-o', 'setup', '--no-print-directory', 'train', *options]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=True)
    return done.stdout.split("--name '")[1].split("'")[0]


def test_make_passes_options_on():
    command = ['make', '-n', '-o', 'setup', 'train', 'KEEP=.25', 'IN_SHAPE=3x32x32']
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=True)
    assert '--keep .25' in done.stdout and '--in_shape 3x32x32' in done.stdout


def test_makes_options_exist():
    names = re.search(r'^OPTIONS = (.*)$', (top/'Makefile').read_text(), re.M)[1].lower().split()
    assert set(names) <= set(OPTIONS)


def test_every_notebook_is_in_the_sidebar():
    sidebar = (top/'_quarto.yml').read_text()
    names = [path.relative_to(top/'nbs').as_posix() for path in notebooks if not path.name.startswith('_')]
    assert not [name for name in names if name not in sidebar]
