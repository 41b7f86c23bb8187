"""What mmdet's decoder has and ours has not; test_parity.py compares the rest."""

import pytest

from projects.deformable_detr.decoder import DeformableDetrTransformerDecoder


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="return_intermediate"):
        DeformableDetrTransformerDecoder(num_layers=1, layer_cfg={}, return_intermediate=False)
