"""What transformers has to know of a detector: the contents of config.json and preprocessor_config.json."""

import math
from collections.abc import Iterator
from operator import attrgetter

from mmdet.datasets.transforms import Resize
from mmdet.models.backbones.resnet import BasicBlock
from torch import nn

from projects.deformable_detr.detector import DeformableDETR
from projects.reliable_runner.errors import InputError

# What transformers has no setting for, by the key of our config below `model.`; read in its
# modeling_deformable_detr.py and modeling_resnet.py, version 5.23. Where other settings make tensors of other
# names, the converter refuses them.
_KNOWN = {
    "backbone.type": ["ResNet"],
    "backbone.strides": [(1, 2, 2, 2), (1, 2, 2)],
    "backbone.dilations": [(1, 1, 1, 1), (1, 1, 1)],
    "backbone.conv_cfg": [None],
    "backbone.dcn": [None],
    "neck.type": ["ChannelMapper"],
    "positional_encoding.type": ["SinePositionalEncoding"],
    "positional_encoding.temperature": [10000],
    "positional_encoding.normalize": [True],
    "positional_encoding.scale": [2 * math.pi],
    "positional_encoding.eps": [1e-6],
    "positional_encoding.offset": [-0.5],
    "encoder.type": ["DeformableDetrTransformerEncoder"],
    "encoder.layer_cfg.type": ["DeformableDetrTransformerEncoderLayer"],
    "encoder.layer_cfg.self_attn_cfg.type": ["MultiScaleDeformableAttention"],
    "encoder.layer_cfg.ffn_cfg.type": ["FFN"],
    "encoder.layer_cfg.ffn_cfg.add_identity": [False],
    "decoder.type": ["DeformableDetrTransformerDecoder"],
    "decoder.embed_references": [False],
    "decoder.refine_eps": [None],
    "decoder.layer_cfg.type": ["DeformableDetrTransformerDecoderLayer"],
    "decoder.layer_cfg.self_attn_cfg.type": ["MultiheadAttention"],
    "decoder.layer_cfg.cross_attn_cfg.type": ["MultiScaleDeformableAttention"],
    "decoder.layer_cfg.ffn_cfg.type": ["FFN"],
    "decoder.layer_cfg.ffn_cfg.add_identity": [False],
    "queries.type": ["LearnedQueries", "TwoStageQueries"],
    "bbox_head.type": ["DeformableDETRHead"],
    "bbox_head.inverse_sigmoid_eps": [1e-5],
    "data_preprocessor.type": ["DetDataPreprocessor"],
    "data_preprocessor.pad_size_divisor": [1],
    "data_preprocessor.pad_value": [0],
}
_NEUTRAL = ("LoadImageFromFile", "LoadAnnotations", "PackDetInputs")
_RESIZES = [["Resize"], ["DETRResize"]]


def variant_of(detector: nn.Module) -> str:
    """One of the converters' ``VARIANTS``."""
    if type(detector.queries).__name__ == "TwoStageQueries":
        return "two-stage"
    return "refine" if detector.with_box_refine else "base"


def model_config(detector: nn.Module) -> dict:
    """The ``DeformableDetrConfig`` of what `init_detector` returns, as JSON has it.

    `InputError` names the keys of the config if transformers has no such model, or prepares no images so.
    """
    wrong = []
    try:
        for key, found, known in _demands(detector):
            if found not in known:
                wrong.append(f"{key} is {found!r}, there it is {' or '.join(map(repr, known))}")
    except (AttributeError, KeyError, TypeError, ValueError):
        if not wrong:  # else it is of a part of another type, which is among them
            raise
    if wrong:
        raise InputError(f"{detector.cfg.filename}: transformers can't express it: {'; '.join(wrong)}")
    encoder, decoder = detector.encoder.layers[0], detector.decoder.layers[0]
    variant, classes = variant_of(detector), detector.dataset_meta["classes"]
    return dict(
        model_type="deformable_detr",
        architectures=["DeformableDetrForObjectDetection"],
        # By default transformers 4 takes a pretrained "resnet50" of timm.
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=_backbone_config(detector.backbone),
        d_model=detector.encoder.embed_dims,
        num_queries=detector.num_queries,
        two_stage_num_proposals=detector.num_queries,
        num_feature_levels=len(detector.level_embed),
        encoder_layers=len(detector.encoder.layers),
        encoder_ffn_dim=encoder.ffn.feedforward_channels,
        encoder_attention_heads=encoder.self_attn.num_heads,
        encoder_n_points=encoder.self_attn.num_points,
        decoder_layers=len(detector.decoder.layers),
        decoder_ffn_dim=decoder.ffn.feedforward_channels,
        decoder_attention_heads=decoder.cross_attn.num_heads,
        decoder_n_points=decoder.cross_attn.num_points,
        dropout=encoder.self_attn.dropout.p,
        attention_dropout=decoder.self_attn.attn.dropout,
        with_box_refine=variant != "base",
        two_stage=variant == "two-stage",
        id2label={str(i): name for i, name in enumerate(classes)},
        label2id={name: i for i, name in enumerate(classes)},
    )


def _backbone_config(backbone: nn.Module) -> dict:
    """The ``ResNetConfig`` of mmdet's ``ResNet``."""
    is_basic = backbone.block is BasicBlock
    width = backbone.base_channels * backbone.block.expansion
    return dict(
        model_type="resnet",
        embedding_size=backbone.stem_channels,
        hidden_sizes=[width * 2**i for i in range(backbone.num_stages)],
        depths=list(backbone.stage_blocks),
        layer_type="basic" if is_basic else "bottleneck",
        downsample_in_bottleneck=not is_basic and backbone.style == "caffe",
        out_features=[f"stage{i + 1}" for i in backbone.out_indices],
    )


def image_processor_config(detector: nn.Module) -> dict:
    """The ``DeformableDetrImageProcessor`` that prepares images as the test pipeline does, as JSON has it."""
    (resize,) = (step for step in detector.test_pipeline if isinstance(step, Resize))
    preprocessor = detector.data_preprocessor
    mean, std = ((x / 255).flatten().expand(3).tolist() for x in (preprocessor.mean, preprocessor.std))
    return dict(
        image_processor_type="DeformableDetrImageProcessor",
        do_resize=True,
        size=dict(shortest_edge=min(resize.scale), longest_edge=max(resize.scale)),
        resample=2,  # bilinear
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=mean,
        image_std=std,
        do_pad=True,
        format="coco_detection",
    )


def _demands(detector: nn.Module) -> Iterator[tuple[str, object, list]]:
    """Keys of the config, what each is, and what transformers has."""
    if type(detector) is not DeformableDETR:
        yield "model.type", type(detector).__name__, ["DeformableDETR"]
    for key, known in _KNOWN.items():
        path = key.replace("layer_cfg", "layers.0").replace("_cfg.", ".")
        found = attrgetter(path.replace(".type", ".__class__.__name__"))(detector)
        yield f"model.{key}", tuple(found) if isinstance(found, list) else found, known
    yield from _demands_on_layers(detector)
    yield from _demands_on_images(detector)


def _demands_on_layers(detector: nn.Module) -> Iterator[tuple[str, object, list]]:
    norm = detector.backbone.norm_cfg
    yield "model.backbone.norm_cfg.type", norm["type"], ["BN", "SyncBN"]
    yield "model.backbone.norm_cfg.eps", norm.get("eps", 1e-5), [1e-5]

    conv = detector.neck.convs[0]
    norm = conv.norm_cfg or {}
    yield "model.neck.kernel_size", conv.conv.kernel_size[0], [1]
    yield "model.neck.act_cfg", conv.act_cfg, [None]
    yield "model.neck.norm_cfg.type", norm.get("type"), ["GN"]
    yield "model.neck.norm_cfg.num_groups", norm["num_groups"], [32]
    yield "model.neck.norm_cfg.eps", norm.get("eps", 1e-5), [1e-5]

    for name in ("encoder", "decoder"):
        layer = getattr(detector, name).layers[0]
        key = f"model.{name}.layer_cfg"
        yield f"{key}.norm_cfg.type", type(layer.norms[0]).__name__, ["LayerNorm"]
        yield f"{key}.norm_cfg.eps", layer.norms[0].eps, [1e-5]
        yield f"{key}.ffn_cfg.act_cfg.type", type(layer.ffn.layers[0][1]).__name__, ["ReLU"]
    yield "model.decoder.post_norm_cfg", detector.cfg.model.decoder.get("post_norm_cfg"), [None]
    # The last of the encoder and of the decoder.
    heads = "model.decoder.layer_cfg.self_attn_cfg.num_heads"
    yield heads, layer.self_attn.attn.num_heads, [layer.cross_attn.num_heads]

    if variant_of(detector) == "two-stage":
        yield "model.with_box_refine", detector.with_box_refine, [True]
        yield "model.queries.base_size", detector.queries.base_size, [0.05]


def _demands_on_images(detector: nn.Module) -> Iterator[tuple[str, object, list]]:
    preprocessor = detector.cfg.model.data_preprocessor
    mean = preprocessor.get("mean")
    yield "model.data_preprocessor.mean", mean, [mean or "three numbers"]
    yield "model.data_preprocessor.bgr_to_rgb", preprocessor.get("bgr_to_rgb", False), [True]
    yield "model.backbone.in_channels", detector.cfg.model.backbone.get("in_channels", 3), [3]

    steps = [step for step in detector.test_pipeline if type(step).__name__ not in _NEUTRAL]
    key = "test_dataloader.dataset.pipeline"
    yield f"{key} between loading and packing", [type(step).__name__ for step in steps], _RESIZES
    (resize,) = steps
    yield f"{key}: Resize.scale_factor", resize.scale_factor, [None]
    yield f"{key}: Resize.interpolation", resize.interpolation, ["bilinear"]
    if type(resize) is Resize:
        yield f"{key}: Resize.keep_ratio", resize.keep_ratio, [True]
    yield f"{key}: LoadImageFromFile.color_type", detector.test_pipeline[0].color_type, ["color"]
