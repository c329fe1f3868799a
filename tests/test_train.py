"The main job, as a user runs it: launcher, plain script, evaluation, mistakes, interruptions."
import ast, asyncio, json, signal, subprocess, sys, time
from pathlib import Path
import pytest
from conftest import losses, summary, top

DIGITS = '--dataset digits --batch_size 64 --seed 5'.split()


def one_line(process):
    "Exit code 2, one line on stderr, no traceback."
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    assert process.returncode == 2, process.stderr
    assert len(lines) == 1 and lines[0].startswith('error: '), process.stderr
    assert 'Traceback' not in process.stdout + process.stderr
    return lines[0]


def test_launcher_trains_mnist_and_evaluation_agrees(call, environment, mnist, tmp_path):
    trained = call('scripts/launch_local_train.sh', *'--dataset mnist --arch lenet300 --epochs 3 --seed 1 --name short'.split())
    assert trained.returncode == 0, trained.stderr
    found = summary(tmp_path/'runs/short')
    assert found['test_accuracy'] > .955 and found['pure'] and found['ticket_bytes'] < 40_000 and found['world_size'] == 1
    assert f'{found["test_accuracy"]:.2%}' in trained.stdout and 'scripts/evaluate.py --ticket runs/short/best.ticket.safetensors' in trained.stdout
    code = 'import sys, runpy; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name="__main__")\nexcept SystemExit: pass\nassert not any("deepspeed" in m or "nvidia.dali" in m for m in sys.modules)'
    evaluated = subprocess.run([sys.executable, '-c', code, str(top/'scripts/evaluate.py'), '--ticket', 'runs/short/best.ticket.safetensors', '--dataset', 'mnist', '--json'],
                               cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)['test_correct'] == found['test_correct']


def test_same_command_same_losses_and_loaders_agree(call, tmp_path):
    for name, more in ('a', []), ('b', []), ('c', ['--loader', 'resident']):
        done = call('scripts/train.py', *DIGITS, '--epochs', 3, '--name', name, *more)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path/'runs/a') == losses(tmp_path/'runs/b') == losses(tmp_path/'runs/c')
    assert len(set(losses(tmp_path/'runs/a'))) == 3


def test_dense_twin_and_ticket_commands(call, tmp_path):
    assert call('scripts/train.py', *DIGITS, '--epochs', 5, '--gate', 'none', '--name', 'dense').returncode == 0
    found = summary(tmp_path/'runs/dense')
    assert not found['pure'] and found['test_accuracy'] > .85
    assert call('scripts/evaluate.py', '--ticket', found['ticket']).returncode == 0
    assert call('scripts/train.py', *DIGITS, '--epochs', 1, '--name', 'ticket').returncode == 0
    ticket = tmp_path/'runs/ticket/best.ticket.safetensors'
    tool = lambda *arguments: subprocess.run([sys.executable, '-c', 'import sys; from train_ticket.ticket import main; sys.exit(main())', *map(str, arguments)], capture_output=True, text=True)
    assert 'pure: True' in tool('show', ticket).stdout and tool('verify', ticket).returncode == 0 and tool('audit', ticket).returncode == 0
    ticket.write_bytes(ticket.read_bytes()[:-9] + b'\xff' + ticket.read_bytes()[-8:])
    assert 'error: ' in one_line(tool('audit', ticket))
    one_line(call('scripts/evaluate.py', '--ticket', ticket))


def test_two_ranks(call, tmp_path):
    done = call('scripts/launch_local_train.sh', *DIGITS, '--epochs', 6, '--name', 'two', RANKS='2')
    assert done.returncode == 0, done.stderr
    assert call('scripts/train.py', *DIGITS, '--epochs', 6, '--name', 'one').returncode == 0
    two, one = summary(tmp_path/'runs/two'), summary(tmp_path/'runs/one')
    assert two['world_size'] == 2 and two['steps'] == one['steps']
    assert abs(losses(tmp_path/'runs/two')[0] - losses(tmp_path/'runs/one')[0]) < 1e-3   # only the order of additions differs
    assert abs(two['test_accuracy'] - one['test_accuracy']) < .03


@pytest.mark.parametrize('arguments, words', [
    ('--arch lenet30', 'did you mean lenet300'), ('--gate sigmoyd', 'did you mean sigmoid'), ('--dataset mnits', 'did you mean mnist'),
    ('--precision fp16 --device cpu', '--precision fp16 needs a GPU'), ('--epochs three', '--epochs'), ('--name ../x', 'no name for a folder'),
    ('--deepspeed_config absent.json', 'absent.json'), ('--no-such-option', 'unrecognized'), ('--set gradient_clipping=1', 'the run to 0.0'),
    ('--set zero_optimization.overlap_com=true', 'did you mean overlap_comm'), ('--name absent --resume', 'no run')])
def test_mistakes(call, tmp_path, arguments, words):
    assert words in one_line(call('scripts/train.py', *arguments.split()))
    assert not (tmp_path/'runs').exists()


def test_no_compiler(call, tmp_path):
    "torch.compile is tried before anything is loaded."
    said = one_line(call('scripts/train.py', *DIGITS, '--compile', '--device', 'cpu', PATH=str(tmp_path), TORCHINDUCTOR_CACHE_DIR=str(tmp_path/'cache')))
    assert 'no compiler here that works' in said and 'leave --compile out' in said and not (tmp_path/'runs').exists()


def test_mistake_under_the_launcher(call):
    assert 'did you mean lenet300' in one_line(call('scripts/launch_local_train.sh', '--arch', 'lenet30', RANKS='2'))


def test_taken_name_and_wrong_hash(call, tmp_path):
    assert call('scripts/train.py', *DIGITS, '--epochs', 1, '--name', 'x').returncode == 0
    assert '--resume, or choose another --name' in one_line(call('scripts/train.py', *DIGITS, '--name', 'x'))
    (tmp_path/'data/mnist').mkdir(parents=True)
    for name in 'train-images-idx3', 'train-labels-idx1', 't10k-images-idx3', 't10k-labels-idx1': (tmp_path/f'data/mnist/{name}-ubyte').write_bytes(b'\0\0\x08\x01\0\0\0\0')
    assert 'wrong content' in one_line(call('scripts/train.py', '--dataset', 'mnist', TRAIN_TICKET_DATA=str(tmp_path/'data')))


def test_no_space_left(environment, tmp_path):
    "A limit on the size of files stands for the full disk: one line, and nothing half-written."
    done = subprocess.run(['bash', '-c', 'ulimit -f 20; exec "$@"', '_', sys.executable, str(top/'scripts/train.py'), *DIGITS, '--epochs', '2', '--name', 'full'],
                          cwd=tmp_path, env=environment | dict(TQDM_DISABLE='1'), capture_output=True, text=True)
    assert 'too large' in one_line(done)
    assert sorted(path.name for path in (tmp_path/'runs/full').rglob('*') if path.is_file()) == ['config.json', 'metrics.jsonl']


def test_no_network_and_no_mnist(call, tmp_path):
    "Without MNIST, auto says loudly that it takes the digits; mnist refuses."
    bare = dict(TRAIN_TICKET_DATA=str(tmp_path/'none'), XDG_CACHE_HOME=str(tmp_path/'cache'), https_proxy='http://127.0.0.1:9', http_proxy='http://127.0.0.1:9')
    start = time.monotonic()
    assert '--dataset digits' in one_line(call('scripts/train.py', '--dataset', 'mnist', **bare))
    assert time.monotonic() - start < 60
    done = call('scripts/train.py', '--epochs', 1, '--name', 'auto', **bare)
    assert done.returncode == 0 and 'NOT comparable with MNIST' in done.stderr and 'these are not MNIST figures' in done.stdout
    found = summary(tmp_path/'runs/auto')
    assert found['fallback'] and found['dataset'] == 'digits'


@pytest.mark.parametrize('sent, times', [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_stopped_and_resumed(call, environment, tmp_path, sent, times):
    "A run that is stopped in the middle and resumed ends with the losses and the test accuracy of one that wasn't."
    arguments = [*DIGITS, '--epochs', '40']
    assert call('scripts/train.py', *arguments, '--name', 'whole').returncode == 0
    going = subprocess.Popen([sys.executable, str(top/'scripts/train.py'), *arguments, '--name', 'cut'], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path/'runs/cut/metrics.jsonl'
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 5):
        assert going.poll() is None and time.monotonic() < deadline
        time.sleep(.01)
    for _ in range(times): going.send_signal(sent); time.sleep(.05)   # a double signal is one
    _, said = going.communicate(timeout=60)
    assert going.returncode == 128 + sent and not (tmp_path/'runs/cut/summary.json').exists()
    assert '--name cut --resume goes on from there' in said and 'Traceback' not in said
    resumed = call('scripts/train.py', '--name', 'cut', '--resume')
    assert resumed.returncode == 0, resumed.stderr
    assert losses(tmp_path/'runs/cut') == losses(tmp_path/'runs/whole')
    for key in 'test_correct', 'validation_accuracy', 'best_epoch', 'density': assert summary(tmp_path/'runs/cut')[key] == summary(tmp_path/'runs/whole')[key]
    assert not [path for path in (tmp_path/'runs/cut').rglob('.*')]


def test_stop_button(environment, tmp_path):
    "An interrupt to a notebook's kernel: `fit` comes back with the ticket, and the curve stands below the cell."
    nbformat, nbclient = pytest.importorskip('nbformat'), pytest.importorskip('nbclient')
    how = f"name='cut', runs={str(tmp_path)!r}"
    sources = 'from train_ticket.train import *', f"found = fit(resolve(dict({how}, dataset='digits', epochs=400, device='cpu')))", 'print(found)'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    client, metrics = nbclient.NotebookClient(notebook, timeout=120, kernel_name='python3'), tmp_path/'cut/metrics.jsonl'
    async def press():
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 6): await asyncio.sleep(.02)
        await client.km.interrupt_kernel()
    async def work():
        async with client.async_setup_kernel(env=environment | dict(PYTHONPATH=str(top))):
            await client.async_execute_cell(notebook.cells[0], 0)
            await asyncio.gather(client.async_execute_cell(notebook.cells[1], 1), press())
            await client.async_execute_cell(notebook.cells[2], 2)
    asyncio.run(work())
    outputs = notebook.cells[1].outputs
    assert [output for output in outputs if 'image/png' in output.get('data', {})] and 'resume=True))) goes on from there' in outputs[-1]['text']
    found = ast.literal_eval(notebook.cells[2].outputs[0]['text'])
    assert found['interrupted'] and Path(found['ticket']).exists() and (tmp_path/'cut/checkpoints/latest').exists() and not (tmp_path/'cut/summary.json').exists()


def test_masks_of_every_epoch(tmp_path, monkeypatch):
    from train_ticket.analysis import keep_masks, load_history
    from train_ticket.train import Config, check_config, fit
    monkeypatch.setenv('TQDM_DISABLE', '1')
    config = check_config(Config(name='kept', runs=str(tmp_path), dataset='digits', epochs=2, batch_size=64, device='cpu', loader='resident'))
    fit(config, after_epoch=keep_masks)
    history = load_history(tmp_path/'kept')
    records = [json.loads(line) for line in open(tmp_path/'kept/metrics.jsonl')]
    assert history.epochs == [0, 1, 2] and history.betas == [1., *(record['beta'] for record in records)]
    for name, masks in history.masks.items(): assert [record['densities'][name] for record in records] == pytest.approx(masks[1:].reshape(2, -1).mean(1).tolist(), abs=1e-6)
