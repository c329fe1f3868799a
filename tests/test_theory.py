"A constructed ticket is a ticket like any other: the command line audits and evaluates it."
import json, subprocess, sys
from train_ticket.data import load_dataset
from train_ticket.theory import as_ticket, construct, construct_binary, train_target
from train_ticket.ticket import save_ticket


def test_constructed_tickets(call, tmp_path):
    target, record = train_target((12,), load_dataset('digits'), seed=3, epochs=10, lr=.01)
    for name, found in dict(sums=construct(target, 5, 21, .02, 'greedy'), signs=construct_binary(target, 5, 5, 2)).items():
        path = save_ticket(as_ticket(found, dataset='digits'), tmp_path/f'{name}.ticket.safetensors')
        audit = subprocess.run([sys.executable, '-c', 'import sys; from train_ticket.ticket import main; sys.exit(main())', 'audit', str(path)], capture_output=True, text=True)
        assert audit.returncode == 0 and 'pure' in audit.stdout, audit.stderr
        seen = []
        for mode in 'materialise', 'generate':
            done = call('scripts/evaluate.py', '--ticket', path, '--mode', mode, '--device', 'cpu', '--json')
            assert done.returncode == 0, done.stderr
            seen.append(json.loads(done.stdout))
            assert seen[-1]['pure'] and seen[-1]['arch'] == 'feedforward'
        assert abs(seen[0]['test_correct'] - seen[1]['test_correct']) <= 1   # sums in another order
        if name == 'sums': assert abs(seen[0]['test_accuracy'] - record['test_accuracy']) < .05


def test_experiment_by_its_name(call):
    done = call('scripts/theory.py', 'proof')
    assert done.returncode == 2 and 'invalid choice' in done.stderr
