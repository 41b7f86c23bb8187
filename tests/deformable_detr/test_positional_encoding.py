"""Our positional encoding against mmdet's."""

import pytest
import torch
from mmdet.models.layers import SinePositionalEncoding as MMDetSinePositionalEncoding

from projects.deformable_detr.positional_encoding import SinePositionalEncoding


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("offset", [0.0, -0.5])
def test_encoding_is_mmdets(normalize, offset):
    mask = torch.ones(3, 7, 9, dtype=torch.bool)
    for i, (h, w) in enumerate([(7, 9), (4, 9), (5, 3)]):
        mask[i, :h, :w] = False
    cfg = dict(num_feats=6, normalize=normalize, offset=offset, temperature=20)
    expected = MMDetSinePositionalEncoding(**cfg)(mask).permute(0, 2, 3, 1)
    # Padding columns of a whole row divide by the same epsilon in both.
    torch.testing.assert_close(SinePositionalEncoding(**cfg)(mask), expected, rtol=0, atol=0)
