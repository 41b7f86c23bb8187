"""mmcv without its compiled ops is enough; with them it is left alone."""

import importlib.util
import sys
from importlib import import_module

import pytest
import torch
from torch.autograd import Function, gradcheck

from ms_deform_attn import ms_deform_attn, ms_deform_attn_reference
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


def test_mmcvs_attention_runs_on_our_op_and_back(calls):
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


def attention_function() -> tuple[type[Function], list[torch.Tensor]]:
    """mmcv's autograd function on our op, and what it takes."""
    use_in_mmcv()
    torch.manual_seed(0)
    tensors = torch.rand(2, 26, 2, 4), torch.rand(2, 5, 2, 2, 3, 2), torch.rand(2, 5, 2, 2, 3)
    value, *sampling = (x.double().requires_grad_() for x in tensors)
    inputs = [value, torch.tensor([(4, 5), (2, 3)]), torch.tensor([0, 20]), *sampling]
    return import_module("mmcv.ops.multi_scale_deform_attn").MultiScaleDeformableAttnFunction, inputs


@pytest.mark.parametrize("compiled", [False, True])
def test_mmcvs_autograd_function_gives_the_reference(compiled):
    function, inputs = attention_function()
    wanted = [inputs[i] for i in (0, 3, 4)]
    run = lambda *inputs: function.apply(*inputs, 64)  # noqa: E731
    if compiled:
        run = torch.compile(run, fullgraph=True, backend="aot_eager")
    outputs = run(*inputs), ms_deform_attn_reference(*inputs)
    grads = [torch.autograd.grad(output.square().sum(), wanted) for output in outputs]
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(*grads)


def test_mmcvs_autograd_function_by_its_parts():
    """As code calls it that has a context of its own, or a class derived from it."""
    function, inputs = attention_function()

    class Derived(function):
        @staticmethod
        def forward(ctx, *inputs):
            return 2 * function.forward(ctx, *inputs)

        @staticmethod
        def backward(ctx, grad_output):
            return function.backward(ctx, 2 * grad_output)

    assert gradcheck(
        lambda *tensors: Derived.apply(tensors[0], *inputs[1:3], *tensors[1:], 64),
        [inputs[i] for i in (0, 3, 4)],
        atol=1e-6,
    )


def test_double_backward_is_torchs_error():
    function, inputs = attention_function()
    output = function.apply(*inputs, 64)
    (grad,) = torch.autograd.grad(output.square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_levels_of_no_integers_are_refused():
    use_in_mmcv()
    sample = import_module("mmcv.ops.multi_scale_deform_attn").multi_scale_deformable_attn_pytorch
    tensors = torch.rand(2, 26, 2, 4), torch.rand(2, 5, 2, 2, 3, 2), torch.rand(2, 5, 2, 2, 3)
    for shapes in (torch.tensor([[4.0, 5.0], [2.0, 3.0]]), [(4.5, 5), (2, 3)]):
        with pytest.raises(TypeError, match="integer"):
            sample(tensors[0], shapes, *tensors[1:])


def test_compiled_ops_are_left_alone(monkeypatch):
    """Where something stands that would be imported, nothing takes its place."""
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: {"mmcv._ext": "compiled"}[name])
    provide_missing_ops()
    assert "mmcv._ext" not in sys.modules


@without_ops
@pytest.mark.parametrize("by_name", [False, True])
def test_the_compiled_ops_by_mmcvs_loader(by_name):
    """As BEVFormer's own autograd function calls them."""
    names = ["ms_deform_attn_backward", "ms_deform_attn_forward"]
    ext = import_module("mmcv.utils.ext_loader").load_ext("_ext", names)
    _, inputs = attention_function()
    output = ms_deform_attn(*inputs)
    output.sum().backward()
    given, wanted = [x.detach() for x in inputs], [inputs[i] for i in (0, 3, 4)]
    grads = [torch.zeros_like(x) for x in wanted]
    if by_name:
        names = ["value", "value_spatial_shapes", "value_level_start_index", "sampling_locations"]
        named = dict(zip([*names, "attention_weights"], given, strict=True), im2col_step=64)
        found = ext.ms_deform_attn_forward(**named)
        names = ["grad_value", "grad_sampling_loc", "grad_attn_weight"]
        named |= dict(zip(names, grads, strict=True), grad_output=torch.ones_like(output))
        ext.ms_deform_attn_backward(**named)
    else:
        found = ext.ms_deform_attn_forward(*given, im2col_step=64)
        ext.ms_deform_attn_backward(*given, torch.ones_like(output), *grads, im2col_step=64)
    assert torch.equal(found, output)
    assert all(torch.equal(grad, x.grad) for grad, x in zip(grads, wanted, strict=True))
