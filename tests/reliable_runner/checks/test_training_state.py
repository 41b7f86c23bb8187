"""A run resumes only from a state that fits it."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, MultiStepLR, OptimWrapper
from torch import nn, optim

from projects.reliable_runner.checks.weights import check_state
from projects.reliable_runner.errors import InputError

KINDS = {
    kind.__name__: kind
    for kind in vars(optim).values()
    if isinstance(kind, type) and kind.__name__ not in ("Optimizer", "SparseAdam", "LBFGS", "Muon")
}
MULTI_STEP, COSINE = partial(MultiStepLR, milestones=[2]), partial(CosineAnnealingLR, T_max=3)


def run(kind=optim.AdamW, schedule=MULTI_STEP, groups=1, width=2) -> SimpleNamespace:
    """Optimizer and schedule of a small model, after a step."""
    model = nn.Linear(3, width)
    parameters = list(model.parameters())
    optimizer = kind([dict(params=part) for part in ([parameters], parameters)[groups - 1]], lr=0.1)
    schedulers = [schedule(optimizer)]
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    return SimpleNamespace(optim_wrapper=OptimWrapper(optimizer), param_schedulers=schedulers)


def checkpoint(runner: SimpleNamespace) -> dict:
    """What the runner would save."""
    return dict(
        meta=dict(epoch=1, iter=4),
        message_hub={},
        optimizer=runner.optim_wrapper.state_dict(),
        param_schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_every_optimizer_is_taken(kind):
    check_state("a.pth", checkpoint(run(KINDS[kind])), run(KINDS[kind]))


@pytest.mark.parametrize(
    "kind", ["SGD", "Adamax", "NAdam", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop"]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_state_of_another_optimizer_is_refused(kind, reverse):
    theirs, ours = [run(), run(KINDS[kind])][:: -1 if reverse else 1]
    with pytest.raises(InputError, match="^a.pth: .* its optimizer has groups .*another optimizer"):
        check_state("a.pth", checkpoint(theirs), ours)


@pytest.mark.parametrize(
    ("ours", "named"),
    [
        (dict(groups=2), r"\[\(2, .*\[\(1, .*paramwise_cfg"),
        (dict(width=4), r"optimizer.state\[0\] .* of a parameter of \(4, 3\)"),
        (dict(schedule=COSINE), r"param_scheduler is another schedule; --resume-schedule config"),
    ],
)
def test_another_state_is_refused(ours, named):
    with pytest.raises(InputError, match=f"^a.pth: a run can't be resumed from this checkpoint: .*{named}"):
        check_state("a.pth", checkpoint(run()), run(**ours))


def test_weights_alone_are_refused():
    with pytest.raises(InputError, match="^a.pth: .* lacks message_hub, optimizer.*load_from=a.pth"):
        check_state("a.pth", dict(meta={}, state_dict={}), run())
