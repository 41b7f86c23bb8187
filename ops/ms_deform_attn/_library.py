"""Loads the built extension and registers the fake, autograd and vmap rules of its ops."""

import warnings
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

_OPS = dict(forward=5, backward=6, fused_forward=6, fused_backward=7)  # how many arguments each has
_REBUILD = "make build, or pip install -e . --no-deps --no-build-isolation"


def _load() -> tuple[object | None, str]:
    """The extension, or why there is none."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        return None, (
            f"torch {torch.__version__} is older than 2.10, which the built op needs; the slower "
            "reference serves. Update torch, then build the op: " + _REBUILD
        )
    if any(name.startswith("ms_deform_attn::") for name in torch._C._dispatch_get_all_op_names()):
        return None, (
            "another library has registered ops as ms_deform_attn, an older copy of this one, say; the "
            "slower reference serves. Import or install one of the two alone"
        )
    try:
        from . import _C
    except ImportError as error:
        return None, (
            f"the extension ms_deform_attn._C cannot be loaded ({error}); the slower reference serves. "
            "To build the op: " + _REBUILD
        )
    if any(_num_arguments(op) != number for op, number in _OPS.items()):
        return None, (
            "the extension ms_deform_attn._C was built from older sources; the slower reference serves. "
            "To rebuild the op: " + _REBUILD
        )
    return _C, ""


def _num_arguments(op: str) -> int:
    """Of an op that is registered; 0 of one that is not."""
    packet = getattr(torch.ops.ms_deform_attn, op, None)
    return len(packet.default._schema.arguments) if packet else 0


_EXTENSION, _PROBLEM = _load()


def serves(device: torch.device) -> bool:
    """Whether the extension has a kernel for the device; if not, warns once.

    It serves no export to ONNX, which has no name for its ops.
    """
    if torch.onnx.is_in_onnx_export():
        return False
    if _EXTENSION is None:
        _warn_once(_PROBLEM)
        return False
    if device.type in ("cpu", "meta") or (device.type == "cuda" and _EXTENSION.with_cuda):
        return True
    _warn_once(
        f"the extension ms_deform_attn._C was built without a kernel for {device.type}; the slower reference "
        "serves. To build the CUDA kernels, where nvcc is found: " + _REBUILD
    )
    return False


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def register_rules(namespace) -> None:
    """Register fake, autograd and vmap rules for the ops of a namespace of `torch.ops`."""
    library = torch.library
    for forward, backward in (
        (namespace.forward, namespace.backward),
        (namespace.fused_forward, namespace.fused_backward),
    ):
        forward_name, backward_name = forward._qualified_op_name, backward._qualified_op_name
        library.register_fake(forward_name, _fake_forward)
        library.register_fake(backward_name, _fake_backward)
        library.register_autograd(
            forward_name, partial(_backward, backward), setup_context=_save_for_backward
        )
        library.register_autograd(backward_name, _double_backward)
        library.register_vmap(forward_name, partial(_vmap, forward))
        library.register_vmap(backward_name, partial(_vmap, backward))


def _fake_forward(
    value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor, *sampling: Tensor
) -> Tensor:
    bs, _, num_heads, head_dims = value.shape
    return value.new_empty(bs, sampling[-1].shape[1], num_heads * head_dims)


def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    *sampling: Tensor,
) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (value, *sampling))


def _save_for_backward(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(op: Callable, ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    grad_value, *grads = op(grad_output, *ctx.saved_tensors)
    return grad_value, None, None, *grads


def _double_backward(ctx, *grads: Tensor) -> None:
    raise NotImplementedError(
        "ms_deform_attn can be differentiated once; ms_deform_attn_reference can be twice"
    )


def _vmap(op: Callable, info, in_dims: tuple[int | None, ...], *inputs: Tensor):
    """The images of all mapped elements as one batch."""

    def fold(tensor: Tensor, dim: int | None) -> Tensor:
        if not tensor.is_floating_point():
            if dim is not None:
                raise NotImplementedError("vmap cannot map ms_deform_attn over its level geometry")
            return tensor
        if dim is None:
            return tensor.expand(info.batch_size, *tensor.shape).flatten(0, 1)
        return tensor.movedim(dim, 0).flatten(0, 1)

    def unfold(tensor: Tensor) -> Tensor:
        return tensor.view(info.batch_size, -1, *tensor.shape[1:])

    outputs = op(*map(fold, inputs, in_dims))
    if isinstance(outputs, Tensor):
        return unfold(outputs), 0
    return tuple(map(unfold, outputs)), (0,) * len(outputs)


if _EXTENSION is not None:
    register_rules(torch.ops.ms_deform_attn)
