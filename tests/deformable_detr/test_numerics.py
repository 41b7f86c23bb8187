"""In half precision every variant keeps positions, costs and losses in float32, and learns."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from torch import nn

import ms_deform_attn
import projects.dat  # noqa: F401
from projects.deformable_detr.matching.assigner import Predictions
from projects.deformable_detr.matching.targets import Targets
from projects.reliable_runner.training.optim_wrapper import AmpOptimWrapper

from .conftest import SINGLE_SCALE, VARIANTS, batch, small_model

MODELS = VARIANTS | {
    "single_scale": SINGLE_SCALE,
    "levelwise": {
        "encoder.layer_cfg.self_attn_cfg": dict(_delete_=True, type="LevelwiseDeformAttn", embed_dims=128),
    },
    "fpn": {
        "neck": dict(
            _delete_=True,
            type="FPN",
            in_channels=[16, 32, 64],
            out_channels=128,
            add_extra_convs="on_input",
            norm_cfg=dict(type="GN", num_groups=16),
            num_outs=4,
        )
    },
    "bifpn": {"neck.type": "BiFPN", "neck.num_layers": 2},
    "dat": {
        "backbone": dict(
            _delete_=True,
            type="DAT",
            embed_dims=16,
            stages=("LS", "LS", "LD", "LD"),
            num_heads=(1, 2, 4, 8),
            num_groups=(1, 1, 2, 4),
            window_size=4,
            pretrain_img_size=64,
            out_indices=(1, 2, 3),
        ),
        "neck.in_channels": [32, 64, 128],
    },
}
SMALL = {"num_queries": 20, "encoder.num_layers": 1, "decoder.num_layers": 2}
# So wide that bfloat16 counts every fourth cell alone.
DATA = batch([3, 3], [(32, 1333), (32, 1280)])


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, list[torch.Tensor]]]:
    """What must not be half precision, by name, and ``value``, which must."""
    seen = {name: [] for name in ("position", "ratios", "encoder", "decoder", "op", "value", "cost")}

    def fused(value, shapes, starts, reference_points, *args):
        seen["op"].append(reference_points)
        seen["value"].append(value)
        return ms_deform_attn.ms_deform_attn_fused(value, shapes, starts, reference_points, *args)

    def cost(*args):
        seen["cost"].append(original_cost(*args))
        return seen["cost"][-1]

    assigner = model.bbox_head.assigner
    original_cost = assigner.cost
    handles = [model.positional_encoding.register_forward_hook(lambda *a: seen["position"].append(a[2]))]
    handles.append(
        model.encoder.register_forward_pre_hook(lambda _, args: seen["ratios"].append(args[2].valid_ratios))
    )
    for name, stack in ("encoder", model.encoder), ("decoder", model.decoder):
        for layer in stack.layers if stack else ():
            note = lambda _, args, name=name: seen[name].append(args[-2])  # noqa: E731, the reference points
            handles.append(layer.register_forward_pre_hook(note))
    with (
        mock.patch("ms_deform_attn.module.ms_deform_attn_fused", fused),
        mock.patch.object(assigner, "cost", cost),
    ):
        yield seen
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", MODELS)
def test_positions_and_costs_are_float32_and_steps_are_finite(variant, dtype):
    model = small_model(**SMALL, **MODELS[variant]).train()
    with recorded(model) as expected, torch.no_grad():
        model.loss(*DATA)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    wrapper = AmpOptimWrapper(optimizer=optimizer, dtype="bfloat16", clip_grad=dict(max_norm=0.1))
    if dtype is torch.float16:  # mmengine refuses it on a CPU
        wrapper.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = [p.detach().clone() for p in model.parameters()]
    with recorded(model) as seen:
        for _ in range(2):
            with torch.autocast("cpu", dtype):
                losses = model.loss(*DATA)
            assert all(x.dtype == torch.float32 and x.isfinite() for x in losses.values())
            wrapper.update_params(sum(losses.values()))
    assert {value.dtype for value in seen.pop("value")} == {dtype}
    for name, tensors in seen.items():
        assert {x.dtype for x in tensors} <= {torch.float32}, name
        assert bool(tensors) == bool(expected[name]), name
        assert all(x.isfinite().all() for x in tensors), name
    # What depends on no weight is the same number as without autocast.
    for name in ("position", "ratios", "encoder"):
        for a, b in zip(expected[name], seen[name], strict=False):
            assert torch.equal(a, b), name
    assert all(p.isfinite().all() for p in model.parameters())
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_wide_map_is_sampled_where_it_is_meant(dtype):
    """bfloat16 cannot tell column 1001 from 1000 and 1002, nor float16 column 2501."""
    width, column = (1333, 1001) if dtype is torch.bfloat16 else (4001, 2501)
    value = torch.zeros(1, width, 1, 8, dtype=dtype)
    value[:, column] = 1
    half = torch.zeros(1, 1, 1, 1, 4, dtype=dtype)
    for neighbour, expected in ((column, 1.0), (column - 1, 0.0), (column + 1, 0.0)):
        reference = torch.tensor([(neighbour + 0.5) / width, 0.5]).view(1, 1, 1, 2)
        output = ms_deform_attn.ms_deform_attn_fused(
            value, [(1, width)], [0], reference, half[..., None].expand(-1, -1, -1, -1, -1, 2), half
        )
        torch.testing.assert_close(output.float(), torch.full((1, 1, 8), expected), rtol=0, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_large_logits_overflow_neither_costs_nor_losses(dtype):
    head = small_model().bbox_head
    logits = torch.tensor([1e4, -1e4, 0.0, 6e4]).to(dtype).repeat(2, 5, 1)[..., :3]
    logits[:, ::2] *= -1
    logits.requires_grad_()
    boxes = torch.rand(2, 5, 4, requires_grad=True)
    predictions = Predictions(logits, boxes, Targets.from_samples(DATA[1]))
    cost = head.assigner.cost(*predictions)
    assert cost.dtype == torch.float32 and cost.isfinite().all()
    (matches,) = head.assigner.assign([predictions])
    losses = head.layer_losses(predictions, matches)
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in losses)
    sum(losses).backward()
    assert logits.grad.isfinite().all() and boxes.grad.isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["cls_scores", "bbox_preds"])
def test_a_prediction_that_is_not_finite_makes_the_loss_so(bad, part):
    head = small_model().bbox_head
    predictions = Predictions(torch.randn(2, 5, 3), torch.rand(2, 5, 4), Targets.from_samples(DATA[1]))
    getattr(predictions, part)[1, 3] = bad
    (matches,) = head.assigner.assign([predictions])
    assert not sum(head.layer_losses(predictions, matches)).isfinite()
