"""Sizes that disagree are refused when the model is built, with the keys of both."""

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from projects.deformable_detr.registry import MODELS


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_feature_levels": 3}, r"num_feature_levels is 3, but encoder\.layers\.0.*num_levels=4"),
        ({"positional_encoding.num_feats": 32}, r"differ in width.*num_feats': 64"),
        ({"bbox_head.embed_dims": 64}, r"differ in width.*'bbox_head\.embed_dims': 64"),
        ({"neck.in_channels": [64, 128, 512]}, r"neck\.in_channels is \[64, 128, 512\].*\[64, 128, 256\]"),
        ({"backbone.out_indices": (2, 3)}, r"neck\.in_channels is \[64, 128, 256\].*\[128, 256\]"),
        ({"neck.num_outs": 3}, r"neck gives levels of \[128, 128, 128\].*num_feature_levels is 4"),
        ({"neck.out_channels": 64}, r"neck gives levels of \[64, 64, 64, 64\].*encoder 128"),
        ({"backbone.in_channels": 1}, r"data_preprocessor\.mean has 3 values.*takes 1 channels"),
    ],
)
def test_sizes_that_disagree_are_named(option, message):
    init_default_scope("projects.deformable_detr")
    cfg = Config.fromfile("configs/_base_/models/ddetr_r18_small.py")
    cfg.merge_from_dict({f"model.{key}": value for key, value in option.items()})
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg.model)
