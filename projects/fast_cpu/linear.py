"""Linear layers by oneDNN; torch's go to MKL, which is half as fast on AMD's processors.

oneDNN keeps code for each of the last 1,024 shapes: up to half a gigabyte where images have many sizes.
"""

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        """(*, in_features) to (*, out_features)."""
        if not onednn_serves(input, self.weight):
            return super().forward(input)
        if torch.is_grad_enabled():
            # In rows: what a Function returns must be no view where the next layer works in place.
            rows = _Linear.apply(input.flatten(0, -2), self.weight, self.bias)
            return rows.view(*input.shape[:-1], self.out_features)
        return _matmul(input, self.weight, self.bias)


def onednn_serves(input: Tensor, weight: Tensor) -> bool:
    """Whether to call oneDNN by name: float32 on a CPU, no autocast.

    Compilers choose themselves, and those who count or convert what `torch.jit.trace` saw know torch's own.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and input.is_cpu
        and input.dtype is weight.dtype is torch.float32
        and input.dim() > 1
        and input.numel() > 0
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        return _matmul(input, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        return (
            _matmul(grad, weight.t()) if of_input else None,
            _matmul(grad.t(), input.t()) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def _matmul(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, without gradients."""
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
