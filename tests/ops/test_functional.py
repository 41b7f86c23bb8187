"""Both entries on each backend, against the reference."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ms_deform_attn import ms_deform_attn, ms_deform_attn_fused, ms_deform_attn_reference

from .conftest import CASES, CUDA, ENTRIES

UNFUSED = ENTRIES["unfused"]


def converted(tensors: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    return [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors]


@pytest.mark.parametrize(
    ("dtype", "deterministic"),
    [(torch.float32, False), (torch.float32, True), (torch.float64, False)],
    indirect=["deterministic"],
)
def test_equals_the_reference_in_float64(entry, sizes, device, dtype, deterministic):
    inputs = sizes.inputs(entry, dtype, device)
    ours = entry.output_and_gradients(inputs)
    theirs = entry.output_and_gradients(converted(inputs, torch.float64), entry.reference)
    for actual, expected in zip(ours, theirs, strict=True):
        assert actual.dtype == dtype
        largest = expected.abs().max().item() if expected.numel() else 0
        rtol, atol = (1e-12, 1e-12) if dtype == torch.float64 else (1e-5, 1e-5 * largest)
        torch.testing.assert_close(actual.double(), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("sizes", ["3_channels", "32_channels", "not_contiguous"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("half_sampling", [False, True])
def test_half_values_are_computed_in_float32(entry, sizes, device, dtype, half_sampling):
    """The same numbers in float32 give the same results but for the rounding of each."""
    inputs = sizes.inputs(entry, dtype if half_sampling else torch.float32, device, value_dtype=dtype)
    given = [inputs[i] for i in (0, 0, *entry.differentiable)]
    halves = entry.output_and_gradients(inputs)
    floats = entry.output_and_gradients(converted(inputs, torch.float32))
    for ours, theirs, tensor in zip(halves, floats, given, strict=True):
        assert ours.dtype == tensor.dtype
        rounding = 0.505 * torch.finfo(ours.dtype).eps
        torch.testing.assert_close(ours.float(), theirs, rtol=rounding, atol=1e-5)


@pytest.mark.parametrize("entry", ["unfused", "points"], indirect=True)
@pytest.mark.parametrize("device", ["cpu", CUDA], indirect=True)
def test_gradcheck(entry, device):
    generator = torch.Generator().manual_seed(0)
    shapes, starts = [(3, 2), (1, 1)], [0, 6]
    value = torch.randn(1, 7, 2, 3, generator=generator, dtype=torch.float64)
    # A quarter pixel beside the knots, where the gradient of a location jumps.
    corners = torch.randint(-1, 2, (1, 2, 2, 2, 2, 2), generator=generator).double()
    weights = torch.rand(1, 2, 2, 2, 2, generator=generator, dtype=torch.float64)
    if entry.reference_dims:
        sampling = [torch.full((1, 2, 2, 2), 0.5, dtype=torch.float64), corners + 0.25]
    else:
        sampling = [(corners + 0.75) / torch.tensor(shapes).flip(-1)[:, None]]
    inputs = [tensor.to(device).requires_grad_() for tensor in (value, *sampling, weights)]
    torch.autograd.gradcheck(lambda v, *others: entry.function(v, shapes, starts, *others), inputs)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("sizes", ["3_channels", "no_queries", "not_contiguous"], indirect=True)
@pytest.mark.parametrize(
    "entry, value_dtype",
    [("unfused", torch.float32), ("boxes", torch.float32), ("boxes", torch.bfloat16)],
    indirect=["entry"],
)
@pytest.mark.parametrize("device", ["cpu", CUDA], indirect=True)
def test_opcheck(direction, value_dtype, entry, sizes, device):
    inputs = sizes.inputs(entry, torch.float32, device, value_dtype)
    for i in (0, *entry.differentiable):
        inputs[i].requires_grad_(direction == "forward")
    if direction == "backward":
        inputs = [torch.ones_like(entry.function(*inputs)), *inputs]
    torch.library.opcheck(getattr(torch.ops.ms_deform_attn, entry.prefix + direction).default, inputs)


@pytest.mark.parametrize("sizes", ["one_pixel", "a_query_for_each_pixel", "not_contiguous"], indirect=True)
def test_repeats_to_the_bit_with_any_number_of_threads(entry, sizes):
    inputs = sizes.inputs(entry, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 2):
            torch.set_num_threads(num_threads)
            results.append(entry.output_and_gradients(inputs))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(results[1:], results[:1] * 2, rtol=0, atol=0)


def test_second_derivative_is_refused():
    inputs = CASES["one_pixel"].inputs(UNFUSED, torch.float32)
    for i in (0, 4):
        inputs[i].requires_grad_()
    output = ms_deform_attn(*inputs)
    (gradient,) = torch.autograd.grad(output.sum(), inputs[4], create_graph=True)
    with pytest.raises(NotImplementedError, match="ms_deform_attn_reference"):
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


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("head_dims", [1, 16])
@pytest.mark.parametrize("entry", ["unfused", "points"], indirect=True)
def test_locations_that_are_nan_or_infinite(entry, number, head_dims, device):
    """An infinite location is outside its level, one that is NaN gives NaN; the other query is untouched."""
    value = torch.ones(1, 4, 1, head_dims, device=device, requires_grad=True)
    sampling = [torch.full((1, 2, 1, 1, 1, 2), 0.5, device=device)]
    if entry.reference_dims:
        sampling = [sampling[0][:, :, 0, :, 0], torch.zeros_like(sampling[0])]
    sampling[-1][0, 0, 0, 0, 0, 0] = number
    expected = torch.tensor([math.nan if math.isnan(number) else 0.0, 1.0], device=device)
    for function in (entry.reference, entry.function):
        output = function(value, [(2, 2)], [0], *sampling, torch.ones(1, 2, 1, 1, 1, device=device))
        torch.testing.assert_close(output[0], expected[:, None].expand(-1, head_dims), equal_nan=True)
    output.sum().backward()
    torch.testing.assert_close(value.grad, torch.full_like(value, 0.25))


def test_zero_padding_hides_infinite_values(device):
    value = torch.full((1, 1, 1, 16), math.inf, device=device)
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


def test_boxes_without_area(device):
    """All samples lie in the centre; gradients of width and height stay finite."""
    entry = ENTRIES["boxes"]
    inputs = CASES["3_channels"].inputs(entry, torch.float64, device)
    inputs[3][..., 2:] = 0
    ours = entry.output_and_gradients(inputs)
    theirs = entry.output_and_gradients(inputs, entry.reference)
    torch.testing.assert_close(ours, theirs)


def test_logits_far_apart(device):
    entry = ENTRIES["points"]
    inputs = CASES["33_channels"].inputs(entry, torch.float32, device)
    inputs[5] *= 5000
    torch.testing.assert_close(entry.function(*inputs), entry.reference(*inputs))


SHAPE_OF = {
    "value": (1, 5, 2, 4),
    "reference_points": (1, 3, 2, 2),
    "sampling_locations": (1, 3, 2, 2, 1, 2),
    "sampling_offsets": (1, 3, 2, 2, 1, 2),
    "attention_weights": (1, 3, 2, 2, 1),
    "attention_logits": (1, 3, 2, 2, 1),
}
FUSED_ONLY = {"reference_points", "sampling_offsets", "attention_logits"}


@pytest.mark.parametrize(
    "name, tensor, error, named",
    [
        ("value", torch.zeros(5, 2, 4), ValueError, r"value .* \(5, 2, 4\)"),
        ("value", torch.zeros(2, 5, 2, 4), ValueError, r"sampling_locations .* \(2, "),
        ("value", torch.zeros(1, 5, 3, 4), ValueError, r"sampling_locations .* \(1, 3, 3"),
        ("value", torch.zeros(1, 5, 2, 4).int(), TypeError, "value .*int32"),
        ("value", torch.zeros(1, 5, 2, 4).double(), TypeError, "float64"),
        ("value", None, TypeError, "value .*NoneType"),
        ("attention_weights", None, TypeError, "attention_weights .*NoneType"),
        ("spatial_shapes", None, TypeError, "spatial_shapes .*None"),
        ("level_start_index", None, TypeError, "level_start_index .*None"),
        ("spatial_shapes", torch.tensor([[2.5, 2], [1, 1]]), TypeError, "spatial_shapes .*float32"),
        ("level_start_index", [0.0, 4.0], TypeError, "level_start_index .*float32"),
        ("spatial_shapes", torch.tensor([[2, 2]]), ValueError, r"spatial_shapes .* \(1, 2\)"),
        ("level_start_index", torch.tensor([0]), ValueError, r"level_start_index .* \(1,\)"),
        ("sampling_locations", torch.zeros(1, 3, 2), ValueError, r"sampling_locations .* \(1, 3, 2\)"),
        ("attention_weights", torch.zeros(1, 3, 2, 4), ValueError, r"attention_weights .* \(1, 3, 2, 4\)"),
        ("attention_weights", torch.zeros(1, 3, 2, 2, 1, device="meta"), ValueError, "weights .*meta"),
        ("reference_points", torch.zeros(1, 3, 2, 3), ValueError, r"reference_points .*\(1, 3, 2, 3"),
        ("reference_points", torch.zeros(1, 4, 2, 2), ValueError, r"reference_points .*\(1, 3, 2, 2 or 4\)"),
        ("attention_logits", torch.zeros(1, 3, 2, 2, 2), ValueError, "attention_logits"),
        ("spatial_shapes", torch.tensor([[2, 3], [1, 1]]), RuntimeError, "level 0 .* has 5 positions"),
        ("spatial_shapes", torch.tensor([[2, 2], [1, 0]]), RuntimeError, "level 1 .* has 5 positions"),
        ("spatial_shapes", torch.tensor([[2**40, 2**40], [1, 1]]), RuntimeError, "level 0"),
        ("level_start_index", torch.tensor([0, 5]), RuntimeError, "level 1"),
        ("level_start_index", torch.tensor([-1, 4]), RuntimeError, "level 0"),
    ],
)
def test_bad_input_is_named(name, tensor, error, named):
    function, other = ms_deform_attn, FUSED_ONLY
    if name in FUSED_ONLY:
        function, other = ms_deform_attn_fused, {"sampling_locations", "attention_weights"}
    inputs = {key: torch.zeros(shape) for key, shape in SHAPE_OF.items() if key not in other}
    inputs |= {"spatial_shapes": [(2, 2), (1, 1)], "level_start_index": [0, 4], name: tensor}
    with pytest.raises(error, match=named):
        function(**inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variable, wish, backend",
    [
        ("ATEN_CPU_CAPABILITY", "default", "cpu"),
        ("ATEN_CPU_CAPABILITY", "avx2", "cpu"),
        # Before compute capability 9.0 atomic additions are of single numbers.
        ("EMULATED_ARCH", "800", "emulated"),
    ],
)
def test_kernels_for_lesser_machines(variable, wish, backend):
    cases = f"{backend} and (3_channels or 32_ or 33_ or 64_) and (float64 or float32)"
    # Without tests/conftest.py, which imports mmdet.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", cases]
    command += ["--confcutdir", Path(__file__).parent, __file__]
    result = subprocess.run(command, env=os.environ | {variable: wish}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
