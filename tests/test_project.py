"The tree itself: notebooks, package and scripts say the same; README is generated; the Makefile's names."
import json, subprocess, sys
from pathlib import Path
import pytest
from conftest import top

notebooks = sorted(path for path in (top/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in path.parts)


@pytest.mark.parametrize('path', notebooks, ids=lambda path: path.name)
def test_notebook_metadata_and_size(path):
    notebook = json.loads(path.read_text())
    assert notebook['metadata'] == {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}
    assert path.stat().st_size < 500_000
    assert not any(output['output_type'] == 'error' for cell in notebook['cells'] for output in cell.get('outputs', []))


def test_script_is_exported(tmp_path):
    code = f"from nbdev.export import nb_export; nb_export('nbs/_train_script.ipynb', lib_path={str(tmp_path)!r}, name='train')"
    subprocess.run([sys.executable, '-c', code], cwd=top, check=True)
    body = lambda path: [line for line in path.read_text().splitlines() if not line.startswith('#')]
    assert body(tmp_path/'train.py') == body(top/'scripts/train.py')


def test_readme_is_generated():
    subprocess.run([sys.executable, 'scripts/make_readme.py', '--check'], cwd=top, check=True)


def test_make_names_runs_after_their_options():
    said = lambda *options: subprocess.run(['make', '-n', '-o', 'setup', '--no-print-directory', 'train', *options], cwd=top, capture_output=True, text=True, check=True).stdout
    name = lambda *options: said(*options).split("--name '")[1].split("'")[0]
    assert name() == 'quickstart'
    assert name('DATASET=mnist', 'ARCH=lenet5', 'EPOCHS=20') == 'mnist-lenet5-20'
    assert name('ARCH=lenet5', 'NAME=mine') == 'mine'


def test_every_notebook_is_in_the_sidebar():
    sidebar = (top/'_quarto.yml').read_text()
    missing = [path.name for path in notebooks if path.relative_to(top/'nbs').as_posix() not in sidebar and not path.name.startswith('_')]
    assert not missing
