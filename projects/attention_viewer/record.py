"""What the attentions of a model did in one forward, recorded by hooks that change nothing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import MultiheadAttention
from torch import Tensor, nn

import ms_deform_attn
from projects.deformable_detr.geometry import encoder_reference_points
from projects.deformable_detr.levels import Levels
from projects.deformable_detr.variants.levelwise_attention import LevelwiseDeformAttn
from projects.reliable_runner.errors import InputError

from .backbone_attention import BackboneAttention

_ATTENTION_OF = {"encoder": "self_attn", "decoder": "cross_attn"}


@dataclass
class Attention:
    """Attention of one layer: deformable, or dense, to every token of one level.

    A position is in units of the image without padding, in which the model predicts its boxes: (0, 0) and
    (1, 1) are the outer corners of the valid tokens of every level. Points beyond 1 lie outside the image.

    Args:
        masks: of each level, (bs, h, w), True on padding.
        weights: of samples, (bs, num_queries, num_heads, num_levels, num_points), 0 on levels that a query of
            `LevelwiseDeformAttn` does not see; or of tokens, (bs, num_queries, num_heads, h * w), 0 on
            padding. 1 in sum for each query and head.
        reference_points: (bs, num_queries, 2 or 4), x, y or cx, cy, w, h; of dense attention the tokens of
            the encoder, None in the decoder.
        locations: of the samples, (bs, num_queries, num_heads, num_levels, num_points, 2), x and y; None of
            dense attention.
    """

    masks: Sequence[Tensor]
    weights: Tensor
    reference_points: Tensor | None = None
    locations: Tensor | None = None

    @property
    def num_heads(self) -> int:
        return self.weights.shape[2]

    @property
    def valid_shapes(self) -> list[tuple[int, int]]:
        """(h, w) of each level of the first image without padding."""
        return [(int((~mask[0, :, 0]).sum()), int((~mask[0, 0]).sum())) for mask in self.masks]

    def cpu(self) -> "Attention":
        others = (self.weights, self.reference_points, self.locations)
        return Attention([m.cpu() for m in self.masks], *(x if x is None else x.cpu() for x in others))

    @property
    def padding(self) -> Tensor:
        """Which tokens of all levels are padding, (bs, num_value)."""
        return torch.cat([mask.flatten(1) for mask in self.masks], 1)


# By "encoder" (self-attention), "decoder" (cross-attention) and "backbone", of each layer.
Record = dict[str, list[Attention | BackboneAttention]]


@contextmanager
def record_attention(model: nn.Module) -> Iterator[Record]:
    """Record the attention of the one forward that is run inside the ``with``, on the CPU.

    ``model`` is `DeformableDETR` or mmdet's ``DETR``, in evaluation mode; its backbone may have
    ``deformable_blocks()``: name, attention and side of a token in pixels for each block.

    Raises:
        InputError: the model has another kind of attention.
    """
    record = dict(encoder=[], decoder=[], backbone=[])
    with ExitStack() as hooks:

        def hook(module: nn.Module, kept: list, keep: Callable) -> None:
            def append(*call) -> None:
                kept.append(keep(*call))

            hooks.enter_context(module.register_forward_pre_hook(append, with_kwargs=True))

        encodings = []  # calls of DETR's positional encoding, as its attentions see the masks only flattened
        for stage in _ATTENTION_OF:
            for attention in find_attentions(model, stage):
                if isinstance(attention, ms_deform_attn.MSDeformAttn):
                    hook(attention, record[stage], _sampled)
                else:
                    hook(attention.attn, record[stage], partial(_dense, stage, encodings))
        hook(model.positional_encoding, encodings, lambda *call: call)
        for name, attention, stride in getattr(model.backbone, "deformable_blocks", list)():
            make = partial(BackboneAttention, name, attention, stride)
            hook(attention, record["backbone"], lambda _, args, __, make=make: make(args[0]))
        yield record


def find_attentions(model: nn.Module, stage: str) -> list[nn.Module]:
    """The attention to the image in each layer of a stage; `InputError` if it is of another kind."""
    layers = getattr(getattr(model, stage, None), "layers", [])
    attentions = [getattr(layer, _ATTENTION_OF[stage], None) for layer in layers]
    known = all(isinstance(a, ms_deform_attn.MSDeformAttn | MultiheadAttention) for a in attentions)
    if not known or getattr(model, "encoder", None) is None:
        raise InputError(
            f"the model is a {type(model).__name__}, whose attention can't be recorded; it must be "
            "DeformableDETR or mmdet.DETR"
        )
    return attentions


def _sampled(attention: ms_deform_attn.MSDeformAttn, args: tuple, _: dict) -> Attention:
    """Weights and locations, which the fused op never writes to memory."""
    query, query_pos, _, reference_points, levels = args
    query = query + query_pos
    sizes = (attention.num_heads, attention.num_levels, attention.num_points)
    weights = attention.attention_weights(query).flatten(2).unflatten(-1, (sizes[0], -1)).softmax(-1)
    weights = weights.unflatten(-1, sizes[1:])
    offsets = attention.sampling_offsets(query).unflatten(-1, (*sizes, 2))
    if isinstance(attention, LevelwiseDeformAttn):  # a query sees the level that it is a token of
        level_of = torch.arange(len(levels.shapes)).repeat_interleave(torch.tensor(levels.shapes).prod(1))
        weights = weights * F.one_hot(level_of)[:, None, :, None].to(weights.device)

    ratios = levels.valid_ratios[:, None]  # (bs, 1, num_levels, 2)
    points, size = reference_points[..., :2] / ratios, reference_points[..., 2:]
    if size.shape[-1]:
        size = size / ratios
        offsets = offsets * size[:, :, None, :, None] / (2 * attention.num_points)
    else:
        offsets = offsets / levels.valid_sizes[:, None, None, :, None]
    # A reference is the same on every level, once it is in units of the image.
    reference = torch.cat((points, size), -1)[:, :, 0]
    return Attention(levels.masks, weights, reference, points[:, :, None, :, None] + offsets).cpu()


def _dense(
    stage: str, encodings: Sequence[tuple], attention: nn.Module, args: tuple, kwargs: dict
) -> Attention:
    """The weights of each head; DETR itself asks for none."""
    kwargs = kwargs | dict(need_weights=True, average_attn_weights=False)
    weights = attention.forward(*args, **kwargs)[1].transpose(1, 2)  # (bs, num_queries, num_heads, h * w)
    _, (mask,), features = encodings[-1]
    if mask is None:  # no image of the batch is padded
        mask = torch.zeros_like(features["input"][:, 0], dtype=torch.bool)
    levels = Levels.of_masks([mask])
    centres = encoder_reference_points(levels)[:, :, 0] / levels.valid_ratios
    return Attention([mask], weights, centres if stage == "encoder" else None).cpu()
