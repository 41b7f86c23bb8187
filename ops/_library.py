"""Loads the built extension and tells PyTorch the rules of its ops: fake, autograd, autocast."""

import warnings
from functools import cache

import torch
from torch import Tensor

_REBUILD = "make build, or pip install -e . --no-deps --no-build-isolation"


def _load() -> tuple[object | None, str]:
    """The extension, or why there is none."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        return None, (
            f"torch {torch.__version__} is older than 2.10, which the built op needs; the slower "
            "reference serves. Update torch, then build the op: " + _REBUILD
        )
    try:
        from . import _C
    except ImportError as error:
        return None, (
            f"the extension ops._C cannot be loaded ({error}); the slower reference serves. "
            "To build the op: " + _REBUILD
        )
    return _C, ""


_EXTENSION, _PROBLEM = _load()


def serves(device: torch.device) -> bool:
    """Whether the extension has a kernel for the device; if not, warns once."""
    if _EXTENSION is None:
        _warn_once(_PROBLEM)
        return False
    if device.type in ("cpu", "meta") or (device.type == "cuda" and _EXTENSION.with_cuda):
        return True
    _warn_once(
        f"the extension ops._C was built without a kernel for {device.type}; the slower reference "
        "serves. To build the CUDA kernels, where nvcc is found: " + _REBUILD
    )
    return False


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _register_rules() -> None:
    library = torch.library
    library.register_fake("ms_deform_attn::forward", _fake_forward)
    library.register_fake("ms_deform_attn::backward", _fake_backward)
    library.register_autograd(
        "ms_deform_attn::forward", _backward, setup_context=_save_for_backward
    )
    library.register_autograd("ms_deform_attn::backward", _double_backward)
    for device_type in ("cpu", "cuda"):
        library.register_autocast("ms_deform_attn::forward", device_type, torch.float32)


def _fake_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    bs, _, num_heads, head_dims = value.shape
    return value.new_empty(bs, sampling_locations.shape[1], num_heads * head_dims)


def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (value, sampling_locations, attention_weights)
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs)


def _save_for_backward(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    grad_value, grad_locations, grad_weights = torch.ops.ms_deform_attn.backward(
        grad_output, *ctx.saved_tensors
    )
    return grad_value, None, None, grad_locations, grad_weights


def _double_backward(ctx, *grads: Tensor) -> None:
    raise NotImplementedError(
        "ms_deform_attn can be differentiated once; ms_deform_attn_reference can be twice"
    )


if _EXTENSION is not None:
    _register_rules()
