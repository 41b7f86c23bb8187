"""Sizes that disagree are refused when the model is built, with the keys of both."""

import pytest

from .conftest import small_model


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_feature_levels": 3}, r"num_feature_levels is 3, but encoder\.layers\.0.*num_levels=4"),
        ({"positional_encoding.num_feats": 32}, r"differ in width.*num_feats': 64"),
        ({"bbox_head.embed_dims": 64}, r"differ in width.*'bbox_head\.embed_dims': 64"),
        ({"encoder.layer_cfg.ffn_cfg.embed_dims": 64}, r"width.*128.*, but encoder\.layers\.0\.ffn has 64"),
        ({"decoder.layer_cfg.self_attn_cfg.embed_dims": 64}, r"but decoder\.layers\.0\.self_attn.* has 64"),
        ({"neck.in_channels": [16, 32, 128]}, r"neck\.in_channels is \[16, 32, 128\].*\[16, 32, 64\]"),
        ({"backbone.out_indices": (2, 3)}, r"neck\.in_channels is \[16, 32, 64\].*\[32, 64\]"),
        ({"backbone.frozen_stages": 5}, r"backbone\.frozen_stages is 5, but the backbone has 4 stages"),
        ({"neck.num_outs": 3}, r"neck gives levels of \[128, 128, 128\].*num_feature_levels is 4"),
        ({"neck.out_channels": 64}, r"neck gives levels of \[64, 64, 64, 64\].*encoder 128"),
        ({"backbone.in_channels": 1}, r"data_preprocessor\.mean has 3 values.*takes 1 channels"),
    ],
)
def test_sizes_that_disagree_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        small_model(**option)


def test_one_mean_is_for_all_channels():
    options = {"data_preprocessor.mean": [1.0], "data_preprocessor.std": [1.0], "backbone.in_channels": 6}
    assert small_model(**options).backbone.conv1.in_channels == 6
