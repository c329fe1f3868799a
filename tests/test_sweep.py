"Studies of several processes: nothing lost, nothing doubled, whatever is killed; one line for a mistake."
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import forked
import optuna
import pytest
from conftest import top
from optuna.storages import RDBStorage
from sqlalchemy.engine.default import DefaultDialect
from train_ticket.core import read_records
from train_ticket.studies import Worker, main, records, slots

SPACE = '''
name = "test"
trials = 10
batch = 2
pruner = "median"
[common]
dataset = "digits"
arch = "lenet300"
width = 0.1
epochs = 3
loader = "resident"
device = "cpu"
[search]
lr = { low = 0.01, high = 0.5, log = true }
keep = { choices = [0.3, 0.5] }
'''
FOLDER = 'runs/sweeps/test'


@pytest.fixture
def space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'space.toml').write_text(SPACE)
    return tmp_path/'space.toml'


def attempt(arguments, meeting, *place):
    "Run tt_sweep in this process; all that share a meeting take trials before any trains."
    forked.settle(*place)
    import torch
    import train_ticket.studies as studies
    torch.set_num_threads(1)
    if meeting:
        meet(studies.Worker, meeting)
    sys.exit(main(arguments))


def meet(worker_class, meeting):
    take_trials, met = worker_class.take, []
    def take(self, count):
        tasks = take_trials(self, count)
        if not met:
            met.append(meeting.wait(60))
        return tasks
    worker_class.take = take


@pytest.fixture
def start(environment, fork, tmp_path):
    "start(*arguments) → a process of tt_sweep that has PyTorch loaded already."
    found, said = [], tmp_path/'said.txt'
    alone = environment | dict(OMP_NUM_THREADS='1', TQDM_DISABLE='1')

    def run(*arguments, meeting=None):
        words = list(map(str, (*arguments, '--grace', 3)))
        found.append(fork.Process(target=attempt, args=(words, meeting, tmp_path, alone, said, said)))
        found[-1].start()
        return found[-1]

    run.meeting = fork.Barrier
    yield run
    for process in found:
        process.kill()


def said(folder):
    return (folder/'said.txt').read_text()


def study_of(storage=f'sqlite:///{FOLDER}/study.db'):
    return optuna.load_study(study_name='test', storage=storage)


def lines(folder):
    return read_records(folder/FOLDER/'trials.jsonl')


def whole(study, folder, count=10):
    "Every trial is there, finished, once, and drew its own options; nothing runs or waits any more."
    found = records(study)
    assert [r['trial'] for r in found] == list(range(count)) == list(slots(study))
    assert all(t.state.is_finished() for t in study.trials)
    ends = [t.user_attrs['slot'] for t in study.trials if t.state.name != 'FAIL']
    assert sorted(ends) == list(range(count))   # no slot has been trained to its end twice
    assert all(r['state'] in ('complete', 'pruned') for r in found), said(folder)
    assert len({r['params']['lr'] for r in found}) == count
    assert lines(folder) == found
    return found


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(.02)


def finished(folder):
    return len(lines(folder))


def among(found, before):
    "Those records whose trials were finished before."
    known = {r['trial'] for r in before}
    return [r for r in found if r['trial'] in known]


def test_two_processes_share_a_study(space, start, tmp_path):
    meeting, storage = start.meeting(2), 'sqlite:///shared/study.db'
    workers = [start(space, '--storage', storage, meeting=meeting) for _ in range(2)]
    for worker in workers:
        worker.join(100)
    assert [worker.exitcode for worker in workers] == [0, 0], said(tmp_path)
    found = whole(study_of(storage), tmp_path)
    assert len({r['worker'] for r in found}) == 2 and not any('losses' in r for r in found)


def test_kills(space, start, tmp_path):
    "A SIGKILL whenever a trial or two have been finished: these stay, the others are trained again."
    draw, before, kills = random.Random(1), [], 0
    while True:
        worker, seen = start(space), len(before)
        wait_for(lambda: not worker.is_alive() or finished(tmp_path) > seen)
        time.sleep(draw.uniform(0, .1))
        if worker.is_alive():
            worker.kill()
            kills += 1
        worker.join(10)
        assert worker.exitcode in (0, -signal.SIGKILL), said(tmp_path)
        found = records(study_of())
        assert len(found) <= 10 and among(found, before) == before
        if worker.exitcode == 0:
            break
        before = found
    assert kills
    whole(study_of(), tmp_path)


def running():
    "Trials that have trained an epoch, and go on."
    if not Path(FOLDER, 'trials.jsonl').exists():
        return []
    return [t for t in study_of().trials if t.state.name == 'RUNNING' and t.intermediate_values]


def unfinished():
    return {t.user_attrs['slot']: t.params for t in study_of().trials if t.state.name == 'RUNNING'}


def test_kill_in_the_middle_of_training(space, start, tmp_path):
    "Killed while trials are running: their retries keep slot and options, and know of one loss."
    arguments = space, '--batch', 5, '--trials', 5
    worker = start(*arguments)
    wait_for(running)
    worker.kill()
    worker.join(10)
    left = unfinished()
    done = records(study_of())
    start(*arguments).join(60)
    found = whole(study_of(), tmp_path, 5)
    assert left and {number: found[number]['params'] for number in left} == left
    assert [r['trial'] for r in found if r.get('losses')] == sorted(left)
    assert among(found, done) == done


def test_sigterm_lets_go(space, start, tmp_path):
    worker = start(space)
    wait_for(lambda: finished(tmp_path))
    worker.terminate()
    worker.join(60)
    assert worker.exitcode in (0, 130)
    if worker.exitcode:
        assert 'repeat the command to continue' in said(tmp_path)
    start(space).join(60)
    assert not any(r.get('losses') for r in whole(study_of(), tmp_path))


def send_after(monkeypatch, place, name, number, wanted):
    "Send this process a signal after each call of a method whose arguments are the wanted ones."
    method = getattr(place, name)

    def call(*arguments, **named):
        result = method(*arguments, **named)
        if wanted(*arguments):
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(place, name, call)


def let_go(space):
    "Run a sweep until its signal: which trials do not wait for another worker."
    assert main([str(space), '--patience', '.2']) == 130
    return [trial.state.name for trial in study_of().trials if trial.state.name != 'WAITING']


def changed_to(state):
    return lambda storage, number, new, *more: new.name == state


def test_a_signal_while_trials_are_taken(space, monkeypatch):
    "It comes when the storage has noted that a trial runs, before the worker has."
    send_after(monkeypatch, RDBStorage, 'set_trial_state_values', signal.SIGTERM, changed_to('RUNNING'))
    assert let_go(space) == []


def test_a_signal_within_a_database_call(space, monkeypatch):
    "It comes before the rows of a query are read: the exception keeps the cursor, which locks the file."
    train, first = Worker.train, []
    monkeypatch.setattr(Worker, 'train', lambda worker, tasks: (first.append(True), train(worker, tasks)))
    query = lambda dialect, cursor, text, *more: text.startswith('SELECT trials.') and first and first.pop()
    send_after(monkeypatch, DefaultDialect, 'do_execute', signal.SIGTERM, query)
    assert let_go(space) == []


def test_a_signal_while_trials_are_let_go(space, monkeypatch):
    "Ctrl-C in a terminal reaches a helper process; then its parent sends SIGTERM."
    send_after(monkeypatch, Worker, 'take', signal.SIGINT, lambda *more: True)
    send_after(monkeypatch, RDBStorage, 'set_trial_state_values', signal.SIGTERM, changed_to('WAITING'))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)   # a background job ignores it
    try:
        assert let_go(space) == []
    finally:
        signal.signal(signal.SIGINT, before)


def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ''


def processes_in(folder):
    "Other processes that work in a folder."
    found = [path.parent.name for path in Path('/proc').glob('[0-9]*/cwd') if link(path) == str(folder)]
    return [number for number in found if number != str(os.getpid())]


def test_a_kill_is_noticed_by_the_other(space, start, tmp_path):
    "Of two workers one is killed: the other retries its trials, each exactly once, and then ends."
    meeting = start.meeting(2)
    worker, other = (start(space, '--batch', 3, meeting=meeting) for _ in range(2))
    wait_for(running)
    worker.kill()
    other.join(60)
    assert other.exitcode == 0, said(tmp_path)
    found = whole(study_of(), tmp_path)
    assert {r.get('losses', 0) for r in found} <= {0, 1}
    assert len(study_of().trials) == 10 + sum('losses' in r for r in found)


def test_parent_of_two_is_killed(space, start, environment, tmp_path):
    "With --n_jobs 2 the workers end with their parent, and the study can be finished."
    program = 'import sys; from train_ticket.studies import main; sys.exit(main())'
    command = [sys.executable, '-c', program, str(space), '--n_jobs', '2', '--trials', '12']
    ours = environment | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(top))
    parent = subprocess.Popen(command, env=ours, stderr=subprocess.DEVNULL)
    wait_for(lambda: finished(tmp_path) or parent.poll() is not None)
    parent.kill()
    parent.wait()
    wait_for(lambda: not processes_in(tmp_path))
    before = records(study_of())
    start(space, '--trials', 12).join(60)
    assert among(whole(study_of(), tmp_path, 12), before) == before


UNLUCKY = r'''
name, trials, batch, pruner = 'test', 4, 1, 'none'
common = dict(dataset='digits', width=.1, epochs=1, loader='resident', device='cpu')
def search(trial):
    lr = trial.suggest_float('lr', .01, .1)
    if trial.number == 2: raise RuntimeError('no luck\nat all')
    return dict(lr=lr)
'''


def test_a_crash_is_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'space.py').write_text(UNLUCKY)
    assert main(['space.py', '--report']) == 0
    found, printed = lines(tmp_path), capsys.readouterr()
    assert [r['state'] for r in found] == ['complete', 'complete', 'failed', 'complete']
    assert found[2]['error'] == 'RuntimeError: no luck at all'
    assert 'trial 2 failed: RuntimeError: no luck at all' in printed.err
    assert '3 complete, 0 pruned, 1 failed' in printed.out
    pictures = {path.name for path in (tmp_path/FOLDER).glob('*.png')}
    assert pictures == {'parallel_coordinate.png', 'slice.png', 'param_importances.png'}


def test_what_a_stack_refuses_is_trained_alone(tmp_path, monkeypatch):
    "A decision that depends on the data; batch statistics stay in the stack."
    monkeypatch.chdir(tmp_path)
    layers = dict(undecided='Undecided(784, 10)', normed='nn.Linear(784, 10), nn.BatchNorm1d(10)')
    for name, text in layers.items():
        (tmp_path/f'{name}.py').write_text(f'''
from torch import nn
class Undecided(nn.Linear):
    def forward(self, x):
        out = super().forward(x)
        return out if out.sum() > 0 else -out
name, trials, batch, pruner = {name!r}, 2, 2, 'none'
common = dict(dataset='digits', epochs=1, loader='resident', device='cpu')
search = dict(lr=dict(low=.01, high=.1))
model = nn.Sequential(nn.Flatten(), {text})
''')
        assert main([f'{name}.py']) == 0
    found = {name: read_records(f'runs/sweeps/{name}/trials.jsonl') for name in layers}
    stacks = {name: [r['stack'] for r in rows] for name, rows in found.items()}
    assert stacks == dict(undecided=[1, 1], normed=[2, 2])


def one_line(capsys, words, *arguments):
    assert main(list(map(str, arguments))) == 2
    printed = capsys.readouterr().err.splitlines()
    printed = [line for line in printed if line and '|' not in line]   # but for the bar
    assert len(printed) == 1 and printed[0].startswith('error: ') and words in printed[0], printed


@pytest.mark.parametrize('old, new, words', [
    ('lr = {', 'learning_rate = {', "unknown option 'learning_rate'"),
    ('low = 0.01, high = 0.5', 'low = 0.5, high = 0.01', 'lr: `low <= high` must hold'),
    ('[0.3, 0.5]', '[]', 'keep: The `choices` must contain'),
    ('batch = 2', 'batch = 0', 'batch must be 1 or above'),
    ('"median"', '"medium"', 'did you mean median'),
    ('[search]', '[search', 'space.toml: '),
    ('"digits"', '"digit"', 'did you mean digits'),
    ('0.3, 0.5', '5.0', 'no trial of this space can be trained: keep'),
    ('low = 0.01', 'low = -1', 'low')])
def test_bad_spaces(space, old, new, words, capsys):
    assert old in SPACE
    space.write_text(SPACE.replace(old, new))
    one_line(capsys, words, space)


def test_a_locked_storage(space, capsys):
    arguments = space, '--storage', 'sqlite:///one.db'
    assert main([*map(str, arguments), '--trials', '2']) == 0
    before = records(study_of('sqlite:///one.db'))
    capsys.readouterr()
    go_on = *arguments, '--trials', '4', '--patience', '.3'
    with sqlite3.connect('one.db') as other:
        other.execute('BEGIN EXCLUSIVE')
        one_line(capsys, 'sqlite:///one.db: another program has locked it', *go_on)
        other.rollback()
    space.write_text(SPACE.replace('high = 0.5', 'high = 0.9'))
    one_line(capsys, "study 'test' with another space exists (search lr differs): choose another", *go_on)
    space.write_text(SPACE)
    assert records(study_of('sqlite:///one.db')) == before
    assert main(list(map(str, go_on))) == 0
    study = study_of('sqlite:///one.db')
    assert records(study)[:2] == before and list(slots(study)) == [0, 1, 2, 3]


def test_bad_storages(space, tmp_path, capsys):
    text = 'this is no database\n'*100
    (tmp_path/'text.db').write_text(text)
    one_line(capsys, 'not a database', space, '--storage', 'sqlite:///text.db')
    assert (tmp_path/'text.db').read_text() == text
    one_line(capsys, 'No module named', space, '--storage', 'oracle://me:secret@host/x')
    optuna.create_study(study_name='test', storage='sqlite:///theirs.db').ask()
    one_line(capsys, 'tt_sweep did not make this study', space, '--storage', 'sqlite:///theirs.db')


def test_locked_while_training(space, tmp_path, capsys, monkeypatch):
    "A storage locked by another program in the middle ends the worker with one line; then the study goes on."
    import train_ticket.studies as studies
    train, others = studies.Worker.train, []

    def lock(self, *arguments):
        if finished(tmp_path) >= 4 and not others:
            others.append(sqlite3.connect(f'{FOLDER}/study.db'))
            others[0].execute('BEGIN EXCLUSIVE')
        train(self, *arguments)

    monkeypatch.setattr(studies.Worker, 'train', lock)
    one_line(capsys, 'another program has locked it', space, '--patience', '.2')
    others[0].rollback()
    others[0].close()
    before = records(study_of())
    assert len(before) >= 4 and main([str(space)]) == 0
    assert whole(study_of(), tmp_path)[:len(before)] == before
