"Loggers other than the files: each is tested where its package is installed, and its absence where it isn't."
from importlib.util import find_spec
import json, sys
import pytest
from conftest import losses, summary

ARGUMENTS = '--dataset digits --batch_size 64 --width 0.3'.split()


@pytest.mark.parametrize('name', ['wandb', 'trackio', 'tensorboard'])
def test_absent_package(call, tmp_path, name):
    if find_spec(name): pytest.skip(f'{name} is installed')
    said = call('scripts/train.py', *ARGUMENTS, '--log', f'csv,{name}')
    assert said.returncode == 2 and said.stderr.splitlines()[-1].startswith('error: ')
    assert f"pip install 'train_ticket[{name}]'" in said.stderr
    assert 'Traceback' not in said.stderr and not (tmp_path/'runs').exists()


def test_offline_wandb(call, tmp_path):
    pytest.importorskip('wandb')
    offline = dict(WANDB_MODE='offline', WANDB_API_KEY='', HOME=str(tmp_path))
    done = call('scripts/train.py', *ARGUMENTS, '--epochs', 3, '--name', 'x', '--log', 'wandb,csv', **offline)
    assert done.returncode == 0, done.stderr
    found, = (tmp_path/'runs/x/wandb').glob('offline-run-*')
    assert [path for path in found.glob('*.wandb') if path.stat().st_size > 1000]
    pictures = {path.name.split('_')[0] for path in (found/'files/media/images').iterdir()}
    assert pictures == {'masks', 'examples'} and len(losses(tmp_path/'runs/x')) == 3
    assert len((tmp_path/'runs/x/metrics.csv').read_text().splitlines()) == 4


def test_wandb_without_a_key(call, tmp_path):
    pytest.importorskip('wandb')
    online = dict(WANDB_API_KEY='', WANDB_MODE='online', HOME=str(tmp_path), NETRC=str(tmp_path/'none'))
    done = call('scripts/train.py', *ARGUMENTS, '--epochs', 1, '--log', 'wandb', **online)
    assert done.returncode == 2 and 'WANDB_MODE=offline' in done.stderr and 'Traceback' not in done.stderr
    assert not (tmp_path/'runs').exists()


def test_tensorboard(call, tmp_path):
    pytest.importorskip('tensorboard')
    done = call('scripts/train.py', *ARGUMENTS, '--epochs', 3, '--name', 'x', '--log', 'tensorboard')
    assert done.returncode == 0, done.stderr
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(tmp_path/'runs/x/tensorboard'))
    events.Reload()
    found = [event.value for event in events.Scalars('loss')]
    assert found == pytest.approx(losses(tmp_path/'runs/x'), rel=1e-5)
    assert set(events.Tags()['images']) == {'masks', 'examples'} and 'densities/1' in events.Tags()['scalars']


def test_trackio(call, tmp_path):
    pytest.importorskip('trackio')
    own = dict(TRACKIO_DIR=str(tmp_path/'trackio'), HOME=str(tmp_path))
    done = call('scripts/train.py', *ARGUMENTS, '--epochs', 3, '--name', 'x', '--log', 'trackio', **own)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path/'trackio').rglob('*.db')) and list((tmp_path/'trackio').rglob('*.png'))
