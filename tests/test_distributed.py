"Several ranks, through the real launchers: on one machine, and on two 'hosts' that are loopback addresses."
import json, os, signal, socket, subprocess, sys, time
from pathlib import Path
import pytest
from conftest import losses, summary, top
from train_ticket.datasets import load_dataset
from train_ticket.loaders import make_loader
from train_ticket.ticket import accuracy, load_ticket, to_model

DIGITS = '--dataset digits --batch_size 64 --seed 5'.split()
LOCAL, HOSTS = str(top/'scripts/launch_local_train.sh'), str(top/'scripts/launch_distributed_train.sh')


def heed_control_c(): # as in a terminal, also where these tests run in the background
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(environment, tmp_path):
    "start(program, *arguments, **environment) → a process; what is left of it at the end is killed."
    begun = []
    def run(*command, **more):
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process = subprocess.Popen(list(map(str, command)), cwd=tmp_path, env=environment | more,
                                   start_new_session=True, preexec_fn=heed_control_c, **pipes)
        begun.append(process)
        return process
    yield run
    for process in begun:
        try: os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError: pass


def wait_for(folder, epochs, *processes, seconds=120):
    "Until a run has so many epochs behind it."
    metrics, deadline = Path(folder)/'metrics.jsonl', time.monotonic() + seconds
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= epochs):
        ended = [p.communicate() for p in processes if p.poll() is not None]
        assert time.monotonic() < deadline and not ended, ended
        time.sleep(.02)


def alive(session): # processes of a session
    ps = ['ps', '-o', 'pid=', '-s', str(session)]
    return subprocess.run(ps, capture_output=True, text=True).stdout.split()


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def test_four_ranks_agree_with_one(call, start, tmp_path):
    arguments = [*DIGITS, '--epochs', 5, '--width', .5, '--accumulate', 2, '--zero', 1]
    four = start(LOCAL, *arguments, '--name', 'four', RANKS='4')
    _, said = four.communicate(timeout=200)
    assert four.returncode == 0, said
    assert call('scripts/train.py', *arguments, '--name', 'one').returncode == 0
    four, one = summary(tmp_path/'runs/four'), summary(tmp_path/'runs/one')
    assert four['world_size'] == 4 and four['steps'] == one['steps']
    pairs = zip(losses(tmp_path/'runs/four'), losses(tmp_path/'runs/one'))
    assert max(abs(a - b) for a, b in pairs) < .02   # the same sums, in another order
    assert abs(four['test_accuracy'] - one['test_accuracy']) < .03


def test_two_ranks_are_stopped_and_one_goes_on(call, start, tmp_path):
    "SIGTERM saves in the middle of an epoch; with ZeRO 2 one rank goes on from a universal checkpoint."
    going = start(LOCAL, *DIGITS, '--epochs', 24, '--name', 'cut', '--zero', 2, RANKS='2')
    wait_for(tmp_path/'runs/cut', 3, going)
    going.terminate()
    _, said = going.communicate(timeout=60)
    assert going.returncode == 143 and 'continue with --name cut --resume' in said
    assert 'Traceback' not in said and not alive(going.pid)
    before = losses(tmp_path/'runs/cut')
    resumed = call('scripts/train.py', '--name', 'cut', '--resume')
    assert resumed.returncode == 0, resumed.stderr
    found = summary(tmp_path/'runs/cut')
    assert losses(tmp_path/'runs/cut')[:len(before)] == before and len(losses(tmp_path/'runs/cut')) == 24
    assert found['world_size'] == 1 and found['test_accuracy'] > .9
    assert not [path for path in (tmp_path/'runs/cut/checkpoints').iterdir() if 'universal' in path.name]


@pytest.mark.parametrize('ranks', [1, 2])
def test_control_c_in_a_terminal(start, tmp_path, ranks):
    "SIGINT from the terminal and SIGTERM from the launcher are together one request to save and leave."
    going = start(LOCAL, *DIGITS, '--epochs', 60, '--name', 'cut', RANKS=str(ranks))
    wait_for(tmp_path/'runs/cut', 3, going)
    os.killpg(going.pid, signal.SIGINT)
    _, said = going.communicate(timeout=60)
    assert going.returncode == 130 and 'continue with --name cut --resume' in said
    assert 'Traceback' not in said and not alive(going.pid)
    assert (tmp_path/'runs/cut/checkpoints/latest').exists()


@pytest.fixture
def two_hosts(start, tmp_path):
    "Both hosts of a hostfile, each started on its own as on a cluster without ssh."
    (tmp_path/'hosts').write_text('# two hosts\n127.0.0.1 slots=1\n127.0.0.2 slots=1')
    def run(*arguments):
        port = free_port()
        common = '--hostfile', 'hosts', '--no_ssh', '--master_port', port
        return [start(HOSTS, *common, '--node_rank', rank, *arguments) for rank in (0, 1)]
    return run


def test_a_host_dies_and_the_run_resumes(two_hosts, tmp_path):
    first, second = two_hosts(*DIGITS, '--epochs', 14, '--name', 'hosts', '--timeout', 20)
    wait_for(tmp_path/'runs/hosts', 2, first, second)
    os.killpg(second.pid, signal.SIGKILL)
    start = time.monotonic()
    _, said = first.communicate(timeout=60)
    assert time.monotonic() - start < 60 and first.returncode not in (0, None)
    errors = [line for line in said.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1 and 'rank 0 of 2 has lost the others' in errors[0] and '--resume' in errors[0]
    assert 'Traceback' not in said
    assert not alive(first.pid)
    for process in two_hosts('--name', 'hosts', '--resume'):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    found = summary(tmp_path/'runs/hosts')
    assert found['world_size'] == 2 and found['test_accuracy'] > .9
    assert len(losses(tmp_path/'runs/hosts')) == 14


@pytest.mark.parametrize('pause', [0, .4])
def test_a_silent_host(two_hosts, pause, tmp_path):
    "One that is alive and says nothing, as behind a cut cable, is given up after --timeout seconds."
    first, second = two_hosts(*DIGITS, '--epochs', 400, '--name', 'silent', '--timeout', 3)
    wait_for(tmp_path/'runs/silent', 1, first, second)
    time.sleep(pause)   # at the end of an epoch, or amid its steps
    os.killpg(first.pid, signal.SIGSTOP)
    _, said = second.communicate(timeout=60)
    assert second.returncode not in (0, None) and 'Traceback' not in said
    assert 'rank 1 of 2 has lost the others: Timed out' in said


SRUN = f'''#!{sys.executable}
import os, subprocess, sys
number, command = sys.argv[2], next(i for i, word in enumerate(sys.argv) if word.startswith('--export'))
more = dict(item.split('=', 1) for item in sys.argv[command].split(',')[1:])
def rank(i): return dict(SLURM_PROCID=str(i), SLURM_LOCALID=str(i), SLURM_NTASKS=number)
own = [os.environ | more | rank(i) for i in range(int(number))]
ranks = [subprocess.Popen(sys.argv[command + 1:], env=environment) for environment in own]
sys.exit(max(rank.wait() for rank in ranks))
'''


NORMED = '''
from torch import nn
def normed():
    layers = nn.Linear(64, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 10)
    return nn.Sequential(nn.Flatten(), *layers)
'''


def test_slurm(start, environment, tmp_path):
    "DeepSpeed's Slurm launcher, with an srun that starts its tasks here; the ticket is what was validated."
    (tmp_path/'bin').mkdir()
    (tmp_path/'hosts').write_text('127.0.0.1 slots=1\n127.0.0.2 slots=1\n')
    for name, text in ('srun', SRUN), ('sinfo', '#!/bin/sh\n'):
        (tmp_path/'bin'/name).write_text(text)
        (tmp_path/'bin'/name).chmod(0o755)
    how = '--launcher', 'slurm', '--hostfile', 'hosts', '--master_port', free_port()
    path = f'{tmp_path}/bin:{environment["PATH"]}'
    (tmp_path/'net.py').write_text(NORMED)
    own = '--epochs 2 --in_shape 1x8x8 --model net.py:normed'.split()
    done = start(HOSTS, *how, *DIGITS, *own, '--name', 'slurm', PATH=path)
    said, wrong = done.communicate(timeout=120)
    assert done.returncode == 0, wrong
    found = summary(tmp_path/'runs/slurm')
    assert found['world_size'] == 2 and said.count('test accuracy') == 1
    validation = make_loader(load_dataset('digits', (1, 8, 8)), 'validation', backend='resident')
    space = {}
    exec(NORMED, space)
    again = accuracy(to_model(load_ticket(tmp_path/found['ticket']), space['normed']()), validation)
    record = json.loads((tmp_path/'runs/slurm/metrics.jsonl').read_text().splitlines()[-1])
    assert again['loss'] == pytest.approx(record['validation_loss'])


@pytest.mark.parametrize('arguments, words', [
    ('', 'no hostfile hostfile'), ('--hostfile bad', "bad, line 2: a host is 'NAME slots=NUMBER', not 'b'"),
    ('--hostfile empty', 'names no host'), ('--hostfile', '--hostfile needs a value'),
    ('--hostfile good --no_ssh', '--node_rank from 0 to 1'),
    ('--hostfile good --no_ssh --node_rank 2', '--node_rank from 0 to 1'),
    ('--hostfile good --launcher ssh', 'known are pdsh, slurm and openmpi'),
    ('--hostfile good', 'needs pdsh, which is not installed')])
def test_mistakes_of_hosts(tmp_path, arguments, words):
    for name, text in ('bad', 'a slots=2\nb\n'), ('empty', '# none\n'), ('good', 'a slots=2\nb slots=2\n'):
        (tmp_path/name).write_text(text)
    (tmp_path/'bin').mkdir()
    for name in 'bash', 'dirname', 'sed', 'nproc':
        place = subprocess.check_output(['which', name], text=True).strip()
        (tmp_path/'bin'/name).symlink_to(place)
    (tmp_path/'bin/deepspeed').write_text('#!/bin/sh\n')
    (tmp_path/'bin/deepspeed').chmod(0o755)
    environment = dict(PATH=str(tmp_path/'bin'))
    command = [HOSTS, *arguments.split()]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
