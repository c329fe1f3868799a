"Ten SIGKILLs at random moments of one short run: it can always be resumed, and nothing shows in the end."
import os, random, signal, sys, time
from pathlib import Path
import forked, pytest
from conftest import losses, summary

ARGUMENTS = ('--dataset digits --batch_size 64 --seed 5 --epochs 260 --width 0.3 '
             '--rotate 5 --save_every 6').split()


def attempt(arguments, *place):
    "A run, in a process that has PyTorch and DeepSpeed loaded already, which saves most of the time."
    forked.settle(*place)
    from train_ticket.train import main
    sys.exit(main(arguments))


@pytest.fixture
def start(environment, fork, tmp_path):
    (tmp_path/'tmp').mkdir()
    own, said = environment | dict(TMPDIR=str(tmp_path/'tmp')), tmp_path/'said.txt'
    def run(*arguments):
        process = fork.Process(target=attempt, args=(list(arguments), tmp_path, own, said, said))
        process.start()
        return process
    return run


def files(folder): return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob('*'))


def in_folder(folder): # processes that run there
    found = []
    for link in Path('/proc').glob('[0-9]*/cwd'):
        try: found += [link.parent.name]*(os.readlink(link) == str(folder))
        except OSError: pass
    return found


def test_ten_kills(start, tmp_path):
    whole = start(*ARGUMENTS, '--name', 'whole')
    whole.join(600)
    assert whole.exitcode == 0, (tmp_path/'said.txt').read_text()
    draw, kills, resumed = random.Random(4), 0, 0
    config = tmp_path/'runs/cut/config.json'   # the second kill, and those after it, come once it is there
    for _ in range(40):
        begun = config.exists()
        process = start('--name', 'cut', *(['--resume'] if begun else ARGUMENTS))
        while kills and not config.exists() and process.is_alive(): time.sleep(.01)
        process.join(draw.uniform(.2, 1.8) if kills < 10 else 600)
        if process.is_alive():
            process.kill()
            process.join(10)
            kills += 1
        assert process.exitcode in (0, -signal.SIGKILL), (tmp_path/'said.txt').read_text()
        resumed += begun
        if kills == 10 and process.exitcode == 0: break
    assert kills == 10 and process.exitcode == 0 and resumed > 5
    assert losses(tmp_path/'runs/cut') == losses(tmp_path/'runs/whole')
    one, other = summary(tmp_path/'runs/cut'), summary(tmp_path/'runs/whole')
    for key in ('test_correct', 'test_loss', 'soft_accuracy', 'validation_accuracy', 'best_epoch',
                'densities', 'epochs', 'steps'): assert one[key] == other[key]
    assert files(tmp_path/'runs/cut') == files(tmp_path/'runs/whole') and not files(tmp_path/'tmp')
    assert not in_folder(tmp_path)
