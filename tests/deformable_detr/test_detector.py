"""The whole detector where mmdet's is no reference: other sizes, padding, precision, empty batches."""

import copy
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from projects.deformable_detr.registry import MODELS

BASE = Path(__file__).parents[2] / "configs" / "_base_" / "models" / "ddetr_r18_small.py"
VARIANTS = {
    "base": dict(with_box_refine=False, as_two_stage=False),
    "refine": dict(with_box_refine=True, as_two_stage=False),
    "two_stage": dict(with_box_refine=True, as_two_stage=True),
    "encoder_only": dict(decoder=None),
}


def build(variant: str, num_classes: int = 3, **options) -> torch.nn.Module:
    init_default_scope("projects.deformable_detr")
    cfg = Config.fromfile(BASE)
    options = {
        "backbone.base_channels": 8,
        "neck.in_channels": [16, 32, 64],
        "bbox_head.num_classes": num_classes,
        **VARIANTS[variant],
        **options,
    }
    cfg.merge_from_dict({f"model.{key}": value for key, value in options.items()})
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def batch(num_objects: list[int], shapes=((64, 64), (48, 40))) -> tuple:
    input_shape = tuple(max(side) for side in zip(*shapes, strict=True))
    inputs = torch.zeros(len(shapes), 3, *input_shape)
    samples = []
    for i, ((h, w), n) in enumerate(zip(shapes, num_objects, strict=True)):
        inputs[i, :, :h, :w] = torch.randn(3, h, w)
        corners = torch.rand(n, 2, 2).sort(1).values.flatten(1) * torch.tensor([w, h, w, h])
        objects = InstanceData(bboxes=corners, labels=torch.randint(3, (n,)))
        meta = dict(img_shape=(h, w), ori_shape=(h, w), batch_input_shape=input_shape)
        samples.append(DetDataSample(metainfo=meta, gt_instances=objects))
    return inputs, samples


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_objects", [[2, 3], [2, 0], [0, 0], [120, 1]])
def test_every_parameter_learns_and_nothing_is_lost(variant, num_objects):
    """No unused parameter, so that distributed training needs no search for them."""
    model = build(variant).train()
    losses = model.loss(*batch(num_objects))
    assert all(loss.isfinite() for loss in losses.values())
    total = sum(losses.values())
    assert total > 0
    total.backward()
    assert [k for k, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("variant", ["base", "refine", "two_stage"])
def test_sizes_come_from_the_config(variant):
    attn = dict(embed_dims=36, num_heads=3, num_levels=2, num_points=5)
    ffn = dict(embed_dims=36, feedforward_channels=20)
    model = build(
        variant,
        num_classes=7,
        num_queries=11,
        num_feature_levels=2,
        **{
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
        },
    )
    sum(model.loss(*batch([2, 1])).values()).backward()
    scores, boxes = model._forward(*batch([2, 1]))
    assert scores.shape[0] == 2 and scores.shape[1] == 2 and scores.shape[3] == 7
    assert boxes.shape[-1] == 4 and ((boxes >= 0) & (boxes <= 1)).all()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("training", [False, True])
def test_content_of_the_padding_does_not_count(variant, training):
    """Behind the neck only valid cells are seen, in training and in test alike."""
    model = build(variant).train(training)
    inputs, samples = batch([1, 1])
    feats = [f.detach() for f in model.extract_feat(inputs)]
    outputs = []
    for noise in (0.0, 100.0):
        noisy = [f.clone() for f in feats]
        for level in noisy:
            h, w = level.shape[-2:]
            level[1, :, -(-h * 48 // 64) :] += noise
            level[1, :, :, -(-w * 40 // 64) :] += noise
        model.extract_feat = lambda _, noisy=noisy: noisy
        outputs.append(model._forward(inputs, samples))
    for clean, noisy in zip(*outputs, strict=True):
        torch.testing.assert_close(clean, noisy)


@pytest.mark.parametrize("variant", VARIANTS)
def test_positions_and_boxes_stay_float32_under_autocast(variant):
    model = build(variant)
    inputs, samples = batch([2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.forward_transformer(inputs, samples)
        _, boxes = model._forward(inputs, samples)
        losses = model.loss(inputs, samples)
    assert all(reference.dtype == torch.float32 for reference in outputs["references"])
    assert boxes.dtype == torch.float32
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


def test_predictions_are_in_pixels_of_the_original_image():
    model = build("two_stage").eval()
    inputs, samples = batch([1, 1])
    with torch.no_grad():
        plain = model.predict(inputs, copy.deepcopy(samples))
        for sample in samples:
            sample.set_metainfo(dict(scale_factor=(0.5, 0.25)))
        rescaled = model.predict(inputs, copy.deepcopy(samples))
        unscaled = model.predict(inputs, copy.deepcopy(samples), rescale=False)
    for a, b, c, (h, w) in zip(plain, rescaled, unscaled, [(64, 64), (48, 40)], strict=True):
        boxes, scores = a.pred_instances.bboxes, a.pred_instances.scores
        assert len(boxes) == 100 and (scores.diff() <= 0).all()
        assert (boxes >= 0).all() and (boxes <= boxes.new_tensor([w, h, w, h])).all()
        torch.testing.assert_close(b.pred_instances.bboxes, boxes * boxes.new_tensor([2, 4, 2, 4]))
        torch.testing.assert_close(c.pred_instances.bboxes, boxes)


def test_fewer_predictions_than_max_per_img_are_all_kept():
    model = build("base", num_classes=2, num_queries=7).eval()
    with torch.no_grad():
        (first, _) = model.predict(*batch([1, 1]))
    assert len(first.pred_instances) == 14


def test_without_a_decoder_the_first_of_two_stages_predicts():
    """Same weights, same predictions; where all objects are of the first class, same losses."""
    two_stage, alone = build("two_stage"), build("encoder_only")
    for branches in (two_stage.bbox_head.cls_branches, two_stage.bbox_head.reg_branches):
        for parameter in branches[-1].parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    weights = two_stage.state_dict()
    last = len(two_stage.bbox_head.cls_branches) - 1
    for key in list(weights):
        if f"_branches.{last}." in key:
            weights[key.replace(f"_branches.{last}.", "_branches.0.")] = weights[key]
    alone.load_state_dict({key: weights[key] for key in alone.state_dict()})

    inputs, samples = batch([3, 2])
    for sample in samples:
        sample.gt_instances.labels[:] = 0
    two_stage.train(), alone.train()
    first_stage = two_stage.forward_transformer(inputs, samples)
    (classes,), (boxes,) = alone._forward(inputs, samples)
    torch.testing.assert_close(classes, first_stage["enc_outputs_class"])
    # Beyond the sigmoid's reach are the cells that propose nothing.
    torch.testing.assert_close(boxes, first_stage["enc_outputs_coord"], atol=1e-4, rtol=1e-4)
    losses = two_stage.loss(inputs, samples)
    for name, loss in alone.loss(inputs, samples).items():
        torch.testing.assert_close(loss, losses[f"enc_{name}"], msg=name)


def test_without_a_decoder_classes_are_learnt():
    """Two-stage knows objects only: its first stage has the same loss whatever their classes are."""
    model = build("encoder_only").eval()
    inputs, samples = batch([3, 0])
    with torch.no_grad():
        model.bbox_head.cls_branches[0].weight.zero_()
        model.bbox_head.cls_branches[0].bias.copy_(torch.tensor([-4.0, -4.0, 4.0]))
        losses = {}
        for label in (0, 2):
            samples[0].gt_instances.labels[:] = label
            losses[label] = model.loss(inputs, samples)
        (predicted, _) = model.predict(inputs, samples)
    assert losses[2]["loss_cls"] < losses[0]["loss_cls"] - 1
    assert set(losses[2]) == {"loss_cls", "loss_bbox", "loss_iou"}
    assert (predicted.pred_instances.labels[:50] == 2).all()
    assert len(predicted.pred_instances) == 100


def test_state_dict_survives_a_round_trip_and_keeps_flat_names():
    model, other = build("two_stage"), build("two_stage")
    keys = model.state_dict().keys()
    assert "memory_trans_fc.weight" in keys
    assert not any(key.startswith("queries.") for key in keys)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    other.load_state_dict(model.state_dict(), strict=True)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
