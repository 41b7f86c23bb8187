"""The running statistics of batch norms, the only values that a forward pass changes."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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
