"The main job, as a user runs it: launcher, plain script, evaluation, mistakes, interruptions."
import ast, asyncio, json, signal, subprocess, sys, time
from pathlib import Path
import forked, pytest
from conftest import losses, summary, top
from train_ticket import ticket as tickets

DIGITS = '--dataset digits --batch_size 64 --seed 5'.split()


def one_line(process):
    "Exit code 2, one line on stderr, no traceback."
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    assert process.returncode == 2, process.stderr
    assert len(lines) == 1 and lines[0].startswith('error: '), process.stderr
    assert 'Traceback' not in process.stdout + process.stderr
    return lines[0]


def run(*command, cwd=None, env=None):
    return subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)


EVALUATE_ALONE = '''
import sys, runpy
sys.argv = sys.argv[1:]
try: runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit: pass
assert not any("deepspeed" in m or "nvidia.dali" in m for m in sys.modules)
'''


def test_launcher_trains_mnist_and_evaluation_agrees(call, environment, mnist, tmp_path):
    given = '--dataset mnist --arch lenet300 --epochs 3 --seed 1 --name short'.split()
    trained = call('scripts/launch_local_train.sh', *given)
    assert trained.returncode == 0, trained.stderr
    found = summary(tmp_path/'runs/short')
    assert found['test_accuracy'] > .955 and found['pure'] and found['ticket_bytes'] < 40_000
    assert found['world_size'] == 1 and found['in_shape'] == [1, 28, 28]
    assert f'{found["test_accuracy"]:.2%}' in trained.stdout
    assert 'scripts/evaluate.py --ticket runs/short/best.ticket.safetensors' in trained.stdout
    command = 'scripts/evaluate.py', '--ticket', found['ticket'], '--dataset', 'mnist', '--json'
    alone = sys.executable, '-c', EVALUATE_ALONE, top/command[0], *command[1:]
    evaluated = run(*alone, cwd=tmp_path, env=environment)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)['test_correct'] == found['test_correct']


def test_same_command_same_losses_and_loaders_agree(call, tmp_path):
    for name, fresh, more in ('a', False, []), ('b', True, []), ('c', False, ['--loader', 'resident']):
        done = call('scripts/train.py', *DIGITS, '--epochs', 3, '--name', name, *more, fresh=fresh)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path/'runs/a') == losses(tmp_path/'runs/b') == losses(tmp_path/'runs/c')
    assert len(set(losses(tmp_path/'runs/a'))) == 3


def test_dense_twin_and_ticket_commands(call, tmp_path, capsys):
    dense = '--epochs', 5, '--gate', 'none', '--name', 'dense'
    assert call('scripts/train.py', *DIGITS, *dense).returncode == 0
    found = summary(tmp_path/'runs/dense')
    assert not found['pure'] and found['test_accuracy'] > .85
    assert call('scripts/evaluate.py', '--ticket', found['ticket']).returncode == 0
    assert call('scripts/train.py', *DIGITS, '--epochs', 1, '--name', 'ticket').returncode == 0
    ticket = tmp_path/'runs/ticket/best.ticket.safetensors'
    def tool(*arguments):
        code = tickets.main(list(map(str, arguments)))
        return subprocess.CompletedProcess(arguments, code or 0, *capsys.readouterr())
    assert 'pure: True' in tool('show', ticket).stdout
    assert tool('verify', ticket).returncode == 0 and tool('audit', ticket).returncode == 0
    ticket.write_bytes(ticket.read_bytes()[:-9] + b'\xff' + ticket.read_bytes()[-8:])
    assert 'error: ' in one_line(tool('audit', ticket))
    one_line(call('scripts/evaluate.py', '--ticket', ticket))


def test_two_ranks(call, tmp_path):
    done = call('scripts/launch_local_train.sh', *DIGITS, '--epochs', 6, '--name', 'two', RANKS='2')
    assert done.returncode == 0, done.stderr
    assert call('scripts/train.py', *DIGITS, '--epochs', 6, '--name', 'one').returncode == 0
    two, one = summary(tmp_path/'runs/two'), summary(tmp_path/'runs/one')
    assert two['world_size'] == 2 and two['steps'] == one['steps']
    first = losses(tmp_path/'runs/two')[0] - losses(tmp_path/'runs/one')[0]
    assert abs(first) < 1e-3   # only the order of additions differs
    assert abs(two['test_accuracy'] - one['test_accuracy']) < .03


@pytest.mark.parametrize('arguments, words', [
    ('--arch lenet30', 'did you mean lenet300'), ('--gate sigmoyd', 'did you mean sigmoid'),
    ('--dataset mnits', 'did you mean mnist'), ('--epochs three', '--epochs'),
    ('--precision fp16 --device cpu', 'precision fp16 needs a GPU'), ('--name ../x', 'cannot be the name'),
    ('--deepspeed_config absent.json', 'absent.json'),
    ('--epoch 3', 'did you mean --epochs'), ('--keep 0', 'keep'), ('--lr 0', 'lr must be above 0'),
    ('--gate popup --straight 4', 'the gate popup has no option straight: it takes'),
    ('--keep .25 --zero 3', 'scope layer, or zero 2'), ('--set gradient_clipping=1', 'the run to 0.0'),
    ('--dataset digits --set zero_optimization.overlap_com=true', 'DeepSpeed rejects its settings'),
    ('--name absent --resume', 'no run'), ('--model absent.py:make', 'absent.py')])
def test_mistakes(call, tmp_path, arguments, words):
    assert words in one_line(call('scripts/train.py', *arguments.split()))
    assert not (tmp_path/'runs').exists()


NETWORKS = '''
from torch import nn
def good(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10))
def three(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(99, 10))
def bare(): return nn.Sequential(nn.Flatten(), nn.AvgPool1d(78))
def colour(): return nn.Sequential(nn.Conv2d(3, 4, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
'''


@pytest.mark.parametrize('name, words', [
    ('three', '[2, 3]; 10 classes need [2, 10]'), ('narrow', 'fails on images of shape [2, 1, 28, 28]'),
    ('bare', 'no weight that a mask can be put on'), ('absent', 'absent')])
def test_mistakes_in_a_network_of_your_own(call, tmp_path, name, words):
    (tmp_path/'net.py').write_text(NETWORKS)
    assert words in one_line(call('scripts/train.py', *DIGITS, '--model', f'net.py:{name}'))
    assert not (tmp_path/'runs').exists()


def test_a_network_of_your_own(call, tmp_path):
    (tmp_path/'net.py').write_text(NETWORKS)
    given = [*DIGITS, '--epochs', 2, '--model', 'net.py:good', '--in_shape', '1x28x28', '--name', 'own']
    trained = call('scripts/train.py', *given)
    assert trained.returncode == 0, trained.stderr
    found = summary(tmp_path/'runs/own')
    assert found['arch'] == 'custom' and found['pure']
    assert '--dataset digits --model net.py:good' in trained.stdout
    command = 'scripts/evaluate.py', '--ticket', found['ticket'], '--model', 'net.py:good', '--json'
    evaluated = call(*command)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)['test_correct'] == found['test_correct']


def test_no_compiler(call, tmp_path):
    "torch.compile is tried before anything is loaded."
    bare = dict(PATH=str(tmp_path), TORCHINDUCTOR_CACHE_DIR=str(tmp_path/'cache'))
    said = one_line(call('scripts/train.py', *DIGITS, '--compile', '--device', 'cpu', fresh=True, **bare))
    assert 'no working compiler' in said and 'leave compile out' in said
    assert not (tmp_path/'runs').exists()


def test_mistake_under_the_launcher(call):
    done = call('scripts/launch_local_train.sh', '--arch', 'lenet30', RANKS='2')
    assert 'did you mean lenet300' in one_line(done)


def test_the_first_rank_speaks_first(monkeypatch, capfd):
    "The launcher ends all ranks when one ends, so a silent one that was faster would swallow the message."
    from train_ticket import train
    waited = []
    monkeypatch.setattr(train.time, 'sleep', waited.append)
    monkeypatch.setenv('RANK', '1')
    assert train.main(['--arch', 'lenet30']) == 2 and waited and capfd.readouterr().err == ''
    monkeypatch.setenv('RANK', '0')
    assert train.main(['--arch', 'lenet30']) == 2 and len(waited) == 1
    assert 'did you mean lenet300' in capfd.readouterr().err


def test_taken_name(call, tmp_path):
    given = [*DIGITS, '--epochs', 1, '--name', 'x']
    assert call('scripts/train.py', *given).returncode == 0
    before = losses(tmp_path/'runs/x')
    assert '--overwrite to replace it' in one_line(call('scripts/train.py', *given))
    assert 'started with seed 5' in one_line(call('scripts/train.py', '--name', 'x', '--resume', '--seed', 6))
    small = '--overwrite', '--arch', 'lenet5', '--in_shape', '1x5x5'
    assert 'too small' in one_line(call('scripts/train.py', *given, *small))
    assert losses(tmp_path/'runs/x') == before
    (tmp_path/'runs/x/.ipynb_checkpoints').mkdir()
    (tmp_path/'runs/x/checkpoints/.ipynb_checkpoints').mkdir()
    assert call('scripts/train.py', '--name', 'x', '--resume').returncode == 0
    assert call('scripts/train.py', *given, '--overwrite', '--lr', .2).returncode == 0
    assert losses(tmp_path/'runs/x') != before


def test_from_python(tmp_path, monkeypatch):
    from train_ticket.config import ConfigError
    from train_ticket.train import configure, fit
    monkeypatch.setenv('TQDM_DISABLE', '1')
    monkeypatch.chdir(tmp_path)
    given = dict(name='x', dataset='digits', epochs=1, device='cpu', loader='resident')
    found = fit(**given)
    for config in configure(**given), configure(name='x', lr=.5):
        with pytest.raises(ConfigError, match='overwrite=True'): fit(config)
    with pytest.raises(ConfigError, match='was started with lr 0.1'): configure(name='x', resume=True, lr=.5)
    assert fit(name='x', resume=True)['test_correct'] == found['test_correct']
    assert fit(**given, overwrite=True)['test_correct'] == found['test_correct']


def test_auto_is_pinned(call, mnist, tmp_path):
    assert call('scripts/train.py', '--epochs', 1, '--width', .1, '--name', 'auto').returncode == 0
    assert json.loads((tmp_path/'runs/auto/config.json').read_text())['dataset'] == 'mnist'


def test_wrong_hash(call, tmp_path):
    (tmp_path/'data/mnist').mkdir(parents=True)
    for name in 'train-images-idx3', 'train-labels-idx1', 't10k-images-idx3', 't10k-labels-idx1':
        (tmp_path/f'data/mnist/{name}-ubyte').write_bytes(b'\0\0\x08\x01\0\0\0\0')
    said = one_line(call('scripts/train.py', '--dataset', 'mnist', TRAIN_TICKET_DATA=str(tmp_path/'data')))
    assert 'wrong content' in said


@pytest.mark.parametrize('blocks, culprit', [(10, 'best.ticket.safetensors'), (2000, 'checkpoints/epoch1')])
def test_no_space_left(environment, tmp_path, blocks, culprit):
    "A limit on the size of files stands for the full disk: one line that names the file."
    options = '--keep', 'none', '--epochs', 2, '--name', 'full'
    command = sys.executable, top/'scripts/train.py', *DIGITS, *options
    limited = f'ulimit -f {blocks}; exec "$@"'
    quiet = environment | dict(TQDM_DISABLE='1')
    done = run('bash', '-c', limited, '_', *command, cwd=tmp_path, env=quiet)
    said = one_line(done)
    assert culprit in said and ('too large' in said or 'No space' in said) and '--name full --resume' in said
    left = {path.name for path in (tmp_path/'runs/full').iterdir() if path.is_file()}
    best = {'best.ticket.safetensors', 'best.scores.safetensors'} if blocks > 10 else set()
    assert left == {'config.json', 'data.json', 'metrics.jsonl'} | best
    assert not (tmp_path/'runs/full/checkpoints/latest').exists()


def test_no_network_and_no_mnist(call, tmp_path):
    "Without MNIST, auto says loudly that it takes the digits; mnist refuses."
    proxy = 'http://127.0.0.1:9'
    bare = dict(TRAIN_TICKET_DATA=str(tmp_path/'none'), XDG_CACHE_HOME=str(tmp_path/'cache'),
                https_proxy=proxy, http_proxy=proxy)
    start = time.monotonic()
    assert '--dataset digits' in one_line(call('scripts/train.py', '--dataset', 'mnist', **bare))
    assert time.monotonic() - start < 60
    done = call('scripts/train.py', '--epochs', 1, '--name', 'auto', **bare)
    assert done.returncode == 0 and 'NOT comparable with MNIST' in done.stderr
    assert 'these are not MNIST figures' in done.stdout
    found = summary(tmp_path/'runs/auto')
    assert found['fallback'] and found['dataset'] == found['config']['dataset'] == 'digits'


def wait_for(metrics, epochs, going):
    "Until a run has so many epochs behind it."
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= epochs):
        assert going.poll() is None and time.monotonic() < deadline
        time.sleep(.01)


LONG = [*DIGITS, '--epochs', '40']


@pytest.fixture(scope='module')
def whole(environment, fork, tmp_path_factory):
    "The folder of a run that nothing stops."
    folder = tmp_path_factory.mktemp('whole')
    done = forked.run(top/'scripts/train.py', [*LONG, '--name', 'whole'], folder, environment, 300)
    assert done.returncode == 0, done.stderr
    return folder/'runs/whole'


@pytest.mark.parametrize('sent, times', [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_stopped_and_resumed(call, whole, environment, tmp_path, sent, times):
    "A run that is stopped in the middle and resumed ends with the numbers of one that wasn't."
    command = [sys.executable, str(top/'scripts/train.py'), *LONG, '--name', 'cut']
    pipe = subprocess.PIPE
    going = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
    wait_for(tmp_path/'runs/cut/metrics.jsonl', 5, going)
    for _ in range(times):   # a double signal is one
        going.send_signal(sent)
        time.sleep(.05)
    _, said = going.communicate(timeout=60)
    assert going.returncode == 128 + sent and not (tmp_path/'runs/cut/summary.json').exists()
    assert 'continue with --name cut --resume' in said and 'Traceback' not in said
    resumed = call('scripts/train.py', '--name', 'cut', '--resume')
    assert resumed.returncode == 0, resumed.stderr
    assert losses(tmp_path/'runs/cut') == losses(whole)
    for key in 'test_correct', 'validation_accuracy', 'best_epoch', 'density':
        assert summary(tmp_path/'runs/cut')[key] == summary(whole)[key]
    assert not [path for path in (tmp_path/'runs/cut').rglob('.*')]


def test_stop_button(environment, tmp_path):
    "An interrupt to a notebook's kernel: `fit` returns the ticket, and the curve stands below the cell."
    nbformat, nbclient = pytest.importorskip('nbformat'), pytest.importorskip('nbclient')
    options = "dataset='digits', epochs=400, keep=None, device='cpu'"   # any density: a ticket at once
    start = f"found = fit(name='cut', runs={str(tmp_path)!r}, {options})"
    texts = 'from train_ticket.train import *', start, 'print(found)'
    cells = [nbformat.v4.new_code_cell(text) for text in texts]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name='python3')
    metrics = tmp_path/'cut/metrics.jsonl'

    async def press():
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 6): await asyncio.sleep(.02)
        await client.km.interrupt_kernel()

    async def work():
        path = environment.get('PYTHONPATH', str(top))
        async with client.async_setup_kernel(env=environment | dict(PYTHONPATH=path)):
            await client.async_execute_cell(cells[0], 0)
            await asyncio.gather(client.async_execute_cell(cells[1], 1), press())
            await client.async_execute_cell(cells[2], 2)

    asyncio.run(work())
    outputs = cells[1].outputs
    assert [output for output in outputs if 'image/png' in output.get('data', {})]
    assert 'resume=True)' in outputs[-1]['text']
    found = ast.literal_eval(cells[2].outputs[0]['text'])
    assert found['interrupted'] and Path(found['ticket']).exists()
    assert (tmp_path/'cut/checkpoints/latest').exists() and not (tmp_path/'cut/summary.json').exists()


def test_masks_of_every_epoch(tmp_path, monkeypatch):
    from train_ticket.analysis import keep_masks, load_history
    from train_ticket.train import fit
    monkeypatch.setenv('TQDM_DISABLE', '1')
    options = dict(dataset='digits', epochs=2, batch_size=64, device='cpu', loader='resident')
    fit(name='kept', runs=str(tmp_path), callbacks=[keep_masks], **options)
    history = load_history(tmp_path/'kept')
    records = [json.loads(line) for line in open(tmp_path/'kept/metrics.jsonl')]
    assert history.epochs == [0, 1, 2]
    assert history.betas == [1., *(record['beta'] for record in records)]
    for name, masks in history.masks.items():
        densities = masks[1:].reshape(2, -1).mean(1).tolist()
        assert [record['densities'][name] for record in records] == pytest.approx(densities, abs=1e-6)
