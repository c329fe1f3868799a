"A constructed ticket is a ticket like any other: the command line audits and evaluates it."
import json
from importlib import import_module
import pytest
from train_ticket.datasets import load_dataset
from train_ticket.theory import as_ticket, construct, construct_binary, train_target
from train_ticket.ticket import main, save_ticket

WAYS = dict(sums=lambda model: construct(model, 5, 21, .02, 'greedy'),
            signs=lambda model: construct_binary(model, 5, 5, 2))


@pytest.fixture(scope='module')
def target(): # a network and its record
    return train_target((12,), load_dataset('digits'), seed=3, epochs=10, lr=.01)


def evaluated(call, path, mode) -> dict:
    done = call('scripts/evaluate.py', '--ticket', path, '--mode', mode, '--device', 'cpu', '--json')
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize('way', WAYS)
def test_constructed_tickets(call, target, tmp_path, capsys, way):
    model, record = target
    path = save_ticket(as_ticket(WAYS[way](model), dataset='digits'), tmp_path/'made.ticket.safetensors')
    assert main(['audit', str(path)]) == 0
    assert 'pure' in capsys.readouterr().out
    stored, generated = (evaluated(call, path, mode) for mode in ('materialise', 'generate'))
    assert stored['pure'] and generated['pure'] and stored['arch'] == 'feedforward'
    assert abs(stored['test_correct'] - generated['test_correct']) <= 1   # sums in another order
    if way == 'sums':
        assert abs(stored['test_accuracy'] - record['test_accuracy']) < .05


def test_experiment_by_its_name(call):
    done = call('scripts/theory.py', 'proof')
    assert done.returncode == 2 and 'invalid choice' in done.stderr


def test_levers_are_read_as_literals(monkeypatch):
    monkeypatch.syspath_prepend('scripts')
    parsed = import_module('levers').parsed
    assert parsed('straight=inf, betas=(.9, .99)') == dict(straight=float('inf'), betas=(.9, .99))
    with pytest.raises(ValueError):
        parsed('seed=print(1)')
