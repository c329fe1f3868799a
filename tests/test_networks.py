"""Any network: trained, saved, loaded in a new process and evaluated, from Python and by the command line.

A row is a network of tests/own_networks.py, its gated layers by type, and whether its ticket is pure.
"""
from functools import cache
from pathlib import Path
import json, subprocess, sys
import pytest, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import own_networks
from in_new_process import OPTIONS
from train_ticket.infer import MODES, evaluate
from train_ticket.masks import inventory, masks_of, ticketize
from train_ticket.ticket import accuracy, audit, load_ticket, to_model
from train_ticket.train import fit

ROWS = {
    'resnet': ('20 Conv2d, 1 Linear', True),
    'resnet_affine': ('20 Conv2d, 1 Linear', False),
    'encoder': ('1 Encoder, 6 Linear, 2 MultiheadAttention, 2 NonDynamicallyQuantizableLinear', True),
    'attention': ('2 Linear, 1 MultiheadAttention, 1 NonDynamicallyQuantizableLinear', True),
    'embedding': ('1 Embedding, 1 Linear', True),
    'tied': ('1 Embedding, 1 Linear', True),
    'reused': ('3 Linear', True),
    'conv1d': ('2 Conv1d, 1 Linear', True),
    'conv3d': ('1 Conv3d, 1 Linear', True),
    'transposed': ('1 Conv2d, 1 ConvTranspose2d, 1 Linear', True),
    'grouped': ('3 Conv2d, 1 Linear', True),
    'with_logits': ('2 Linear', True),
    'vision_transformer': ('', False)}

AFFINE = 'resnet_affine',   # rows whose scales and shifts are kept and trained

every_row = pytest.mark.parametrize('name', ROWS)


def network(name: str) -> nn.Module:
    if name == 'vision_transformer': pytest.importorskip('transformers')
    torch.manual_seed(0)
    return getattr(own_networks, name)()


def state(model: nn.Module) -> dict:
    "Everything that training could change of a network."
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    return dict(model.state_dict(keep_vars=False)), flags, model.training


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A function that trains a row once: name → summary. Its attribute `folder` holds the runs."
    folder = tmp_path_factory.mktemp('networks')
    @cache
    def train(name):
        options = OPTIONS | dict(affine=name in AFFINE)
        return fit(model=network(name), name=name, runs=str(folder/'runs'), **options)
    train.folder = folder
    return train


@pytest.fixture(scope='module')
def in_new_process(trained, environment):
    "A function that starts one process for all rows that train: what → name → what was found."
    @cache
    def found(what):
        names = [path.parent.name for path in (trained.folder/'runs').glob('*/summary.json')]
        script = Path(__file__).with_name('in_new_process.py')
        command = [sys.executable, script, what, trained.folder, *names]
        done = subprocess.run(command, cwd=trained.folder/'by_command', env=environment, timeout=300,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    (trained.folder/'by_command').mkdir()
    return found


@every_row
def test_gated_by_type(name):
    gated, pure = ROWS[name]
    stock = inventory(ticketize(network(name), affine=name in AFFINE))
    assert stock.pure == pure
    if gated: assert stock.grouped(stock.gated) == gated


@every_row
def test_training(name, trained, monkeypatch):
    monkeypatch.setenv('TQDM_DISABLE', '1')
    summary = trained(name)
    assert summary['pure'] == ROWS[name][1]
    ticket = load_ticket(summary['ticket'])
    model = to_model(ticket, network(name))
    assert not masks_of(model)
    assert list(masks_of(ticketize(network(name)))) == [layer.name for layer in ticket.layers]


@every_row
def test_new_process(name, trained, in_new_process):
    summary = trained(name)
    found = in_new_process('evaluate')[name]
    assert 'error' not in found, found
    assert found['evaluated'] == summary['test_correct'] and found['audited'] == summary['pure']


@every_row
def test_command_line(name, trained, in_new_process):
    summary = trained(name)
    found = in_new_process('commands')[name]
    assert 'error' not in found, found
    assert found['evaluated'] == summary['test_correct'] and found['evaluated_again'] == found['trained']
    # nothing but the masks was learned, so nothing else was drawn at random
    if summary['pure']: assert found['trained'] == summary['test_correct']


@every_row
def test_the_network_stays_as_it_was(name, tmp_path, monkeypatch):
    monkeypatch.setenv('TQDM_DISABLE', '1')
    model = network(name)
    tensors, flags, training = state(model)
    before = {key: value.clone() for key, value in tensors.items()}
    ticketize(model)
    if name in ('with_logits', 'resnet_affine', 'tied'):
        fit(model=model, name='x', runs=str(tmp_path), **OPTIONS)
    tensors, *rest = state(model)
    assert rest == [flags, training] and list(tensors) == list(before)
    assert all(torch.equal(tensors[key], value) for key, value in before.items())


@pytest.mark.parametrize('name', ('encoder', 'attention', 'embedding', 'tied', 'grouped'))
def test_two_candidates(name, tmp_path, monkeypatch):
    "Two random weights per connection: trained, saved, and evaluated in every mode."
    monkeypatch.setenv('TQDM_DISABLE', '1')
    summary = fit(model=network(name), name=name, runs=str(tmp_path), candidates=2, **OPTIONS)
    ticket = load_ticket(summary['ticket'])
    assert summary['pure'] == ROWS[name][1] and len(ticket.layers) == 2*len(ticket.firsts)
    assert list(masks_of(ticketize(network(name)))) == [layer.name for layer in ticket.firsts]
    for mode in MODES:
        found = evaluate(summary['ticket'], model=network(name), mode=mode)
        # an image whose two highest logits are equal may go either way
        assert abs(found['test_correct'] - summary['test_correct']) <= 1


@pytest.mark.parametrize('options', (dict(zero=3), dict(compile=True)), ids=str)
def test_two_candidates_in_the_engine(options, tmp_path, monkeypatch):
    monkeypatch.setenv('TQDM_DISABLE', '1')
    found = [fit(model=own_networks.small_conv1d(), name=f'run{k}', runs=str(tmp_path), candidates=2,
                 **OPTIONS, **more)
             for k, more in enumerate(({}, options))]
    assert abs(found[0]['validation_accuracy'] - found[1]['validation_accuracy']) < .02


def test_batch_norm(trained, in_new_process):
    "What pure means where statistics are measured: the audit names them."
    pure, affine = (in_new_process('evaluate')[name]['says'] for name in ('resnet', 'resnet_affine'))
    trained('resnet'), trained('resnet_affine')
    assert 'measured' in pure and 'running_mean' in pure
    assert 'not pure' in affine and 'norm' in affine


def test_fast_path(trained):
    "PyTorch's encoder reads its layers' weights itself: masked ones, on the fast path as on the slow one."
    model = to_model(load_ticket(trained('encoder')['ticket']), network('encoder')).eval()
    gated = ticketize(network('encoder'), seed=5).eval()
    x, before = torch.randn(16, 1, 8, 8), torch.backends.mha.get_fastpath_enabled()
    for net in model, gated:
        outputs = []
        try:
            for fast in True, False:
                torch.backends.mha.set_fastpath_enabled(fast)
                with torch.no_grad(): outputs.append(net(x))
        finally: torch.backends.mha.set_fastpath_enabled(before)
        assert torch.allclose(*outputs, atol=1e-5)


def loader(inputs, labels, shuffle=False): return DataLoader(TensorDataset(inputs, labels), 50, shuffle)


def batches(inputs, labels) -> tuple: # train, validation, test
    parts = (loader(inputs[i:i + 100], labels[i:i + 100]) for i in (0, 100))
    return loader(inputs[200:], labels[200:], True), *parts


def shifted(labels, *shape): # float32 [B, *shape]: noise, and an end that tells the class
    x = torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(1))
    x[..., 0] += 2*labels.float().view(-1, *[1]*(len(shape) - 1))
    return x


LABELS = torch.arange(700) % 3
WITH_LOADERS = {
    'tokens': (lambda: nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(8*5, 3)),
               lambda: (torch.arange(5) + LABELS[:, None]*2)),
    'sequences': (lambda: nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8*8, 3)),
                  lambda: shifted(LABELS, 2, 10)),
    'volumes': (lambda: nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8*2*3*3, 3)),
                lambda: shifted(LABELS, 1, 4, 5, 5))}


@pytest.mark.parametrize('kind', WITH_LOADERS)
def test_loaders(kind, tmp_path, monkeypatch):
    "Inputs that are no images, from PyTorch's own loaders."
    monkeypatch.setenv('TQDM_DISABLE', '1')
    build, make = WITH_LOADERS[kind]
    data = batches(make(), LABELS)
    found = fit(model=build(), loaders=data, name=kind, runs=str(tmp_path), epochs=4, lr=.1, device='cpu')
    ticket = load_ticket(found['ticket'])
    assert found['test_accuracy'] > .5 and audit(ticket).pure
    assert accuracy(to_model(ticket, build()), data[2])['correct'] == found['test_correct']
