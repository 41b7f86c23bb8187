"""Sizes that stand at several places of a config agree."""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .attention import MultiScaleDeformableAttention
from .queries import LearnedQueries


def check_frozen(backbone: dict) -> None:
    """The config of a backbone freezes no more stages than it has, else ValueError."""
    frozen, stages = backbone.get("frozen_stages", -1), backbone.get("num_stages", 4)
    if frozen > stages:
        raise ValueError(f"model.backbone.frozen_stages is {frozen}, but the backbone has {stages} stages")


def check_pieces(detector: nn.Module, as_two_stage: bool) -> None:
    """What builds on the proposals of the encoder, or on the refinement of boxes, has them.

    Raises:
        ValueError: it does not; the message names the keys of the config and their values.
    """
    decoder, denoising, queries = detector.decoder, detector.denoising, detector.queries
    embeds, twice = (getattr(decoder, name, False) for name in ("embed_references", "look_forward_twice"))
    learnt, number = isinstance(queries, LearnedQueries), getattr(queries, "num_queries", None)
    two_stage = {
        "model.denoising": denoising,
        "model.queries": queries if number is not None and not learnt else None,
        "model.decoder.embed_references": embeds,
    }
    for key, value in two_stage.items():
        if value and not (as_two_stage and decoder):
            value = value if value is True else type(value).__name__
            raise ValueError(f"{key} is {value}, which needs model.as_two_stage=True and a decoder")
    if learnt and (as_two_stage or not decoder):
        raise ValueError("model.queries is LearnedQueries; that needs model.as_two_stage=False and a decoder")
    if number is not None and not detector.num_queries == number > 0:
        both = f"model.num_queries is {detector.num_queries} and that of model.queries {number}"
        raise ValueError(f"{both}: they must be the same and at least 1")
    if getattr(queries, "proposes_classes", False) and not embeds:
        raise ValueError("model.queries is MixedQueries, but model.decoder.embed_references is False")
    if twice and not detector.with_box_refine:
        raise ValueError("model.decoder.look_forward_twice is True, but model.with_box_refine is False")
    num_classes = detector.bbox_head.num_classes
    if denoising and denoising.label_embedding.num_embeddings != num_classes:
        raise ValueError(
            f"model.denoising.num_classes is {denoising.num_classes}, but model.bbox_head.num_classes is "
            f"{num_classes}"
        )


def check_sizes(detector: nn.Module, num_feature_levels: int) -> None:
    """Compare the sizes of the parts of ``detector``; nothing is computed.

    Raises:
        ValueError: two do not agree; the message names both, with the keys of the config.
    """
    widths = {
        "encoder": detector.encoder.embed_dims,
        "decoder": (detector.decoder or detector.encoder).embed_dims,
        "2 * positional_encoding.num_feats": 2 * detector.positional_encoding.num_feats,
        "bbox_head.embed_dims": detector.bbox_head.cls_branches[0].in_features,
    }
    if detector.denoising:
        widths["denoising.embed_dims"] = detector.denoising.label_embedding.embedding_dim
    if len(set(widths.values())) > 1:
        raise ValueError(f"the parts of the model differ in width: {widths}")
    for name, module in detector.named_modules():
        width = getattr(module, "embed_dims", getattr(module, "embed_dim", None))  # of torch's attention
        if name.startswith(("encoder.", "decoder.")) and width not in (None, detector.encoder.embed_dims):
            raise ValueError(f"the parts of the model differ in width: {widths}, but {name} has {width}")
        if type(module) is MultiScaleDeformableAttention and module.num_levels != num_feature_levels:
            raise ValueError(
                f"model.num_feature_levels is {num_feature_levels}, but {name} has "
                f"num_levels={module.num_levels}"
            )
    _check_channels(detector, num_feature_levels)


def _check_channels(detector: nn.Module, num_feature_levels: int) -> None:
    backbone, neck = detector.backbone, detector.neck
    in_channels = next(m.in_channels for m in backbone.modules() if isinstance(m, nn.Conv2d))
    mean = getattr(detector.data_preprocessor, "mean", None)
    if mean is not None and len(mean) not in (1, in_channels):  # one is for all channels
        raise ValueError(
            f"model.data_preprocessor.mean has {len(mean)} values, but model.backbone takes "
            f"{in_channels} channels"
        )
    try:
        feats = _on_meta(backbone, torch.empty(1, in_channels, 64, 64, device="meta"))
    except NotImplementedError:  # an op of the backbone computes or fails
        return
    channels = [feat.shape[1] for feat in feats]
    if channels != list(neck.in_channels):
        raise ValueError(
            f"model.neck.in_channels is {list(neck.in_channels)}, but model.backbone gives {channels}"
        )
    channels = [feat.shape[1] for feat in _on_meta(neck, feats)]
    if channels != [detector.encoder.embed_dims] * num_feature_levels:
        raise ValueError(
            f"model.neck gives levels of {channels} channels; model.num_feature_levels is "
            f"{num_feature_levels} and the width of the encoder {detector.encoder.embed_dims}"
        )


def _on_meta(module: nn.Module, x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The output of ``module`` in shapes alone."""
    state = chain(module.named_parameters(), module.named_buffers())
    with torch.no_grad():
        return functional_call(module, {name: tensor.to("meta") for name, tensor in state}, (x,))
