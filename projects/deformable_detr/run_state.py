"""What a hook asks of mmengine's Runner."""

from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn


def bare_model(runner: Runner) -> nn.Module:
    """The model without the wrapper of a distributed run."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def must_fit_whole(runner: Runner) -> bool:
    """Whether the run resumes or tests its checkpoint; a training that starts from it may take a part."""
    return runner._resume or not isinstance(runner._train_loop, BaseLoop)
