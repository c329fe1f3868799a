"Mistakes and second runs with your own network: each ends in one clear error, and nothing is lost."
from pathlib import Path
import json
import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from conftest import top
import own_networks as own
from in_new_process import OPTIONS
from train_ticket import export, infer, masks, ticket, train
from train_ticket.core import UserError
from train_ticket.datasets import load_dataset
from train_ticket.train import ConfigError, configure, fit

OWN = f'{top}/tests/own_networks.py'


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TQDM_DISABLE', '1')


def contents() -> dict: # of every file of the run x
    return {path: path.read_bytes() for path in Path('runs/x').rglob('*') if path.is_file()}


def settings(name='x') -> dict: return json.loads(Path(f'runs/{name}/config.json').read_text())


def command(capsys, main, *arguments) -> str: # its one line on stderr
    "A command that has to fail: exit code 2, one line, no traceback."
    try: code = main([str(a) for a in arguments])
    except SystemExit as exit: code = exit.code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert code == 2 and len(lines) == 1 and lines[0].startswith('error: '), lines
    return lines[0]


@pytest.fixture
def done(): # the summary of a run called x
    return fit(model=own.with_logits(), name='x', **OPTIONS)


def test_a_second_run_is_told_what_to_do(done, capsys):
    "Before, it took up the checkpoint, trained nothing, and wrote the new settings over the old ones."
    before = contents()
    with pytest.raises(ConfigError) as caught: fit(model=own.with_logits(), name='x', **OPTIONS | dict(lr=.5))
    said = str(caught.value)
    assert 'overwrite=True' in said and 'resume=True' in said and '--' not in said
    said = command(capsys, train.main, '--name', 'x', '--dataset', 'digits', '--device', 'cpu')
    assert '--overwrite' in said and '--resume' in said and 'overwrite=' not in said
    assert before == contents()


def test_overwrite(done):
    again = fit(model=own.with_logits(), name='x', overwrite=True, **OPTIONS | dict(lr=.02, epochs=2))
    assert again['epochs'] == 2 and settings()['lr'] == .02
    assert len(Path('runs/x/metrics.jsonl').read_text().splitlines()) == 2


def test_nothing_to_gate():
    with pytest.raises(ConfigError, match='gate'): fit(model=own.nothing_to_gate(), name='x', **OPTIONS)
    assert not Path('runs/x').exists()


@pytest.mark.parametrize('given, words', [
    (dict(keep=0.), ['keep']), (dict(lr=0.), ['lr']),
    (dict(gate='popup', straight=2.), ['popup', 'straight']),
    (dict(gate='ste', beta_start=2.), ['ste', 'beta_start']), (dict(keep=.25, zero=3), ['zero']),
    (dict(epoch=3), ['epoch', 'epochs']), (dict(kep=.5), ['kep', 'keep']),
    (dict(gate='sigmoyd'), ['sigmoid'])])
def test_settings_that_cannot_be(given, words):
    for call in configure, fit:
        with pytest.raises(ConfigError) as caught: call(**given)
        said = str(caught.value)
        assert all(word in said for word in words) and '\n' not in said
    assert not Path('runs').exists()


def test_three_outputs_for_ten_classes():
    with pytest.raises(ConfigError) as caught: fit(model=own.three_outputs(), name='x', **OPTIONS)
    assert '3' in str(caught.value) and '10' in str(caught.value)
    assert not Path('runs/x').exists()


def test_a_run_that_fails_before_its_first_step_leaves_its_name_free():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(63, 10)
        def forward(self, x): return self.layer(x.flatten(1))
    with pytest.raises(Exception): fit(model=Fails(), name='x', **OPTIONS)
    assert not Path('runs/x').exists()
    assert fit(model=own.with_logits(), name='x', **OPTIONS)['test_correct']


@pytest.mark.parametrize('model, words', [
    ('own_networks.py', 'FILE.py:factory'), ('absent.py:resnet', 'absent.py'), (f'{OWN}:resnett', 'resnet'),
    (f'{OWN}:number', 'number'), (f'{OWN}:raises', 'this factory never works'),
    (f'{OWN}:no_network', 'no_network'), ('no.such.package:resnet', 'no')])
def test_factories_that_fail(model, words, capsys):
    said = command(capsys, train.main, '--dataset', 'digits', '--device', 'cpu', '--model', model)
    assert words in said and not Path('runs').exists()


def test_owners_of_networks_are_told_the_option(done, capsys):
    from train_ticket import report
    path = done['ticket']
    assert '--model' in command(capsys, infer.main, '--ticket', path)
    assert not report.main(['runs/x']) and '--model' in Path('runs/x/report.html').read_text()
    note = capsys.readouterr().err.splitlines()[-1]
    assert note.startswith('note: the report lacks the figures of predictions, effects and robustness: ')
    assert '--model FILE.py:factory' in note
    assert '--model' in command(capsys, infer.main, '--ticket', path, '--model', f'{OWN}:conv1d')


def test_every_command_takes_the_model(done, capsys):
    from train_ticket import report
    path, model = done['ticket'], ['--model', f'{OWN}:with_logits']
    commands = (infer.main, ['--ticket', path]), (ticket.main, ['audit', path]), (report.main, ['runs/x'])
    for main, arguments in commands:
        assert not main([*map(str, arguments), *model]), capsys.readouterr().err


def test_onnx(done):
    pytest.importorskip('onnxscript'), (runtime := pytest.importorskip('onnxruntime'))
    body = own.with_logits().body
    found = fit(model=body, name='body', **OPTIONS)
    file = export.to_onnx(found['ticket'], 'own.onnx', in_shape=(1, 8, 8), model=body)
    x = torch.randn(3, 1, 8, 8)
    answer, = runtime.InferenceSession(str(file)).run(None, {'images': x.numpy()})
    expected = infer.load_network(found['ticket'], model=body)(x)
    assert np.allclose(answer, expected.detach().numpy(), atol=1e-4)


def test_scalars_survive():
    "A temperature is a tensor without dimensions, and the counter of a batch norm another."
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            self.norm = nn.BatchNorm1d(10, affine=False)
            self.temperature = nn.Parameter(torch.tensor(1.))
        def forward(self, x): return self.norm(self.body(x))/self.temperature
    found = fit(model=Tempered(), name='x', **OPTIONS)
    network = ticket.to_model(ticket.load_ticket(found['ticket']), Tempered())
    assert network.temperature.shape == () and network.norm.num_batches_tracked.shape == ()
    assert network.norm.num_batches_tracked.dtype == torch.int64 and network.norm.num_batches_tracked > 0
    assert network.temperature != 1 and not found['pure']


def test_colour_stays_colour(capsys):
    "Pictures keep their size and channels, and evaluation of other data warns."
    random = np.random.default_rng(0)
    for split, count in ('train', 24), ('test', 6):
        for kind, channel in ('red', 0), ('green', 1):
            place = Path(f'pictures/{split}/{kind}')
            place.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 60, (10, 12, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(place/f'{i}.png')
    network = nn.Sequential(nn.Flatten(), nn.Linear(3*10*12, 2))
    found = fit(model=network, name='x', dataset='folder:pictures', epochs=6, shift=0, device='cpu',
                loader='resident')
    assert found['test_correct'] > 9
    assert list(found.get('in_shape', (3, 10, 12))) == [3, 10, 12]
    assert infer.evaluate(found['ticket'], model=network)['test_correct'] == found['test_correct']


def test_a_run_of_your_own_parts_asks_for_them_to_go_on():
    "The resumed run must not take MNIST, or a network of the registry, instead."
    digits = load_dataset('digits')
    def stop(network, folder, record):
        if record['epoch'] == 1: raise RuntimeError('stopped')
    with pytest.raises(RuntimeError, match='stopped'):
        fit(name='mine', dataset=digits, epochs=2, device='cpu', loader='resident', callbacks=[stop])
    with pytest.raises(train.ConfigError, match='dataset= .* pass the same to resume it'):
        fit(name='mine', resume=True)
    assert fit(name='mine', resume=True, dataset=digits)['dataset'] == 'digits'


def test_overwriting_loses_nothing_before_the_first_step():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        def forward(self, x):
            if self.training: raise RuntimeError('broken in training')
            return self.body(x)
    fit(name='kept', **OPTIONS)
    before = Path('runs/kept/summary.json').read_text()
    with pytest.raises(Exception, match='broken in training'):
        fit(name='kept', model=Broken(), overwrite=True, **OPTIONS)
    assert Path('runs/kept/summary.json').read_text() == before
    fit(name='kept', overwrite=True, **OPTIONS)
    assert [path.name for path in Path('runs').iterdir()] == ['kept']


def test_overwrite_leaves_other_folders_alone():
    folder = Path('project/hf')
    folder.mkdir(parents=True)
    (folder/'config.json').write_text('{"architectures": ["Bert"]}')
    (folder/'model.bin').write_text('weights')
    with pytest.raises(train.ConfigError):
        fit(name='hf', runs='project', overwrite=True, **OPTIONS)
    assert (folder/'model.bin').exists()


def test_a_gated_network_is_refused_before_training():
    with pytest.raises(train.ConfigError, match='gated already'):
        fit(name='gated', model=masks.ticketize(own.conv1d()), **OPTIONS)
    assert not Path('runs/gated').exists()


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_a_network_in_another_type(dtype):
    "Images are float32; the network gets them in its own type."
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).to(dtype)
    found = fit(model=network, name='x', **OPTIONS)
    loaded = infer.load_network(found['ticket'], model=network)
    batch = torch.zeros(9, 1, 8, 8), torch.zeros(9, dtype=torch.long)
    assert ticket.accuracy(loaded, [batch])['total'] == 9
