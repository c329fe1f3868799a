"Processes that are forked from one which has loaded PyTorch and DeepSpeed: each starts seconds earlier."
import atexit, multiprocessing, os, runpy, subprocess, sys, tempfile
from multiprocessing import forkserver
from pathlib import Path

# before the fork; what a process has to load by itself in a test is left out: wandb, trackio, tensorboard
LOADED = ['pytest', 'train_ticket.train', 'train_ticket.infer', 'train_ticket.studies', 'deepspeed',
          'torch._dynamo', 'sklearn.datasets', 'nvidia.dali.fn', 'matplotlib.pyplot',
          'optuna.storages._rdb.models', 'alembic.config']
context = multiprocessing.get_context('forkserver')


def prepare(environment: dict):
    "Start the process from which the others are forked, in this environment."
    ours = dict(os.environ)
    context.set_forkserver_preload(LOADED)
    replace_environment(environment)
    try: forkserver.ensure_running()
    finally: replace_environment(ours)


def replace_environment(environment: dict):
    os.environ.clear()
    os.environ.update(environment)


def settle(folder: Path, environment: dict, out: Path, err: Path):
    "Make a forked process look like a new one: its folder, its environment, where its output goes."
    os.chdir(folder)
    replace_environment(environment)
    tempfile.tempdir = None
    for number, path in (1, out), (2, err):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)


def script(path: Path, arguments: list, *place):
    "`python path arguments…`"
    settle(*place)
    sys.argv, sys.path[:0] = [str(path), *arguments], [str(Path(path).parent)]
    try: runpy.run_path(str(path), run_name='__main__')
    finally: atexit._run_exitfuncs()


def run(path: Path, arguments: list, folder: Path, environment: dict, timeout: float):
    "Run a script to its end: what `subprocess.run` returns, and raises if it takes too long."
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said)/'out', Path(said)/'err'
        process = context.Process(target=script, args=(path, arguments, folder, environment, out, err))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([path, *arguments], timeout, out.read_text(), err.read_text())
        done = process.exitcode, out.read_text(), err.read_text()
    return subprocess.CompletedProcess([path, *arguments], *done)
