"""Models of transformers on our op, instance by instance."""

from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType, MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import sample_levels

_STOCK = "_stock_before_ms_deform_attn"
_CORE = "ms_deformable_attn_core"
_V1, _V2 = "multi_scale_deformable_attention", "multi_scale_deformable_attention_v2"


def accelerate(model: nn.Module) -> int:
    """Let a model of transformers sample with our op; a second call gives it its own sampling back.

    It replaces the sampling of each module of deformable_detr, grounding_dino, mm_grounding_dino,
    mask2former, oneformer, omdet_turbo, rt_detr, rt_detr_v2, d_fine, lw_detr, rf_detr and their kin. Nothing
    else changes, and nothing outside ``model``. It works in training and under ``torch.compile``.

    Args:
        model: loaded or newly made.

    Returns:
        How many modules were changed.

    Raises:
        ValueError: the model has no deformable attention of transformers.
    """
    number = 0
    for module in model.modules():
        if stock := module.__dict__.pop(_STOCK, None):
            name, value = stock
            delattr(module, name)
            if value is not None:
                setattr(module, name, value)
        elif change := _change(module):
            name, value = change
            setattr(module, _STOCK, (name, module.__dict__.get(name)))
            setattr(module, name, value)
        else:
            continue
        number += 1
    if not number:
        raise ValueError(f"{type(model).__name__} has no deformable attention of transformers to accelerate")
    return number


def _change(module: nn.Module) -> tuple[str, object] | None:
    """The attribute of a module, and its value with which the module samples with our op."""
    kind = type(module)
    if kind.__name__ == "MultiScaleDeformableAttention" and "value_spatial_shapes_list" in _names(
        kind.forward
    ):
        return "forward", _sample_with_starts
    if core := module.__dict__.get(_CORE):
        return _CORE, partial(_sample_points, core)
    names = _names(kind.forward)
    if _V2 in names:
        ours = partial(_sample_points, kind.forward.__globals__[_V2])
        return "forward", MethodType(_with_global(kind.forward, _V2, ours), module)
    if _V1 in names:
        return "forward", MethodType(_with_global(kind.forward, _V1, sample_levels), module)
    return None


def _names(function: Callable) -> tuple[str, ...]:
    code = getattr(function, "__code__", None)
    return code.co_names + code.co_varnames if code else ()


def _with_global(function: FunctionType, name: str, value: object) -> FunctionType:
    """A copy of a function to which a global name means something else."""
    copy = FunctionType(
        function.__code__,
        function.__globals__ | {name: value},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _sample_with_starts(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_spatial_shapes_list: Sequence,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """The module's forward of Deformable DETR and most others."""
    return sample_levels(value, value_spatial_shapes_list, sampling_locations, attention_weights)


def _sample_points(
    stock: Callable,
    value: Tensor,
    value_spatial_shapes: Sequence,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    num_points_list: list[int],
    method: str = "default",
) -> Tensor:
    """The function of RT-DETR v2 and D-FINE, in which each level has its own number of points.

    Levels with fewer points than others get points of weight zero.
    """
    if method != "default":
        return stock(
            value, value_spatial_shapes, sampling_locations, attention_weights, num_points_list, method
        )
    most = max(num_points_list)
    locations = sampling_locations.split(num_points_list, 3)
    weights = attention_weights.split(num_points_list, 3)
    locations = torch.stack([F.pad(x, (0, 0, 0, most - x.shape[3])) for x in locations], 3)
    weights = torch.stack([F.pad(x, (0, most - x.shape[3])) for x in weights], 3)
    return sample_levels(value, value_spatial_shapes, locations, weights)
