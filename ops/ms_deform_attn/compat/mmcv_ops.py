"""mmcv's attention on our op, and a stand-in for its compiled ops where it is installed without them.

``mmdet.models`` imports every op of ``mmcv.ops`` when it is imported, also those that are never called.
mmcv-lite has none of them, so the import fails. The stand-in lets the import pass; ``nms`` works and so do
``ms_deform_attn_forward`` and ``ms_deform_attn_backward``, any other op raises when it is called. Where a
full mmcv is installed there is no stand-in.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from ..functional import sample_levels
from .vendored import ms_deform_attn_backward, ms_deform_attn_forward

_EXTENSION = "mmcv._ext"

HOW_TO_GET_OPS = (
    "mmcv is installed without its compiled ops. To get them: pip uninstall mmcv-lite, then build the "
    "full mmcv (MMCV_WITH_OPS=1 pip install mmcv==2.1.0 --no-build-isolation)."
)


class _MissingOps(ModuleType):
    """Has every name; each is a function that raises."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _SERVED:
            return _SERVED[name]

        def missing_op(*args, **kwargs):
            raise NotImplementedError(
                f"the compiled op '{name}' of mmcv was called, which Deformable DETR itself does not "
                f"need. {HOW_TO_GET_OPS}"
            )

        return missing_op


def provide_missing_ops() -> None:
    """Put the stand-in where ``mmcv._ext`` would be, unless that is installed."""
    if _EXTENSION not in sys.modules and importlib.util.find_spec(_EXTENSION) is None:
        module = _MissingOps(_EXTENSION)
        module.__spec__ = importlib.util.spec_from_loader(_EXTENSION, loader=None)
        sys.modules[_EXTENSION] = module


def use_in_mmcv(ours: bool = True) -> None:
    """Let ``mmcv.ops.MultiScaleDeformableAttention`` run on our op, on a CPU and on a GPU.

    Its module, and every model that has it, stays as it is but for the two functions that it calls. What has
    imported these by name before keeps mmcv's. Where mmcv has no compiled ops, the stand-in takes their
    place.

    Args:
        ours: False gives mmcv its own functions back.
    """
    provide_missing_ops()
    theirs = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    names = ("MultiScaleDeformableAttnFunction", "multi_scale_deformable_attn_pytorch")
    for name, function in zip(names, (_AttentionFunction, sample_levels), strict=True):
        stock = _stock.setdefault(name, getattr(theirs, name))
        setattr(theirs, name, function if ours else stock)


_stock: dict[str, object] = {}


class _AttentionFunction(Function):
    """In the place of mmcv's ``MultiScaleDeformableAttnFunction``."""

    @staticmethod
    def forward(
        ctx,
        value: Tensor,
        value_spatial_shapes: Tensor,
        value_level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int = 64,
    ) -> Tensor:
        # Read from a GPU once, not in backward again: the host waits for it.
        geometry = value_spatial_shapes.cpu(), value_level_start_index.cpu()
        ctx.save_for_backward(value, *geometry, sampling_locations, attention_weights)
        return ms_deform_attn_forward(value, *geometry, sampling_locations, attention_weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_value, *grads = ms_deform_attn_backward(*ctx.saved_tensors, grad_output)
        return grad_value, None, None, *grads, None


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Which boxes (n, 4; x1, y1, x2, y2) no better one overlaps by more than a threshold; the best first."""
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(1)
    suppressed = torch.zeros_like(order, dtype=torch.bool)
    for i in range(len(boxes)):
        if not suppressed[i]:
            rest = boxes[i + 1 :]
            sides = (
                torch.minimum(boxes[i, 2:], rest[:, 2:]) - torch.maximum(boxes[i, :2], rest[:, :2]) + offset
            )
            shared = sides.clamp(min=0).prod(1)
            suppressed[i + 1 :] |= shared / (areas[i] + areas[i + 1 :] - shared) > iou_threshold
    return order[~suppressed]


def _forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """`ms_deform_attn_forward` with mmcv's names."""
    return ms_deform_attn_forward(
        value, value_spatial_shapes, value_level_start_index, sampling_locations, attention_weights
    )


def _backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int = 64,
) -> None:
    """`ms_deform_attn_backward` into tensors that are there, as mmcv's op writes them."""
    grads = ms_deform_attn_backward(
        value,
        value_spatial_shapes,
        value_level_start_index,
        sampling_locations,
        attention_weights,
        grad_output,
    )
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        target.copy_(grad)


_SERVED = dict(nms=_nms, ms_deform_attn_forward=_forward, ms_deform_attn_backward=_backward)


def callers_of_ops(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and module of each part of ``model`` that calls a compiled op of mmcv which is not served."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if type(module).__module__.startswith("mmcv.ops.")
        and type(module).__name__ != "MultiScaleDeformableAttention"
    ]


def are_missing() -> bool:
    """Whether mmcv has no compiled ops, so that the stand-in has their place."""
    return isinstance(sys.modules.get(_EXTENSION), _MissingOps)
