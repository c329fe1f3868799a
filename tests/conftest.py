"What the tests share: where the data lies, and how to run a script in a process of its own."
import json, os, subprocess, sys
from pathlib import Path
import forked, pytest

top = Path(__file__).resolve().parent.parent
data = Path(os.environ.get('TRAIN_TICKET_DATA') or top.parent/'shared/data')


@pytest.fixture(scope='session')
def environment():
    "The environment of a user who has the data, on the CPU."
    ranks = 'RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'
    own = {key: value for key, value in os.environ.items() if key not in ranks}
    found = dict(TRAIN_TICKET_DATA=str(data)) if data.is_dir() else {}
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    return own | found | dict(DS_ACCELERATOR='cpu', GOMP_SPINCOUNT='10000', PATH=path)


@pytest.fixture(scope='session')
def fork(environment):
    "What starts a process that has PyTorch loaded: a context of multiprocessing."
    forked.prepare(environment)
    return forked.context


@pytest.fixture
def call(environment, fork, tmp_path):
    """call(program, *arguments, **environment) → the finished process, run in an empty folder.

    A script of Python is forked; with `fresh=True`, it starts as a user starts it."""
    def run(program, *arguments, timeout=300, fresh=False, **more):
        own, arguments = environment | more, list(map(str, arguments))
        if program.endswith('.py') and not fresh:
            return forked.run(top/program, arguments, tmp_path, own, timeout)
        command = [str(top/program)] if program.endswith('.sh') else [sys.executable, str(top/program)]
        how = dict(cwd=tmp_path, env=own, capture_output=True, text=True, timeout=timeout)
        return subprocess.run([*command, *arguments], **how)
    return run


@pytest.fixture
def mnist():
    if not (data/'mnist').is_dir(): pytest.skip(f'MNIST is not in {data}: set TRAIN_TICKET_DATA')


def summary(folder) -> dict: return json.loads((Path(folder)/'summary.json').read_text())
def losses(folder) -> list: # of the epochs
    return [json.loads(line)['loss'] for line in (Path(folder)/'metrics.jsonl').open()]


def pytest_collection_modifyitems(items):
    # `make test` runs the notebooks at the same time, so tests with time-outs between hosts come last
    items.sort(key=lambda item: item.path.name == 'test_distributed.py')
