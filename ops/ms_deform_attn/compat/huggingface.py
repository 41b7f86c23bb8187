"""Models of transformers on our op, instance by instance."""

import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from types import FunctionType, MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import sample_levels

_STOCK = "_stock_before_ms_deform_attn"
_CORE = "ms_deformable_attn_core"
_V1, _V2 = "multi_scale_deformable_attention", "multi_scale_deformable_attention_v2"


def accelerate(model: nn.Module) -> int:
    """Let a model of transformers sample with our op; if all of it does, give it its own sampling back.

    It replaces the sampling of each module of deformable_detr, grounding_dino, mm_grounding_dino,
    mask2former, oneformer, omdet_turbo, rt_detr, rt_detr_v2, d_fine, lw_detr, rf_detr and their kin. Nothing
    else changes, and nothing outside ``model``. It works in training and under ``torch.compile``, whose
    compiled graphs are dropped (`torch.compiler.reset`). Undo it before a model is pickled as a whole.

    Args:
        model: loaded or newly made.

    Returns:
        How many modules of ``model`` sample so.

    Raises:
        ValueError: it is no model, or has no deformable attention of transformers.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"a model of transformers is wanted, not {type(model).__name__}")
    ours = [module for module in model.modules() if _STOCK in module.__dict__]
    stock = [(module, change) for module in model.modules() if (change := _change(module))]
    if not ours and not stock:
        raise ValueError(f"{type(model).__name__} has no deformable attention of transformers to accelerate")
    for module, (name, value) in stock:
        setattr(module, _STOCK, (name, module.__dict__.get(name)))
        setattr(module, name, value)
    for module in () if stock else ours:
        name, value = module.__dict__.pop(_STOCK)
        delattr(module, name)
        if value is not None:
            setattr(module, name, value)
    if "torch._dynamo" in sys.modules:  # a graph that is compiled already would go on as before
        torch.compiler.reset()
    return len(ours) + len(stock)


def _change(module: nn.Module) -> tuple[str, object] | None:
    """The attribute of a module and its value with which it samples with our op; None if it does already."""
    kind = type(module)
    if _STOCK in module.__dict__:
        return None
    # Hooks of the package accelerate put a forward of their own before the module's.
    forward = "_old_forward" if "_old_forward" in module.__dict__ else "forward"
    names = _names(kind.forward)
    if kind.__name__ == "MultiScaleDeformableAttention" and "value_spatial_shapes_list" in names:
        return forward, _sample_with_starts
    if core := module.__dict__.get(_CORE):
        return _CORE, partial(_sample_points, core)
    if _V1 in names or _V2 in names:
        return forward, MethodType(_with_our_sampling(kind.forward), module)
    return None


def _names(function: Callable) -> tuple[str, ...]:
    code = getattr(function, "__code__", None)
    return code.co_names + code.co_varnames if code else ()


@cache
def _with_our_sampling(function: FunctionType) -> FunctionType:
    """A copy of a forward to which the name of the sampling function means ours.

    One for all layers, with a code object of its own: `torch.compile` keeps what it has compiled by code
    object.
    """
    ours = {_V1: sample_levels}
    if stock := function.__globals__.get(_V2):
        ours[_V2] = partial(_sample_points, stock)
    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__ | ours,
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
