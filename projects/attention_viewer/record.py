"""What the attentions of a model did in one forward, recorded by hooks that change nothing."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from mmcv.cnn.bricks.transformer import MultiheadAttention
from torch import Tensor, nn

import ms_deform_attn
from projects.deformable_detr.geometry import encoder_reference_points
from projects.deformable_detr.levels import Levels
from projects.deformable_detr.variants.levelwise_attention import LevelwiseDeformAttn
from projects.reliable_runner.errors import InputError

from .backbone_attention import BackboneAttention, record_backbone

_ATTENTION_OF = {"encoder": "self_attn", "decoder": "cross_attn"}


@dataclass
class SampledAttention:
    """Deformable attention of one layer.

    A position is in units of the image without padding, in which the model predicts its boxes: (0, 0) and
    (1, 1) are the outer corners of the valid cells of every level. Points beyond 1 lie outside the image.

    Args:
        masks: of each level, (bs, h, w), True on padding.
        weights: (bs, num_queries, num_heads, num_levels, num_points), 1 in sum over levels and points.
            With `LevelwiseDeformAttn` all levels but the query's own have weights of zero.
        locations: (bs, num_queries, num_heads, num_levels, num_points, 2), x and y.
        reference_points: (bs, num_queries, 2 or 4), x, y or cx, cy, w, h.
    """

    masks: list[Tensor]
    weights: Tensor
    locations: Tensor
    reference_points: Tensor

    @property
    def num_heads(self) -> int:
        """How many heads there are."""
        return self.weights.shape[2]


@dataclass
class DenseAttention:
    """Attention of one layer to every token of one level.

    Args:
        masks: of the level, [(bs, h, w)], True on padding.
        weights: (bs, num_queries, num_heads, h * w), 1 in sum over the tokens and 0 on padding.
    """

    masks: list[Tensor]
    weights: Tensor

    @property
    def num_heads(self) -> int:
        """How many heads there are."""
        return self.weights.shape[2]


Attention = SampledAttention | DenseAttention


@dataclass
class Record:
    """The attention of each layer: the encoder's self-attention, the decoder's cross-attention.

    And that of the backbone's blocks, where those are deformable.
    """

    encoder: list[Attention] = field(default_factory=list)
    decoder: list[Attention] = field(default_factory=list)
    backbone: list[BackboneAttention] = field(default_factory=list)


@contextmanager
def record_attention(model: nn.Module) -> Iterator[Record]:
    """Record the attention of the one forward that is run inside the ``with``.

    Args:
        model: `DeformableDETR` or mmdet's ``DETR``, in evaluation mode.

    Raises:
        InputError: the model has another kind of attention.
    """
    record, handles = Record(), []
    shape = []  # of the one level of DETR, which its attentions see only flattened
    if isinstance(encoding := getattr(model, "positional_encoding", None), nn.Module):
        hook = encoding.register_forward_hook(lambda *call: shape.append(call[-1].shape[-2:]))
        handles.append(hook)
    handles += record_backbone(model, record.backbone)
    for stage in _ATTENTION_OF:
        for attention in find_attentions(model, stage):
            if isinstance(attention, ms_deform_attn.MSDeformAttn):
                handles += _record_sampled(attention, getattr(record, stage))
            else:
                handles += _record_dense(attention.attn, getattr(record, stage), shape)
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def find_attentions(model: nn.Module, stage: str) -> list[nn.Module]:
    """The attention to the image in each layer of ``stage``, "encoder" or "decoder"; [] if it has none.

    Raises:
        InputError: it is neither deformable nor mmcv's ``MultiheadAttention``.
    """
    layers = getattr(getattr(model, stage, None), "layers", [])
    attentions = [getattr(layer, _ATTENTION_OF[stage], None) for layer in layers]
    known = all(isinstance(a, ms_deform_attn.MSDeformAttn | MultiheadAttention) for a in attentions)
    if not known or getattr(model, "encoder", None) is None:
        raise InputError(
            f"the model is a {type(model).__name__}, whose attention can't be recorded; it must be "
            "DeformableDETR or mmdet.DETR"
        )
    return attentions


def token_centres(masks: Sequence[Tensor]) -> Tensor:
    """Where the tokens of all levels are, (bs, num_value, 2), in units of the image without padding."""
    levels = Levels.of_masks(masks)
    return encoder_reference_points(levels)[:, :, 0] / levels.valid_ratios[:, None, 0]


def on_padding(masks: Sequence[Tensor]) -> Tensor:
    """Which tokens of all levels are padding, (bs, num_value)."""
    return torch.cat([mask.flatten(1) for mask in masks], 1)


def _record_sampled(attention: ms_deform_attn.MSDeformAttn, record: list[Attention]) -> Iterator:
    def keep(attention: ms_deform_attn.MSDeformAttn, args: tuple, kwargs: dict) -> None:
        inputs = inspect.signature(attention.forward).bind(*args, **kwargs).arguments
        levels, masks = inputs["levels"], inputs["levels"].masks
        query, points = inputs["query"] + inputs["query_pos"], inputs["reference_points"]
        parts = [(query, points, range(len(masks)))]
        if isinstance(attention, LevelwiseDeformAttn):
            sizes = [mask[0].numel() for mask in masks]
            seen = [[level] for level in range(len(masks))]
            parts = zip(query.split(sizes, 1), points.split(sizes, 1), seen, strict=True)
        sampled = [_sample(attention, *part, levels) for part in parts]
        record.append(SampledAttention(masks, *(torch.cat(part, 1) for part in zip(*sampled, strict=True))))

    yield attention.register_forward_pre_hook(keep, with_kwargs=True)


def _sample(
    attention: ms_deform_attn.MSDeformAttn,
    query: Tensor,
    reference_points: Tensor,
    seen: Sequence[int],
    levels: Levels,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, locations and reference points; the fused op never writes them to memory.

    Levels that are not among those ``seen`` by the queries get weights of zero.
    """
    sizes = (attention.num_heads, attention.num_levels, attention.num_points)
    logits = attention.attention_weights(query).unflatten(-1, sizes)
    weights = logits.new_zeros(*logits.shape[:3], len(levels.masks), attention.num_points)
    weights[:, :, :, seen] = logits.flatten(3).softmax(-1).view_as(logits)
    offsets = weights.new_zeros(*weights.shape, 2)
    offsets[:, :, :, seen] = attention.sampling_offsets(query).unflatten(-1, (*sizes, 2))

    ratios = levels.valid_ratios[:, None]  # (bs, 1, num_levels, 2)
    points = reference_points[..., :2] / ratios
    size = reference_points[..., 2:]
    if size.shape[-1]:
        size = size / ratios
        offsets = offsets * size[:, :, None, :, None] / (2 * attention.num_points)
    else:
        valid_size = ratios * ratios.new_tensor([(w, h) for h, w in levels.shapes])
        offsets = offsets / valid_size[:, :, None, :, None]
    # A reference is the same on every level, once it is in units of the image.
    reference = torch.cat((points, size), -1)[:, :, 0]
    return weights, points[:, :, None, :, None] + offsets, reference


def _record_dense(attention: nn.MultiheadAttention, record: list[Attention], shape: list) -> Iterator:
    def ask_for_weights(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, kwargs | dict(need_weights=True, average_attn_weights=False)

    def keep(_: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
        weights = output[1].transpose(1, 2)  # (bs, num_queries, num_heads, h * w)
        mask = kwargs.get("key_padding_mask")
        if mask is None:
            mask = weights.new_zeros(len(weights), weights.shape[-1], dtype=torch.bool)
        record.append(DenseAttention([mask.unflatten(1, shape[-1])], weights))

    yield attention.register_forward_pre_hook(ask_for_weights, with_kwargs=True)
    yield attention.register_forward_hook(keep, with_kwargs=True)
