"""Layers that are computed again in the backward pass, so that it need not remember them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(layer: nn.Module, enabled: bool = True) -> Callable:
    """``layer``, of which only the inputs are remembered for the backward pass, if ``enabled``.

    Outputs, gradients and the statistics of batch norms are the same to the bit, dropout included.
    """
    if not (enabled and torch.is_grad_enabled()):
        return layer

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _statistics_kept(layer)

    return partial(checkpoint, layer, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(layer: nn.Module) -> Iterator[None]:
    """The second time the same batch must not move the running statistics again."""
    statistics = NormStatistics(layer)
    try:
        yield
    finally:
        statistics.restore()


class NormStatistics:
    """A copy of the running statistics in ``module`` that are being learnt, to go back to."""

    def __init__(self, module: nn.Module) -> None:
        self._kept = [
            (buffer, buffer.clone())
            for norm in module.modules()
            if isinstance(norm, _BatchNorm) and norm.training
            for buffer in norm.buffers(recurse=False)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Give the module its statistics back."""
        for buffer, value in self._kept:
            buffer.copy_(value)
