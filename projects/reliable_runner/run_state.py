"""What a hook or a message asks of mmengine's Runner."""

from collections.abc import Iterator

from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn


def bare_model(runner: Runner) -> nn.Module:
    """The model without the wrapper of a distributed run."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def input_channels(model: nn.Module) -> int | None:
    """How many channels the backbone of a model takes, or an exported one; None if neither says it."""
    modules = getattr(model, "backbone", nn.Module()).modules()
    convolutions = (module.in_channels for module in modules if isinstance(module, nn.Conv2d))
    return next(convolutions, getattr(model, "num_channels", None))


def built_loops(runner: Runner) -> Iterator[BaseLoop]:
    """The loops that this run has built, the one that trains first."""
    loops = runner._train_loop, runner._test_loop, runner._val_loop
    return (loop for loop in loops if isinstance(loop, BaseLoop))


def leaf_datasets(dataset: object) -> Iterator[object]:
    """Yield the data sets inside wrappers such as ``ConcatDataset`` and ``RepeatDataset``."""
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    for part in inner:
        yield from [dataset] if part is None else leaf_datasets(part)


def missing_state(checkpoint: dict) -> list[str]:
    """What ``checkpoint`` lacks of the state of a training run; nothing if it can be resumed."""
    return sorted({"meta", "message_hub", "optimizer"} - set(checkpoint))
