"""mmcv without its compiled ops is enough; with them it is left alone."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from ms_deform_attn import _library
from ms_deform_attn.compat.mmcv_ops import provide_missing_ops, use_in_mmcv

has_ops = getattr(importlib.util.find_spec("mmcv._ext"), "origin", None) is not None


without_ops = pytest.mark.skipif(has_ops, reason="mmcv is installed with its compiled ops")


@without_ops
def test_missing_op_says_its_name_and_the_way_to_get_it():
    from mmcv.ops import soft_nms

    with pytest.raises(NotImplementedError, match=r"op 'softnms'.*pip install mmcv"):
        soft_nms(torch.rand(3, 4), torch.rand(3), 0.5)


@without_ops
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_is_greedy(offset):
    from mmcv.ops import nms

    torch.manual_seed(0)
    corners = torch.rand(60, 2) * 20
    boxes = torch.cat([corners, corners + torch.rand(60, 2) * 12], 1)
    scores = torch.rand(60).round(decimals=1)
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        overlaps = (_iou(boxes[i], boxes[j], offset) for j in kept)
        if all(overlap <= 0.4 for overlap in overlaps):
            kept.append(i)
    found, indices = nms(boxes, scores, 0.4, offset=offset)
    assert 10 < len(kept) < 60 and indices.tolist() == kept
    torch.testing.assert_close(found, torch.cat([boxes[kept], scores[kept, None]], 1))
    assert nms(boxes[:0], scores[:0], 0.4)[1].tolist() == []


def _iou(a, b, offset: int) -> float:
    w, h = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset for i in (0, 1))
    shared = max(w, 0) * max(h, 0)
    area = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return float(shared / (sum(area) - shared))


def test_mmcvs_attention_runs_on_our_op_and_back(monkeypatch):
    from mmcv.ops import MultiScaleDeformableAttention

    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(32, 4, 2, 3, dropout=0.0, batch_first=True)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    query, value = torch.randn(2, 5, 32), torch.randn(2, 26, 32)
    inputs = dict(
        value=value.requires_grad_(),
        reference_points=torch.rand(2, 5, 2, 2),
        spatial_shapes=torch.tensor([(4, 5), (2, 3)]),
        level_start_index=torch.tensor([0, 20]),
    )
    calls = []
    serves = _library.serves
    monkeypatch.setattr(_library, "serves", lambda device: calls.append(device) or serves(device))

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        output = attention(query, **inputs)
        return output, *torch.autograd.grad(output.square().sum(), value)

    use_in_mmcv(False)
    stock = run()
    assert not calls
    use_in_mmcv()
    ours = run()
    assert calls
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


def test_compiled_ops_are_left_alone(monkeypatch):
    """Where something stands that would be imported, nothing takes its place."""
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: {"mmcv._ext": "compiled"}[name])
    provide_missing_ops()
    assert "mmcv._ext" not in sys.modules


@without_ops
def test_the_compiled_ops_by_mmcvs_loader():
    """As BEVFormer's own autograd function calls them; in a process of its own."""
    code = """
import torch
from ms_deform_attn import ms_deform_attn
from ms_deform_attn.compat.mmcv_ops import use_in_mmcv
use_in_mmcv()
from mmcv.utils import ext_loader
ext = ext_loader.load_ext("_ext", ["ms_deform_attn_backward", "ms_deform_attn_forward"])
inputs = [torch.rand(1, 6, 2, 4), torch.rand(1, 3, 2, 1, 2, 2), torch.rand(1, 3, 2, 1, 2)]
value, locations, weights = (x.requires_grad_() for x in inputs)
geometry = torch.tensor([[2, 3]]), torch.tensor([0])
output = ms_deform_attn(value, *geometry, locations, weights)
assert torch.equal(ext.ms_deform_attn_forward(value, *geometry, locations, weights, im2col_step=64), output)
output.sum().backward()
grads = [torch.zeros_like(x) for x in inputs]
arguments = [x.detach() for x in (value, *geometry, locations, weights)]
ext.ms_deform_attn_backward(*arguments, torch.ones_like(output), *grads, im2col_step=64)
assert all(torch.equal(grad, x.grad) for grad, x in zip(grads, inputs))
print("equal")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr
