"""The fused op against what it fuses."""

import pytest
import torch

from ms_deform_attn import ms_deform_attn, ms_deform_attn_fused, ms_deform_attn_fused_reference

DIFFERENTIABLE = (0, 3, 4, 5)  # value, reference_points, sampling_offsets, attention_logits


def output_and_gradients(op, inputs):
    inputs = [tensor.detach() for tensor in inputs]
    for i in DIFFERENTIABLE:
        inputs[i].requires_grad_()
    output = op(*inputs)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(output.shape, generator=generator).bfloat16().to(output)
    gradients = torch.autograd.grad(output, [inputs[i] for i in DIFFERENTIABLE], direction)
    return [output.detach(), *gradients]


def as_float64(inputs):
    return [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]


@pytest.mark.parametrize("reference_dims", [2, 4])
def test_equals_the_reference_in_float64(sizes, device, reference_dims):
    inputs = sizes.fused_inputs(torch.float64, device, reference_dims)
    for ours, theirs in zip(
        output_and_gradients(ms_deform_attn_fused, inputs),
        output_and_gradients(ms_deform_attn_fused_reference, inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("reference_dims", [2, 4])
def test_float32_stays_near_float64(sizes, device, reference_dims):
    inputs = sizes.fused_inputs(torch.float32, device, reference_dims)
    for ours, theirs in zip(
        output_and_gradients(ms_deform_attn_fused, inputs),
        output_and_gradients(ms_deform_attn_fused_reference, as_float64(inputs)),
        strict=True,
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("half_sampling", [False, True])
def test_half_values_are_computed_in_float32(sizes, device, dtype, half_sampling):
    """The same numbers in float32 give the same results but for the rounding of each."""
    inputs = sizes.fused_inputs(torch.float32, device, reference_dims=2)
    for i in DIFFERENTIABLE if half_sampling else (0,):
        inputs[i] = inputs[i].to(dtype)
    widened = [tensor.float() if tensor.is_floating_point() else tensor for tensor in inputs]
    for ours, theirs, given in zip(
        output_and_gradients(ms_deform_attn_fused, inputs),
        output_and_gradients(ms_deform_attn_fused, widened),
        [inputs[0], *(inputs[i] for i in DIFFERENTIABLE)],
        strict=True,
    ):
        assert ours.dtype == given.dtype
        resolution = torch.finfo(ours.dtype).eps
        torch.testing.assert_close(ours.float(), theirs, rtol=resolution, atol=1e-5)


def test_equals_the_unfused_op(device):
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 12, 2, 5, generator=generator, dtype=torch.float64)
    points, offsets, logits = (
        torch.rand(shape, generator=generator, dtype=torch.float64)
        for shape in [(2, 3, 1, 2), (2, 3, 2, 1, 4, 2), (2, 3, 2, 1, 4)]
    )
    value, points, offsets, logits = (x.to(device) for x in (value, points, offsets, logits))
    locations = points[:, :, None, :, None] + offsets / torch.tensor([4.0, 3.0], device=device)
    geometry = [(3, 4)], [0]
    torch.testing.assert_close(
        ms_deform_attn_fused(value, *geometry, points, offsets, logits),
        ms_deform_attn(value, *geometry, locations, logits.flatten(3).softmax(-1).view_as(logits)),
    )


def test_gradcheck(device):
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(1, 7, 2, 3, generator=generator, dtype=torch.float64)
    # Offsets that end a quarter pixel beside the knots, where the gradient jumps.
    points = torch.full((1, 2, 2, 2), 0.5, dtype=torch.float64)
    offsets = torch.randint(-1, 2, (1, 2, 2, 2, 2, 2), generator=generator) + 0.25
    logits = torch.randn(1, 2, 2, 2, 2, generator=generator, dtype=torch.float64)
    inputs = [x.double().to(device).requires_grad_() for x in (value, points, offsets, logits)]
    torch.autograd.gradcheck(
        lambda v, *others: ms_deform_attn_fused(v, [(3, 2), (1, 1)], [0, 6], *others), inputs
    )


@pytest.mark.parametrize("op", ["fused_forward", "fused_backward"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", ["3_channels", "no_queries", "not_contiguous"], indirect=True)
def test_opcheck(op, dtype, device, sizes):
    inputs = sizes.fused_inputs(torch.float32, device, reference_dims=4)
    inputs[0] = inputs[0].to(dtype)
    for i in DIFFERENTIABLE:
        inputs[i] = inputs[i].detach().requires_grad_(op == "fused_forward")
    if op == "fused_backward":
        inputs = [torch.ones_like(ms_deform_attn_fused(*inputs)), *inputs]
    torch.library.opcheck(getattr(torch.ops.ms_deform_attn, op).default, inputs)


def test_boxes_without_area(device):
    """All samples lie in the centre; gradients of width and height stay finite."""
    value = torch.randn(1, 9, 1, 4, dtype=torch.float64, device=device)
    boxes = torch.tensor([0.4, 0.6, 0.0, 0.0], dtype=torch.float64, device=device).view(1, 1, 1, 4)
    offsets = torch.randn(1, 1, 1, 1, 2, 2, dtype=torch.float64, device=device)
    inputs = [value, [(3, 3)], [0], boxes, offsets, torch.zeros_like(offsets[..., 0])]
    inputs[1], inputs[2] = torch.tensor(inputs[1]), torch.tensor(inputs[2])
    for ours, theirs in zip(
        output_and_gradients(ms_deform_attn_fused, inputs),
        output_and_gradients(ms_deform_attn_fused_reference, inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite(device, number):
    value = torch.ones(1, 4, 1, 16, device=device)
    points = torch.full((1, 2, 1, 2), 0.5, device=device)
    offsets = torch.zeros(1, 2, 1, 1, 1, 2, device=device)
    offsets[0, 0, 0, 0, 0, 1] = number
    logits = torch.zeros(1, 2, 1, 1, 1, device=device)
    output = ms_deform_attn_fused(value, [(2, 2)], [0], points, offsets, logits)
    expected = torch.tensor([number if number != number else 0.0, 1.0], device=device)
    torch.testing.assert_close(output[0, :, 0], expected, equal_nan=True)


def test_logits_far_apart(device):
    value = torch.randn(1, 4, 1, 8, device=device)
    points = torch.rand(1, 1, 1, 2, device=device)
    offsets = torch.randn(1, 1, 1, 1, 5, 2, device=device)
    logits = torch.tensor([1e4, 9999.0, -1e4, 0.0, 9950.0], device=device).view(1, 1, 1, 1, 5)
    inputs = value, torch.tensor([[2, 2]]), torch.tensor([0]), points, offsets, logits
    torch.testing.assert_close(ms_deform_attn_fused(*inputs), ms_deform_attn_fused_reference(*inputs))


@pytest.mark.parametrize(
    "name, tensor, error, message",
    [
        (
            "reference_points",
            torch.zeros(1, 3, 2, 3),
            ValueError,
            r"2 or 4\), got shape \(1, 3, 2, 3",
        ),
        ("reference_points", torch.zeros(1, 4, 2, 2), ValueError, r"here \(1, 3, 2, 2 or 4\)"),
        ("sampling_offsets", torch.zeros(1, 3, 2), ValueError, "sampling_offsets must be"),
        ("attention_logits", torch.zeros(1, 3, 2, 2, 2), ValueError, "attention_logits must have"),
        ("attention_logits", torch.zeros(1, 3, 2, 2, 1).int(), TypeError, "of a floating point"),
    ],
)
def test_bad_input(name, tensor, error, message):
    inputs = {
        "value": torch.zeros(1, 5, 2, 4),
        "spatial_shapes": [(2, 2), (1, 1)],
        "level_start_index": [0, 4],
        "reference_points": torch.zeros(1, 3, 2, 2),
        "sampling_offsets": torch.zeros(1, 3, 2, 2, 1, 2),
        "attention_logits": torch.zeros(1, 3, 2, 2, 1),
    }
    with pytest.raises(error, match=message):
        ms_deform_attn_fused(**inputs | {name: tensor})
