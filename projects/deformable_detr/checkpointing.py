"""Activation checkpointing: a layer keeps its inputs alone, and is computed again in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(layer: nn.Module, enabled: bool = True) -> Callable:
    """``layer``, with activation checkpointing if ``enabled``.

    Outputs, gradients and the statistics of batch norms are the same to the bit, dropout included.
    """
    if not (enabled and torch.is_grad_enabled()):
        return layer

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _keep_statistics(layer)

    return partial(checkpoint, layer, use_reentrant=False, context_fn=contexts)


@contextmanager
def _keep_statistics(layer: nn.Module) -> Iterator[None]:
    """The second pass must not move the running statistics of batch norms, all that a pass changes."""
    kept = [
        (buffer, buffer.clone())
        for norm in layer.modules()
        if isinstance(norm, _BatchNorm) and norm.training
        for buffer in norm.buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
