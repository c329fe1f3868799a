"""One lever at a time on validation accuracy, on MNIST in plain PyTorch.

`python scripts/levers.py "straight=4, weight_decay=.02, seed=1" …` adds records to results/levers.jsonl.
A lever is any option of train.py, or one of `run`'s own: dense, logits, betas, ema.
"""
import ast, math, sys, time
from functools import partial
from pathlib import Path
import torch
from train_ticket.config import configure
from train_ticket.core import run_missing
from train_ticket.loop import BareEngine, Callback, History, Run, evaluate, train
from train_ticket.masks import masks_of, tensor_place
from train_ticket.optim import make_optimizer
from train_ticket.train import make_loaders, parameter_groups, prepare

RECORDS = Path(__file__).resolve().parent.parent/'results/levers.jsonl'
COMMON = dict(dataset='mnist', loader='resident', device='cpu', epochs=20, batch_size=256, lr=.05,
              weight_decay=0.)


class Averaged(Callback):
    "Validates with a moving average of the scores instead of the scores themselves."
    def __init__(self, model, decay: float):
        self.decay, self.steps = decay, 0
        self.parameters = [p.detach() for p in model.parameters()]
        self.mean = [p.clone() for p in self.parameters]

    def after_step(self, run):
        self.steps += 1
        decay = min(self.decay, self.steps/(self.steps + 9))   # shorter at first
        torch._foreach_lerp_(self.mean, self.parameters, 1 - decay)

    def after_epoch(self, run):
        self.swap()
        run.record['validation_accuracy'] = evaluate(run.model, run.validation)['accuracy']
        self.swap()

    def swap(self):
        for p, mean in zip(self.parameters, self.mean):
            now = p.clone()
            p.copy_(mean)
            mean.copy_(now)


def sharpen(model, factor: float):
    "Multiply the last layer's frozen weights: sharper or softer predictions."
    module, tensor = tensor_place(model, list(masks_of(model))[-1])
    module.parametrizations[tensor].original.mul_(factor)


def engine_of(job, betas) -> BareEngine:
    options = job.config.optimizer
    optimizer = make_optimizer(options.optimizer, parameter_groups(job.model, options), options.lr,
                               options.weight_decay)
    for group in optimizer.param_groups:
        group['betas'] = betas
    return BareEngine(job.model, optimizer)


def run(dense=False, logits=1., betas=(.9, .999), ema=0., **options) -> dict:
    "Train with these levers; what the record holds."
    start, gate = time.perf_counter(), dict(gate='none') if dense else dict(straight=math.inf, keep=None)
    config = configure(**COMMON | gate | options)
    job, history = prepare(config), History()
    if not dense and logits != 1:
        sharpen(job.model, logits)
    loaders, callbacks = make_loaders(config, job.dataset), [history]
    if ema:
        callbacks.insert(0, Averaged(job.model, ema))
    rate = partial(config.rate, peak=config.optimizer.lr)
    train(Run(engine_of(job, betas), loaders.train, loaders.validation, rate, config.loop, callbacks,
              config.run.seed))
    found = [record['validation_accuracy'] for record in history.records]
    last = history.records[-1]
    return dict(validation_accuracy=found[-1], best_validation_accuracy=max(found),
                train_accuracy=last['train_accuracy'], seconds=time.perf_counter() - start,
                densities=[round(density, 3) for density in last['densities'].values()])


def parsed(text: str) -> dict: # 'straight=inf, seed=1' → dict(straight=inf, seed=1)
    "The levers that a text sets: keyword arguments with literal values, or inf."
    keywords = ast.parse(f'dict({text})', mode='eval').body.keywords
    value = lambda node: math.inf if getattr(node, 'id', '') == 'inf' else ast.literal_eval(node)
    return {keyword.arg: value(keyword.value) for keyword in keywords}


if __name__ == '__main__':
    run_missing([dict(settings=text) for text in sys.argv[1:]],
                lambda setting: setting | run(**parsed(setting['settings'])), RECORDS)
