"""Whose weights they are, by their names alone."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from projects.checkpoint_conversion.family import foreign_weights, guess_family
from projects.deformable_detr.registry import MODELS

DETR = Path(__file__).parents[1] / "tiny_detr.py"
# Some names that each code base saves, without ".weight", in an order that does not help.
NAMES = {
    "official": """backbone.0.body.layer1.0.conv1 class_embed.0 input_proj.0.0 query_embed
        transformer.decoder.layers.0.cross_attn.sampling_offsets
        transformer.encoder.layers.0.self_attn.sampling_offsets transformer.level_embed""",
    "huggingface": """class_embed.0 model.backbone.conv_encoder.model.layer1.0.conv1
        model.decoder.layers.0.encoder_attn.sampling_offsets model.decoder.layers.0.self_attn.q_proj
        model.encoder.layers.0.self_attn.sampling_offsets model.query_position_embeddings""",
    "detrex": """backbone.stem.conv1 class_embed.0 neck.convs.0.conv
        transformer.decoder.layers.0.attentions.1.sampling_offsets
        transformer.encoder.layers.0.attentions.0.sampling_offsets transformer.level_embeds""",
    "mmdet": """backbone.layer1.0.conv1 bbox_head.cls_branches.0 decoder.layers.0.self_attn.attn.in_proj
        encoder.layers.0.self_attn.sampling_offsets neck.convs.0.conv""",
    "mmdet2": """backbone.layer1.0.conv1 bbox_head.cls_branches.0
        bbox_head.transformer.encoder.layers.0.attentions.0.sampling_offsets""",
    "detr": """backbone.0.body.layer1.0.conv1 class_embed input_proj
        transformer.encoder.layers.0.self_attn.in_proj""",
    "resnet": "conv1 fc layer1.0.conv1",
    None: "backbone.layer1.0.conv1 roi_head.bbox_head.fc_cls w",
}


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_family_of_names(family, prefix):
    keys = [f"{prefix}{name}.weight" for name in NAMES[family].split()]
    assert guess_family(keys) == guess_family(reversed(keys)) == family
    said = foreign_weights(keys, "some.pth")
    if family in ("mmdet", None):
        assert said is None
    else:
        assert any(key in said for key in keys)
    if family in ("official", "huggingface", "detrex"):
        assert "python tools/model_converters/convert.py some.pth OUT.pth" in said
        assert "convert.py 'a b.pth' OUT.pth" in foreign_weights(keys, "a b.pth")


def test_family_of_mmdets_detr():
    with DefaultScope.overwrite_default_scope("mmdet"):
        keys = MODELS.build(Config.fromfile(DETR).model).state_dict()
    assert guess_family(keys) == "detr"
    assert guess_family(key for key in keys if key.startswith(("backbone.", "neck."))) is None
