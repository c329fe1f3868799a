"The diffs that CONTRIBUTING.md shows apply, and do what the text claims."
import json, re, shutil, subprocess, sys
import numpy as np, pytest
from conftest import top


def diffs() -> list: # (notebook, diff)
    found = re.findall(r'```diff\n(.*?)```', (top/'CONTRIBUTING.md').read_text(), re.S)
    return [(re.search(r'--- a/(\S+)\.py', diff)[1] + '.ipynb', diff) for diff in found]


@pytest.fixture(scope='module')
def changed(tmp_path_factory):
    "A copy of the notebooks and the package in which all diffs were applied, and exported."
    jupytext = pytest.importorskip('jupytext.cli').jupytext
    folder = tmp_path_factory.mktemp('changed')
    shutil.copytree(top/'train_ticket', folder/'train_ticket')
    shutil.copytree(top/'scripts', folder/'scripts')
    (folder/'nbs').mkdir()
    for name in 'settings.ini', 'README.md': shutil.copy(top/name, folder/name)
    for path in (top/'nbs').glob('[0-9]*.ipynb'): shutil.copy(path, folder/'nbs'/path.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for notebook, diff in diffs():
            jupytext(['--to', 'py:percent', notebook])
            subprocess.run(['git', 'apply', '-'], input=diff, text=True, check=True, capture_output=True)
            jupytext(['--update', '--to', 'ipynb', notebook.replace('.ipynb', '.py')])
    exports = ''.join(f"; nb_export({notebook!r}, lib_path='train_ticket')" for notebook, _ in diffs())
    code = f'from nbdev.export import nb_export{exports}'
    subprocess.run([sys.executable, '-c', code], cwd=folder, check=True)
    return folder


def idx(array) -> bytes: # of uint8
    "A file in MNIST's format."
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, '>i4').tobytes() + array.tobytes()


@pytest.fixture
def optdigits(tmp_path):
    "The files of the second diff: scikit-learn's digits, as they are, 1,500 to train and 297 to test."
    from sklearn.datasets import load_digits
    digits, folder = load_digits(), tmp_path/'data/optdigits'
    folder.mkdir(parents=True)
    for prefix, rows in ('train', slice(1500)), ('t10k', slice(1500, None)):
        images, labels = digits.images[rows].astype(np.uint8)*15, digits.target[rows].astype(np.uint8)
        (folder/f'{prefix}-images-idx3-ubyte').write_bytes(idx(images))
        (folder/f'{prefix}-labels-idx1-ubyte').write_bytes(idx(labels))


def test_two_diffs():
    assert [notebook for notebook, _ in diffs()] == ['nbs/02_gates.ipynb', 'nbs/07_datasets.ipynb']


def command(changed, tmp_path, environment, *arguments):
    own = environment | dict(PYTHONPATH=str(changed))
    command = [sys.executable, changed/'scripts/train.py', *arguments]
    return subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)


def test_the_gate(changed, environment, tmp_path):
    small = '--dataset digits --in_shape 1x8x8 --epochs 1 --loader resident --device cpu --width .2'.split()
    given = '--gate window --window .3 --name windowed'.split()
    done = command(changed, tmp_path, environment, *small, *given)
    assert done.returncode == 0, done.stderr
    settings = json.loads((tmp_path/'runs/windowed/config.json').read_text())
    assert settings['gate'] == 'window' and settings['window'] == .3
    assert '--window' in command(changed, tmp_path, environment, '--help').stdout
    refused = command(changed, tmp_path, environment, *small, '--gate', 'sigmoid', '--window', '.3')
    assert refused.returncode == 2 and 'window' in refused.stderr


def test_the_data_set(changed, environment, tmp_path, optdigits):
    small = '--epochs 1 --loader resident --device cpu --width .2'.split()
    data = environment | dict(TRAIN_TICKET_DATA=str(tmp_path/'data'))
    done = command(changed, tmp_path, data, '--dataset', 'optdigits', *small, '--name', 'digits')
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path/'runs/digits/summary.json').read_text())
    assert summary['dataset'] == 'optdigits' and summary['test_images'] == 297
