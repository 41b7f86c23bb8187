"""Our decoder against mmdet's, with and without refinement, from points and from boxes."""

import pytest
import torch
from mmdet.models.layers import DeformableDetrTransformerDecoder as MMDetDecoder
from torch import nn

from projects.deformable_detr.decoder import DeformableDetrTransformerDecoder
from projects.deformable_detr.geometry import refine
from projects.deformable_detr.levels import Levels


def cfg() -> dict:
    attn = dict(embed_dims=24, num_heads=3, dropout=0.0, batch_first=True)
    return dict(
        num_layers=3,
        return_intermediate=True,
        post_norm_cfg=None,
        layer_cfg=dict(
            self_attn_cfg=attn,
            cross_attn_cfg=dict(attn, num_levels=2, num_points=2),
            ffn_cfg=dict(embed_dims=24, feedforward_channels=30, ffn_drop=0.0),
        ),
    )


@pytest.mark.parametrize("with_refinement", [False, True])
@pytest.mark.parametrize("reference_dims", [2, 4])
def test_decoder_is_mmdets(with_refinement, reference_dims):
    ours = DeformableDetrTransformerDecoder(**cfg()).double()
    theirs = MMDetDecoder(**cfg()).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    branches = nn.ModuleList(nn.Linear(24, 4) for _ in range(3)).double()
    inputs = dict(
        query=torch.randn(2, 5, 24, dtype=torch.float64),
        query_pos=torch.randn(2, 5, 24, dtype=torch.float64),
        reference_points=torch.rand(2, 5, reference_dims, dtype=torch.float64) * 0.8 + 0.1,
        value=torch.randn(2, 26, 24, dtype=torch.float64),
    )
    levels = Levels.of_batch([(48, 64), (24, 40)], (48, 64), [(4, 5), (2, 3)], torch.device("cpu"))

    def refine_layer(layer, query, reference):
        return refine(branches[layer](query), reference)

    states, references = ours(**inputs, levels=levels, refine_layer=refine_layer if with_refinement else None)
    expected_states, expected_references = theirs(
        **inputs,
        reg_branches=branches if with_refinement else None,
        key_padding_mask=levels.padding_mask,
        spatial_shapes=torch.tensor(levels.shapes),
        level_start_index=torch.tensor(levels.starts),
        valid_ratios=levels.valid_ratios,
    )
    torch.testing.assert_close(states, expected_states)
    # Ours are the references that go into each layer, mmdet's those that come out of it.
    assert len(references) == 3
    torch.testing.assert_close(references[0], inputs["reference_points"])
    for reference, expected in zip(references[1:], expected_references, strict=False):
        torch.testing.assert_close(reference, expected)
        assert not reference.requires_grad


@pytest.mark.parametrize("option", [dict(return_intermediate=False), dict(post_norm_cfg=dict(type="LN"))])
def test_options_that_do_not_exist_are_refused(option):
    with pytest.raises(ValueError, match="return_intermediate"):
        DeformableDetrTransformerDecoder(**(cfg() | option))
