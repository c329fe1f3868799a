"""Runs of another process, evaluated: `python tests/in_new_process.py WHAT FOLDER NAME …`

`evaluate` counts right answers with Python's functions, `commands` with the commands that users type.
Both read FOLDER/runs/NAME, the runs that were trained in another process, and print one JSON object:
name → what was found.
"""
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
import json, os, sys, warnings

sys.path.insert(0, str(Path(__file__).parent))
import own_networks
from train_ticket import infer, ticket, train

OPTIONS = dict(dataset='digits', in_shape='1x8x8', epochs=2, batch_size=32, loader='resident', device='cpu',
               lr=.1, seed=3)


def evaluate(path: Path, name: str) -> dict:
    "The ticket of a run, loaded and evaluated with Python's functions."
    network = getattr(own_networks, name)()
    audited = ticket.audit(ticket.load_ticket(path), network)
    correct = infer.evaluate(path, model=network)['test_correct']
    return dict(evaluated=correct, audited=audited.pure, says=str(audited))


def run(main, *arguments, codes=(0,)) -> str: # what it prints
    "Run a command's `main` in this process; its exit code has to be one of `codes`."
    printed, complained = StringIO(), StringIO()
    with redirect_stdout(printed), redirect_stderr(complained):
        try: code = main([str(a) for a in arguments])
        except SystemExit as exit: code = exit.code
    assert code in codes, f'{arguments}: exit code {code}\n{complained.getvalue()}'
    return printed.getvalue()


def commands(path: Path, name: str) -> dict:
    "Train the same network again by the command line; evaluate and audit both tickets by it."
    model = '--model', f'{own_networks.__file__}:{name}'
    options = [part for key, value in OPTIONS.items() for part in (f'--{key}', value)]
    run(train.main, *options, '--name', name, *model)
    again = Path('runs')/name
    counts = [json.loads(run(infer.main, '--ticket', t, *model, '--json'))['test_correct']
              for t in (path, again/path.name)]
    audited = run(ticket.main, 'audit', path, *model, codes=(0, 1))   # 1: not pure
    return dict(trained=json.loads((again/'summary.json').read_text())['test_correct'], evaluated=counts[0],
                evaluated_again=counts[1], says=audited)


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    os.environ['TQDM_DISABLE'] = '1'
    what, folder, *names = sys.argv[1:]
    found = {}
    for name in names:
        try:
            found[name] = dict(evaluate=evaluate, commands=commands)[what](
                Path(folder)/'runs'/name/'best.ticket.safetensors', name)
        except Exception as error: found[name] = dict(error=f'{type(error).__name__}: {error}')
    print(json.dumps(found))
