"""Our detector against mmdet's DeformableDETR: same keys, and with the same weights the same numbers."""

import copy

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.files.checkpoint_file import read_checkpoint

VARIANTS = {
    "base": dict(),
    "refine": dict(with_box_refine=True),
    "two_stage": dict(with_box_refine=True, as_two_stage=True),
}
# mmdet's own two-stage needs a width of 256; what it computes does not depend on the other sizes.
SHAPES = [(64, 96), (50, 70), (33, 96)]
NUM_CLASSES = 5


def model_cfg(variant: str, embed_dims: int = 256) -> dict:
    """A small model in keys that mmdet and we understand."""
    attn = dict(embed_dims=embed_dims, num_heads=8, dropout=0.0, batch_first=True)
    deformable = dict(attn, num_levels=3, num_points=2)
    ffn = dict(embed_dims=embed_dims, feedforward_channels=64, ffn_drop=0.0)
    return dict(
        type="DeformableDETR",
        num_queries=12,
        num_feature_levels=3,
        backbone=dict(type="ResNet", depth=18, base_channels=8, out_indices=(2, 3), norm_eval=True),
        neck=dict(
            type="ChannelMapper",
            in_channels=[32, 64],
            kernel_size=1,
            out_channels=embed_dims,
            act_cfg=None,
            norm_cfg=dict(type="GN", num_groups=8),
            num_outs=3,
        ),
        positional_encoding=dict(num_feats=embed_dims // 2, normalize=True, offset=-0.5),
        encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
        decoder=dict(
            num_layers=3,
            return_intermediate=True,
            post_norm_cfg=None,
            layer_cfg=dict(self_attn_cfg=attn, cross_attn_cfg=deformable, ffn_cfg=ffn),
        ),
        bbox_head=dict(
            type="DeformableDETRHead",
            num_classes=NUM_CLASSES,
            embed_dims=embed_dims,
            sync_cls_avg_factor=True,
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
            loss_bbox=dict(type="L1Loss", loss_weight=5.0),
            loss_iou=dict(type="GIoULoss", loss_weight=2.0),
        ),
        train_cfg=dict(
            assigner=dict(
                type="HungarianAssigner",
                match_costs=[
                    dict(type="FocalLossCost", weight=2.0),
                    dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
                    dict(type="IoUCost", iou_mode="giou", weight=2.0),
                ],
            )
        ),
        test_cfg=dict(max_per_img=20),
        **VARIANTS[variant],
    )


def build(scope: str, cfg: dict) -> torch.nn.Module:
    """Build in our scope or in mmdet's and make sure whose class it is."""
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(copy.deepcopy(cfg))
    assert type(model).__module__.startswith(scope)
    return model


def pair(variant: str, dtype: torch.dtype, embed_dims: int = 256) -> tuple:
    """mmdet's model with random weights everywhere, and ours with the same."""
    torch.manual_seed(0)
    theirs = build("mmdet", model_cfg(variant, embed_dims))
    torch.nn.init.normal_(theirs.level_embed)
    for parameter in theirs.parameters():  # zero-initialised layers would hide mistakes
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = build("projects.deformable_detr", model_cfg(variant, embed_dims))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs.to(dtype), ours.to(dtype)


def batch(dtype: torch.dtype, num_objects: list[int], shapes=SHAPES) -> tuple:
    """A padded batch of noise with random objects."""
    generator = torch.Generator().manual_seed(1)
    input_shape = tuple(max(side) for side in zip(*shapes, strict=True))
    inputs = torch.zeros(len(shapes), 3, *input_shape, dtype=dtype)
    samples = []
    for i, ((h, w), n) in enumerate(zip(shapes, num_objects, strict=True)):
        inputs[i, :, :h, :w] = torch.randn(3, h, w, generator=generator, dtype=dtype)
        corners = torch.rand(n, 2, 2, generator=generator).sort(1).values.flatten(1)
        objects = InstanceData(
            bboxes=(corners * torch.tensor([w, h, w, h])).to(dtype),
            labels=torch.randint(NUM_CLASSES, (n,), generator=generator),
        )
        meta = dict(
            img_shape=(h, w),
            ori_shape=(2 * h, 2 * w),
            batch_input_shape=input_shape,
            scale_factor=(0.5, 0.5),
            img_path=f"{i}.jpg",
        )
        samples.append(DetDataSample(metainfo=meta, gt_instances=objects))
    return inputs, samples


def loss_and_gradients(model, inputs, samples) -> tuple[dict, dict]:
    losses = model.loss(inputs, copy.deepcopy(samples))
    sum(losses.values()).backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return losses, {k.removeprefix("queries."): v for k, v in gradients.items()}


def assert_close(ours: dict, theirs: dict, tolerance: float) -> None:
    """Equal keys; each difference is at most ``tolerance`` of the largest value."""
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        scale = max(1.0, expected.abs().max().item())
        difference = (ours[key] - expected).abs().max().item()
        assert difference <= tolerance * scale, f"{key}: {difference} of {scale}"


@pytest.mark.parametrize("variant", VARIANTS)
# In float64 what is left is the float32 epsilon that mmdet adds to each normaliser.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1.3e-7)])
@pytest.mark.parametrize("num_objects", [[3, 1, 2], [4, 0, 15], [0, 0, 0]])
def test_losses_and_gradients_are_mmdets(variant, dtype, tolerance, num_objects):
    theirs, ours = pair(variant, dtype)
    inputs, samples = batch(dtype, num_objects)
    their_losses, their_gradients = loss_and_gradients(theirs, inputs, samples)
    our_losses, our_gradients = loss_and_gradients(ours, inputs, samples)
    assert list(our_losses) == list(their_losses)
    assert_close(our_losses, their_losses, tolerance)
    assert_close(our_gradients, their_gradients, tolerance)


# mmdet's two-stage runs at one width alone.
WIDTHS = [(variant, 256) for variant in VARIANTS] + [("base", 48), ("refine", 48), ("refine", 96)]


@pytest.mark.parametrize(("variant", "embed_dims"), WIDTHS)
@pytest.mark.parametrize("shapes", [SHAPES, [(64, 64)] * 2, [(50, 70)]])
def test_predictions_are_mmdets(variant, embed_dims, shapes):
    theirs, ours = (model.eval() for model in pair(variant, torch.float32, embed_dims))
    inputs, samples = batch(torch.float32, [1] * len(shapes), shapes)
    with torch.no_grad():
        expected = theirs.predict(inputs, copy.deepcopy(samples))
        predicted = ours.predict(inputs, copy.deepcopy(samples))
        expected_layers = theirs(inputs, copy.deepcopy(samples), mode="tensor")
        layers = ours(inputs, copy.deepcopy(samples), mode="tensor")
    for a, b in zip(predicted, expected, strict=True):
        a, b = a.pred_instances, b.pred_instances
        assert torch.equal(a.labels, b.labels)
        torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.bboxes / 100, b.bboxes / 100, rtol=0, atol=1e-5)
    for a, b in zip(layers, expected_layers, strict=True):  # logits and boxes of every layer
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "embed_dims", "num_objects", "shapes"),
    [
        *((variant, width, [3, 0, 2], SHAPES) for variant, width in WIDTHS if width != 256),
        *((variant, 256, [3, 0], [(64, 64)] * 2) for variant in VARIANTS),
        *((variant, 256, [2], [(50, 70)]) for variant in VARIANTS),
    ],
)
def test_other_widths_and_batches_are_mmdets(variant, embed_dims, num_objects, shapes):
    theirs, ours = pair(variant, torch.float32, embed_dims)
    inputs, samples = batch(torch.float32, num_objects, shapes)
    expected, expected_gradients = loss_and_gradients(theirs, inputs, samples)
    losses, gradients = loss_and_gradients(ours, inputs, samples)
    assert list(losses) == list(expected)
    assert_close(losses, expected, 1e-5)
    assert_close(gradients, expected_gradients, 1e-5)


@pytest.mark.parametrize(("variant", "embed_dims"), [*WIDTHS, ("two_stage", 48)])
def test_files_load_strictly_both_ways(tmp_path, variant, embed_dims):
    """With the statistics of images that published files hold, and mmdet's own models no longer take."""
    theirs, ours, again = (
        build(scope, model_cfg(variant, embed_dims))
        for scope in ("mmdet", "projects.deformable_detr", "mmdet")
    )
    theirs.init_weights()
    weights = theirs.state_dict() | {"data_preprocessor.mean": torch.ones(3, 1, 1)}
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "theirs.pth")
    ours.load_state_dict(read_checkpoint(tmp_path / "theirs.pth")["state_dict"], strict=True)
    torch.save({"state_dict": ours.state_dict()}, tmp_path / "ours.pth")
    again.load_state_dict(torch.load(tmp_path / "ours.pth")["state_dict"], strict=True)
    assert again.state_dict().keys() == theirs.state_dict().keys()
    for key, value in again.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key]), key


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dict_is_mmdets(variant):
    theirs, ours = (build(s, model_cfg(variant)) for s in ("mmdet", "projects.deformable_detr"))
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (theirs, ours)]
    assert shapes[0] == shapes[1]
    theirs.load_state_dict(ours.state_dict(), strict=True)
