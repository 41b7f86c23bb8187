"""The built op against the reference, and as a citizen of PyTorch."""

import copy
import math

import pytest
import torch

from ms_deform_attn import ms_deform_attn, ms_deform_attn_reference

DIFFERENTIABLE = (0, 3, 4)  # value, sampling_locations, attention_weights


def output_and_gradients(op, inputs):
    inputs = [copy.copy(tensor.detach()) for tensor in inputs]
    for i in DIFFERENTIABLE:
        inputs[i].requires_grad_()
    output = op(*inputs)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
    gradients = torch.autograd.grad(output, [inputs[i] for i in DIFFERENTIABLE], direction)
    return [output.detach(), *gradients]


def test_equals_the_reference_in_float64(sizes, device):
    inputs = sizes.inputs(torch.float64, device)
    for ours, theirs in zip(
        output_and_gradients(ms_deform_attn, inputs),
        output_and_gradients(ms_deform_attn_reference, inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_float32_stays_near_float64(sizes, device):
    inputs = sizes.inputs(torch.float32, device)
    exact = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
    for ours, theirs in zip(
        output_and_gradients(ms_deform_attn, inputs),
        output_and_gradients(ms_deform_attn_reference, exact),
        strict=True,
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_repeats_to_the_bit(sizes):
    inputs = sizes.inputs(torch.float32, "cpu")
    first = output_and_gradients(ms_deform_attn, inputs)
    second = output_and_gradients(ms_deform_attn, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradcheck(device):
    generator = torch.Generator().manual_seed(0)
    shapes, starts = [(3, 2), (1, 1)], [0, 6]
    value = torch.randn(1, 7, 2, 3, generator=generator, dtype=torch.float64)
    # A quarter pixel beside the knots, where the gradient of a location jumps.
    wh = torch.tensor(shapes, dtype=torch.float64).flip(-1)[:, None]
    corners = torch.randint(-1, 3, (1, 2, 2, 2, 2, 2), generator=generator)
    locations = (corners + 0.75) / wh
    weights = torch.rand(1, 2, 2, 2, 2, generator=generator, dtype=torch.float64)
    inputs = [tensor.to(device).requires_grad_() for tensor in (value, locations, weights)]
    torch.autograd.gradcheck(lambda v, x, w: ms_deform_attn(v, shapes, starts, x, w), inputs)


@pytest.mark.parametrize("op", ["forward", "backward"])
@pytest.mark.parametrize("sizes", ["3_channels", "no_queries", "not_contiguous"], indirect=True)
def test_opcheck(op, device, sizes):
    inputs = sizes.inputs(torch.float32, device)
    for i in DIFFERENTIABLE:
        inputs[i].requires_grad_(op == "forward")
    if op == "backward":
        output = ms_deform_attn_reference(*inputs)
        inputs = [torch.ones_like(output), *inputs]
    torch.library.opcheck(getattr(torch.ops.ms_deform_attn, op).default, inputs)


def test_second_derivative_is_refused():
    value = torch.rand(1, 1, 1, 1, requires_grad=True)
    weights = torch.rand(1, 1, 1, 1, 1, requires_grad=True)
    output = ms_deform_attn(value, [(1, 1)], [0], torch.rand(1, 1, 1, 1, 1, 2), weights)
    (gradient,) = torch.autograd.grad(output.sum(), weights, create_graph=True)
    with pytest.raises(NotImplementedError, match="ms_deform_attn_reference can be twice"):
        gradient.sum().backward()


def test_geometry_as_ints_and_levels_that_overlap(device):
    value = torch.randn(1, 6, 2, 4, dtype=torch.float64, device=device)
    locations = torch.rand(1, 5, 2, 2, 1, 2, dtype=torch.float64, device=device)
    weights = torch.rand(1, 5, 2, 2, 1, dtype=torch.float64, device=device)
    geometry = [(2, 2), (1, 4)], [0, 2]
    torch.testing.assert_close(
        ms_deform_attn(value, *geometry, locations, weights, im2col_step=3),
        ms_deform_attn_reference(value, *geometry, locations, weights),
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("op", [ms_deform_attn, ms_deform_attn_reference])
def test_locations_that_are_not_finite(op, number, device):
    value = torch.ones(1, 4, 1, 16, device=device)
    locations = torch.full((1, 2, 1, 1, 1, 2), 0.5, device=device)
    locations[0, 0, 0, 0, 0, 0] = number
    output = op(value, [(2, 2)], [0], locations, torch.ones_like(locations[..., 0]))
    expected = torch.tensor([float("nan") if math.isnan(number) else 0.0, 1.0], device=device)
    torch.testing.assert_close(output[0, :, 0], expected, equal_nan=True)


def test_zero_padding_hides_values_that_are_not_finite(device):
    value = torch.full((1, 1, 1, 16), float("inf"), device=device)
    locations = torch.full((1, 1, 1, 1, 1, 2), 5.0, device=device)
    output = ms_deform_attn(value, [(1, 1)], [0], locations, torch.ones_like(locations[..., 0]))
    assert not output.any()


def test_just_before_a_knot(device):
    """Pixel 7.999999 has the slope between pixels 7 and 8, not that between 8 and 9."""
    value = torch.arange(64.0, device=device).square().view(1, 64, 1, 1)
    locations = torch.tensor([0.13281249, 0.5], device=device).view(1, 1, 1, 1, 1, 2)
    locations.requires_grad_()
    weights = torch.ones(1, 1, 1, 1, 1, device=device)
    ms_deform_attn(value, [(1, 64)], [0], locations, weights).sum().backward()
    assert locations.grad.flatten()[0].item() == pytest.approx(64 * (8**2 - 7**2), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_values_with_float32_locations(dtype, device):
    value = torch.randn(2, 9, 2, 16, device=device).to(dtype).requires_grad_()
    locations = torch.rand(2, 4, 2, 1, 3, 2, device=device)
    weights = torch.rand(2, 4, 2, 1, 3, device=device)
    output = ms_deform_attn(value, [(3, 3)], [0], locations, weights)
    expected = ms_deform_attn_reference(value.float(), [(3, 3)], [0], locations, weights)
    output.sum().backward()
    assert output.dtype == value.grad.dtype == dtype
    torch.testing.assert_close(output, expected.to(dtype))


def test_autocast_leaves_half_values_as_they_are(device):
    value = torch.randn(1, 4, 1, 8, device=device).bfloat16()
    locations = torch.rand(1, 3, 1, 1, 2, 2, device=device)
    weights = torch.rand(1, 3, 1, 1, 2, device=device)
    inputs = value, [(2, 2)], [0], locations, weights
    with torch.autocast(device, torch.bfloat16):
        output = ms_deform_attn(*inputs)
    assert torch.equal(output, ms_deform_attn(*inputs))


def valid_inputs() -> dict[str, torch.Tensor]:
    return {
        "value": torch.zeros(1, 5, 2, 4),
        "spatial_shapes": torch.tensor([[2, 2], [1, 1]]),
        "level_start_index": torch.tensor([0, 4]),
        "sampling_locations": torch.zeros(1, 3, 2, 2, 1, 2),
        "attention_weights": torch.zeros(1, 3, 2, 2, 1),
    }


@pytest.mark.parametrize(
    "name, tensor, error, message",
    [
        ("value", torch.zeros(5, 2, 4), ValueError, r"value must be .* got shape \(5, 2, 4\)"),
        ("value", torch.zeros(2, 5, 2, 4), ValueError, r"sampling_locations must have shape \(2, "),
        (
            "value",
            torch.zeros(1, 5, 3, 4),
            ValueError,
            r"sampling_locations must have shape \(1, 3, 3",
        ),
        ("value", torch.zeros(1, 5, 2, 4).int(), TypeError, "value must be of a floating point"),
        ("value", torch.zeros(1, 5, 2, 4).double(), TypeError, "float64 does not mix"),
        ("spatial_shapes", torch.tensor([[2, 2]]), ValueError, r"spatial_shapes .* got \(1, 2\)"),
        ("level_start_index", torch.tensor([0]), ValueError, r"level_start_index .* got \(1,\)"),
        ("sampling_locations", torch.zeros(1, 3, 2), ValueError, "sampling_locations must be"),
        ("attention_weights", torch.zeros(1, 3, 2, 4), ValueError, "attention_weights must have"),
        ("attention_weights", torch.zeros(1, 3, 2, 2, 1, device="meta"), ValueError, "is on meta"),
        ("spatial_shapes", torch.tensor([[2, 3], [1, 1]]), RuntimeError, None),
        ("spatial_shapes", torch.tensor([[2, 2], [1, 0]]), RuntimeError, None),
        ("spatial_shapes", torch.tensor([[2**40, 2**40], [1, 1]]), RuntimeError, None),
        ("level_start_index", torch.tensor([0, 5]), RuntimeError, "level 1 .* exceeds the value"),
        ("level_start_index", torch.tensor([-1, 4]), RuntimeError, "level 0 .* exceeds the value"),
    ],
)
def test_bad_input(name, tensor, error, message):
    with pytest.raises(error, match=message or "exceeds the value, which has 5 positions"):
        ms_deform_attn(**valid_inputs() | {name: tensor})
