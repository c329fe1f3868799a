"The built wheel, installed elsewhere: commands, C sources, and imports without optional packages."
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
import pytest
from conftest import top

OPTIONAL = ('jupyterlab', 'ipywidgets', 'anywidget', 'nbdev', 'optuna', 'sqlalchemy', 'scipy', 'pandas',
            'seaborn', 'matplotlib', 'sklearn', 'triton', 'onnx', 'deepspeed', 'nvidia')


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "A new environment with the wheel; the packages that it requires are those of this one."
    folder = tmp_path_factory.mktemp('install')
    source, venv = folder/'source', folder/'venv'
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=top, capture_output=True, text=True, check=True)
    files = listed.stdout
    for name in filter(None, files.split('\0')):
        if not (top/name).is_file() or name.startswith(('nbs/', 'results/', 'tests/')): continue
        (source/name).parent.mkdir(parents=True, exist_ok=True)
        (source/name).write_bytes((top/name).read_bytes())
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '--quiet']
    build = [*pip, 'wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', str(folder), str(source)]
    subprocess.run(build, check=True)
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(venv)], check=True)
    site = next(venv.glob('lib/python*/site-packages'))
    (site/'required.pth').write_text(sysconfig.get_path('purelib'))
    wheel, = folder.glob('train_ticket-*.whl')
    python = str(venv/'bin/python')
    subprocess.run([*pip, '--python', python, 'install', '--no-deps', '--no-index', str(wheel)], check=True)
    return venv


@pytest.fixture
def here(installed, tmp_path):
    "here(command, *arguments) → what a command of the new environment prints, run in an empty folder."
    def run(command, *arguments):
        names = 'PYTHONPATH', 'VIRTUAL_ENV'
        environment = {name: value for name, value in os.environ.items() if name not in names}
        environment |= dict(XDG_CACHE_HOME=str(tmp_path/'cache'), DS_ACCELERATOR='cpu', OMP_NUM_THREADS='1')
        whole = [str(installed/'bin'/command), *map(str, arguments)]
        done = subprocess.run(whole, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout
    return run


def test_the_commands_work_outside_the_repository(here, installed, tmp_path):
    assert str(installed) in here('python', '-c', 'import train_ticket; print(train_ticket.__file__)')
    here('tt_train', '--dataset', 'digits', '--epochs', 1, '--name', 'first')
    ticket = tmp_path/'runs/first/best.ticket.safetensors'
    assert 'lenet300' in here('tt_ticket', 'show', ticket)
    assert 'test images' in here('tt_evaluate', '--ticket', ticket)
    for command in 'tt_report', 'tt_sweep':
        assert f'usage: {command}' in here(command, '--help')


def test_the_sources_of_the_kernels_are_installed(here):
    sizes = 'len(source_of("kernels.c")), len(source_of("kernels.cu"))'
    code = f'from train_ticket.kernels import source_of; print({sizes})'
    assert all(int(size) > 1000 for size in here('python', '-c', code).split())


def test_masks_tickets_and_inference_need_no_optional_package(here):
    code = ('import sys\n'
            f'for name in {OPTIONAL!r}: sys.modules[name] = None\n'
            'from train_ticket import infer, masks, ticket\n'
            'from torch import nn\n'
            'print(masks.inventory(masks.ticketize(nn.Linear(3, 2), bias=False)).pure)')
    assert here('python', '-c', code).split() == ['True']
