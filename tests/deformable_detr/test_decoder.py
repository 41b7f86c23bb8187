"""What mmdet's decoder has and ours has not; test_parity.py compares the rest."""

import pytest

from projects.deformable_detr.decoder import DeformableDetrTransformerDecoder


@pytest.mark.parametrize("option", [dict(return_intermediate=False), dict(post_norm_cfg=dict(type="LN"))])
def test_options_that_do_not_exist_are_refused(option):
    with pytest.raises(ValueError, match="return_intermediate"):
        DeformableDetrTransformerDecoder(num_layers=1, layer_cfg={}, **option)
