"""The whole detector where mmdet's is no reference: other sizes, and no decoder."""

import pytest
import torch

from .conftest import VARIANTS, batch, small_model

SHAPES = [(64, 64), (48, 40)]


@pytest.mark.parametrize("variant", ["base", "refine", "two_stage", "dino"])
def test_sizes_come_from_the_config(variant):
    attn = dict(embed_dims=36, num_heads=3, num_levels=2, num_points=5)
    ffn = dict(embed_dims=36, feedforward_channels=20)
    options = {
        "num_queries": 11,
        "num_feature_levels": 2,
        "backbone.out_indices": (2,),
        "neck.in_channels": [32],
        "neck.out_channels": 36,
        "neck.num_outs": 2,
        "neck.norm_cfg.num_groups": 4,
        "positional_encoding.num_feats": 18,
        "encoder.num_layers": 1,
        "encoder.layer_cfg.self_attn_cfg": attn,
        "encoder.layer_cfg.ffn_cfg": ffn,
        "decoder.num_layers": 2,
        "decoder.layer_cfg.self_attn_cfg.embed_dims": 36,
        "decoder.layer_cfg.self_attn_cfg.num_heads": 6,
        "decoder.layer_cfg.cross_attn_cfg": attn,
        "decoder.layer_cfg.ffn_cfg": ffn,
        "bbox_head.embed_dims": 36,
        "bbox_head.num_classes": 7,
    }
    model = small_model(**options, **VARIANTS[variant])
    data = batch([2, 1], SHAPES)
    sum(model.loss(*data).values()).backward()
    scores, boxes = model._forward(*data)
    assert scores.shape[0] == 2 and scores.shape[1] == 2 and scores.shape[3] == 7
    assert boxes.shape[-1] == 4 and ((boxes >= 0) & (boxes <= 1)).all()


def test_fewer_predictions_than_max_per_img_are_all_kept():
    model = small_model(**VARIANTS["base"], **{"bbox_head.num_classes": 2}, num_queries=7).eval()
    with torch.no_grad():
        (first, _) = model.predict(*batch([1, 1], SHAPES))
    assert len(first.pred_instances) == 14


def test_without_a_decoder_the_first_of_two_stages_predicts():
    """Same weights, same predictions; where all objects are of the first class, same losses."""
    two_stage, alone = (small_model(**VARIANTS[name]) for name in ("two_stage", "encoder_only"))
    for branches in (two_stage.bbox_head.cls_branches, two_stage.bbox_head.reg_branches):
        for parameter in branches[-1].parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    weights = two_stage.state_dict()
    last = len(two_stage.bbox_head.cls_branches) - 1
    for key in list(weights):
        if f"_branches.{last}." in key:
            weights[key.replace(f"_branches.{last}.", "_branches.0.")] = weights[key]
    alone.load_state_dict({key: weights[key] for key in alone.state_dict()})

    inputs, samples = batch([3, 2], SHAPES)
    for sample in samples:
        sample.gt_instances.labels[:] = 0
    two_stage.train(), alone.train()
    first_stage = two_stage.forward_transformer(inputs, [sample.img_shape for sample in samples])
    (classes,), (boxes,) = alone._forward(inputs, samples)
    torch.testing.assert_close(classes, first_stage["enc_outputs_class"])
    # Beyond the sigmoid's reach are the tokens that propose nothing.
    torch.testing.assert_close(boxes, first_stage["enc_outputs_coord"], atol=1e-4, rtol=1e-4)
    losses = two_stage.loss(inputs, samples)
    for name, loss in alone.loss(inputs, samples).items():
        torch.testing.assert_close(loss, losses[f"enc_{name}"], msg=name)


def test_without_a_decoder_classes_are_learnt():
    """Two-stage knows objects only: its first stage has the same loss whatever their classes are."""
    model = small_model(**VARIANTS["encoder_only"]).eval()
    inputs, samples = batch([3, 0], SHAPES)
    losses = []
    with torch.no_grad():
        model.bbox_head.cls_branches[0].weight.zero_()
        model.bbox_head.cls_branches[0].bias.copy_(torch.tensor([-4.0, -4.0, 4.0]))
        for label in (0, 2):
            samples[0].gt_instances.labels[:] = label
            losses.append(model.loss(inputs, samples))
        (predicted, _) = model.predict(inputs, samples)
    assert losses[1]["loss_cls"] < losses[0]["loss_cls"] - 1
    assert set(losses[0]) == {"loss_cls", "loss_bbox", "loss_iou"}
    assert len(predicted.pred_instances) == 100
    assert (predicted.pred_instances.labels[:50] == 2).all()
