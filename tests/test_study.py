"The runs behind the experiments: their names, and what two of them do to a network."
import importlib.util
from pathlib import Path
from types import SimpleNamespace
import pytest
import torch
from train_ticket.masks import Masks, masks_of, ticketize
from train_ticket.models import build

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='module')
def study():
    spec = importlib.util.spec_from_file_location('study', ROOT/'scripts/study.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_runs_have_names_of_their_own(study):
    for name, runs in study.STUDIES.items():
        names = [run for run, _ in runs()]
        assert len({*names}) == len(names), name


def test_redrawing_leaves_one_candidate_in_play_and_kept_weights_alone(study):
    net = ticketize(build('lenet300', .1), seed=3, candidates=3)
    run = SimpleNamespace(masks=Masks.of(net), state=SimpleNamespace(epoch=0, step=0))
    redraw = study.Redraw(seed=1, rate=.5)
    redraw.before_training(run)
    for run.state.epoch in range(1, 6):
        before = {name: mask.scores.detach().clone() for name, mask in masks_of(net).items()}
        redraw.between_epochs(run)
        for name, mask in masks_of(net).items():
            after = mask.scores.detach()
            assert ((after > redraw.never/2).sum(0) == 1).all()
            kept = (before[name] > 0).any(0)
            assert torch.equal(after[:, kept], before[name][:, kept])
            assert torch.equal(after.amax(0), before[name].amax(0))   # a score moves with its connection
    assert all((mask.scores[2] > redraw.never/2).any() for mask in run.masks)


def test_batch_norm_stands_before_each_relu(study):
    kinds = [type(layer).__name__ for layer in study.batch_normed()]
    assert [a for a, b in zip(kinds, kinds[1:]) if b == 'ReLU'] == ['BatchNorm2d']*2 + ['BatchNorm1d']*2
    assert study.batch_normed()(torch.rand(2, 1, 28, 28)).shape == (2, 10)
