"""Whose weights they are, by their names alone."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from projects.checkpoint_conversion.family import foreign_weights, guess_family
from projects.deformable_detr.registry import MODELS

DETR = Path(__file__).parents[1] / "tiny_detr.py"
# Some names that each code base saves, in an order that does not help.
NAMES = {
    "official": [
        "backbone.0.body.layer1.0.conv1.weight",
        "class_embed.0.weight",
        "input_proj.0.0.weight",
        "query_embed.weight",
        "transformer.decoder.layers.0.cross_attn.sampling_offsets.weight",
        "transformer.decoder.layers.0.self_attn.in_proj_weight",
        "transformer.encoder.layers.0.self_attn.sampling_offsets.weight",
        "transformer.level_embed",
    ],
    "huggingface": [
        "class_embed.0.weight",
        "model.backbone.conv_encoder.model.layer1.0.conv1.weight",
        "model.decoder.layers.0.encoder_attn.sampling_offsets.weight",
        "model.decoder.layers.0.self_attn.q_proj.weight",
        "model.encoder.layers.0.self_attn.sampling_offsets.weight",
        "model.query_position_embeddings.weight",
    ],
    "detrex": [
        "backbone.stem.conv1.weight",
        "class_embed.0.weight",
        "neck.convs.0.conv.weight",
        "transformer.decoder.layers.0.attentions.1.sampling_offsets.weight",
        "transformer.encoder.layers.0.attentions.0.sampling_offsets.weight",
        "transformer.level_embeds",
    ],
    "mmdet": [
        "backbone.layer1.0.conv1.weight",
        "bbox_head.cls_branches.0.weight",
        "decoder.layers.0.self_attn.attn.in_proj_weight",
        "encoder.layers.0.self_attn.sampling_offsets.weight",
        "neck.convs.0.conv.weight",
    ],
    "mmdet2": [
        "backbone.layer1.0.conv1.weight",
        "bbox_head.cls_branches.0.weight",
        "bbox_head.transformer.encoder.layers.0.attentions.0.sampling_offsets.weight",
    ],
    "detr": [
        "backbone.0.body.layer1.0.conv1.weight",
        "class_embed.weight",
        "input_proj.weight",
        "transformer.encoder.layers.0.self_attn.in_proj_weight",
    ],
    "resnet": ["conv1.weight", "fc.weight", "layer1.0.conv1.weight"],
    None: ["backbone.layer1.0.conv1.weight", "roi_head.bbox_head.fc_cls.weight", "w"],
}


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_family_of_names(family, prefix):
    keys = [prefix + name for name in NAMES[family]]
    assert guess_family(keys) == guess_family(reversed(keys)) == family
    said = foreign_weights(keys, "some.pth")
    if family in ("mmdet", None):
        assert said is None
    else:
        assert any(key in said for key in keys)
    if family in ("official", "huggingface", "detrex"):
        assert "python tools/model_converters/convert.py some.pth OUT.pth" in said


def test_family_of_mmdets_detr():
    with DefaultScope.overwrite_default_scope("mmdet"):
        keys = MODELS.build(Config.fromfile(DETR).model).state_dict()
    assert guess_family(keys) == "detr"
    assert guess_family(key for key in keys if key.startswith(("backbone.", "neck."))) is None
