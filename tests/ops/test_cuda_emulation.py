"""The source of the CUDA kernels, run on the CPU, against the float64 reference."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ms_deform_attn.reference import ms_deform_attn_reference

if shutil.which("g++") is None:
    pytest.skip("g++ was not found: it compiles the emulation", allow_module_level=True)

_spec = importlib.util.spec_from_file_location(
    "emulation", Path(__file__).parent / "emulation" / "emulation.py"
)
_emulation = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_emulation)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return _emulation.Emulation(tmp_path_factory.mktemp("emulation"), 900)


PYRAMID = ((6, 5), (3, 4), (1, 1))
EXACT = ((8, 4), (2, 4), (1, 1))  # 16-bit coordinates times powers of two are not rounded


@dataclass(frozen=True)
class Case:
    """Sizes, and the way into the op: 0 for the unfused entry, else the size of a reference."""

    head_dims: int
    reference_dims: int = 0
    shapes: tuple[tuple[int, int], ...] = PYRAMID
    bs: int = 1
    num_heads: int = 2
    num_queries: int = 5
    num_points: int = 2
    shift: int = 0

    @property
    def levels(self) -> list[tuple[int, int, int]]:
        """(start, height, width) of each level."""
        levels, start = [], 0
        for height, width in self.shapes:
            levels.append((start, height, width))
            start += height * width
        return levels

    def inputs(self, dtype: torch.dtype, rest_dtype: torch.dtype) -> list[Tensor]:
        """value, then what the entry takes after the geometry."""
        generator = torch.Generator().manual_seed(0)

        def rand(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        num_value = sum(height * width for height, width in self.shapes)
        value = rand(self.bs, num_value, self.num_heads, self.head_dims) - 0.5
        sizes = self.bs, self.num_queries, self.num_heads, len(self.shapes), self.num_points
        if self.reference_dims == 0:
            rest = [rand(*sizes, 2) * 1.6 - 0.3, rand(*sizes)]
        else:
            references = rand(self.bs, self.num_queries, len(self.shapes), self.reference_dims)
            rest = [references, rand(*sizes, 2) * 6 - 3, rand(*sizes) * 4 - 2]
        return [value.to(dtype), *(tensor.to(rest_dtype) for tensor in rest)]


def reference(shapes, value: Tensor, *rest: Tensor) -> Tensor:
    """The output by plain PyTorch, from either entry's inputs."""
    starts = torch.tensor([height * width for height, width in shapes]).cumsum(0).tolist()
    if len(rest) == 3:
        points, offsets, logits = rest
        points = points[:, :, None, :, None]
        if points.shape[-1] == 2:
            offsets = offsets / torch.tensor(shapes).flip(-1)[:, None]
        else:
            offsets = offsets * points[..., 2:] / 2 / offsets.shape[-2]
        weights = logits.flatten(3).softmax(-1).view_as(logits)
        rest = points[..., :2] + offsets, weights
    return ms_deform_attn_reference(value, shapes, [0, *starts[:-1]], *rest)


def expectations(case: Case, grad_output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Output and gradients in float64."""
    inputs = [tensor.double().requires_grad_() for tensor in inputs]
    output = reference(case.shapes, *inputs)
    return [output.detach(), *torch.autograd.grad(output, inputs, grad_output.double())]


def check(kernels, case: Case, dtype, rest_dtype, deterministic: bool) -> None:
    inputs = case.inputs(dtype, rest_dtype)
    shape = case.bs, case.num_queries, case.num_heads * case.head_dims
    grad_output = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 0.5).to(dtype)
    arguments = inputs[0], case.levels, *inputs[1:]
    output = kernels.forward(*arguments, shift=case.shift)
    gradients = kernels.backward(grad_output, *arguments, deterministic=deterministic, shift=case.shift)
    for actual, expected in zip([output, *gradients], expectations(case, grad_output, inputs), strict=True):
        # Half a unit in the last place, and float32's (float64's) rounding of sums.
        relative = {torch.float16: 2**-11, torch.bfloat16: 2**-8}.get(actual.dtype, 1e-5)
        absolute = 1e-5 * float(expected.abs().max()) if expected.numel() else 0
        if dtype == torch.float64:
            relative, absolute = 1e-11, 1e-11
        torch.testing.assert_close(actual.double(), expected, rtol=1.01 * relative, atol=absolute + 1e-12)


CASES = {
    "1_channel": Case(1, num_heads=3, bs=2),
    "3_channels": Case(3, 2),
    "33_channels": Case(33, 4, num_points=5),
    "32_channels": Case(32, bs=2),
    "32_channels_points": Case(32, 2, num_heads=3),
    "32_channels_boxes": Case(32, 4, num_points=3),
    "128_channels": Case(128, 2, num_queries=3),
    "256_channels": Case(256, num_queries=3),
    "264_channels": Case(264, 4, num_queries=2, num_heads=1),
    "one_pixel": Case(4, shapes=((1, 1),)),
    "many_samples": Case(8, 2, num_points=7),
    "queries_are_pixels": Case(16, 2, shapes=((11, 10), (5, 5), (1, 1)), num_queries=136),
    "not_aligned": Case(8, 4, shift=1),
    "no_queries": Case(8, 2, num_queries=0),
    "no_images": Case(8, 4, bs=0),
}


@pytest.mark.parametrize(
    "dtype, deterministic",
    [(torch.float32, False), (torch.float64, False), (torch.float32, True)],
    ids=["float32", "float64", "deterministic"],
)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_against_float64(kernels, case, dtype, deterministic):
    check(kernels, case, dtype, dtype, deterministic)


def test_without_vector_additions(tmp_path):
    """Before compute capability 9.0 memory adds one number at a time."""
    kernels = _emulation.Emulation(tmp_path, 800)
    check(kernels, CASES["32_channels"], torch.float32, torch.float32, False)
    check(kernels, Case(32, 2, EXACT), torch.float16, torch.float16, False)


@pytest.mark.parametrize("deterministic", [False, True], ids=["fast", "deterministic"])
@pytest.mark.parametrize("rest", ["half", "float32"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reference_dims", [0, 2, 4])
@pytest.mark.parametrize("head_dims", [3, 32])
def test_half(kernels, head_dims, reference_dims, dtype, rest, deterministic):
    case = Case(head_dims, reference_dims, EXACT)
    check(kernels, case, dtype, dtype if rest == "half" else torch.float32, deterministic)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("head_dims", [1, 16])
def test_locations_that_are_not_finite(kernels, number, head_dims):
    value = torch.ones(1, 4, 1, head_dims)
    locations = torch.full((1, 2, 1, 1, 1, 2), 0.5)
    locations[0, 0, 0, 0, 0, 0] = number
    arguments = value, [(0, 2, 2)], locations, torch.ones_like(locations[..., 0])
    output = kernels.forward(*arguments)
    outside = torch.tensor(number if number != number else 0.0)
    torch.testing.assert_close(output[0, 0], outside.expand(head_dims), equal_nan=True)
    torch.testing.assert_close(output[0, 1], torch.ones(head_dims))
    grad_value, *_ = kernels.backward(torch.ones_like(output), *arguments)
    torch.testing.assert_close(grad_value, torch.full_like(value, 0.25))


def test_zero_padding_hides_values_that_are_not_finite(kernels):
    value = torch.full((1, 1, 1, 16), float("inf"))
    locations = torch.full((1, 1, 1, 1, 1, 2), 5.0)
    assert not kernels.forward(value, [(0, 1, 1)], locations, torch.ones_like(locations[..., 0])).any()


def test_just_before_a_knot(kernels):
    """Pixel 7.999999 has the slope between pixels 7 and 8, not that between 8 and 9."""
    value = torch.arange(64.0).square().view(1, 64, 1, 1)
    locations = torch.tensor([0.13281249, 0.5]).view(1, 1, 1, 1, 1, 2)
    _, grad_locations, _ = kernels.backward(
        torch.ones(1, 1, 1), value, [(0, 1, 64)], locations, torch.ones(1, 1, 1, 1, 1)
    )
    assert grad_locations[..., 0].item() == pytest.approx(64 * (8**2 - 7**2), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reference_dims", [0, 2])
def test_deterministic_to_the_bit(kernels, reference_dims, dtype):
    """In any order of the blocks, though plain sums differ."""
    case = Case(4, reference_dims, ((1, 2),), num_heads=1, num_queries=600)
    value, *rest = case.inputs(torch.float32, torch.float32)
    grad_output = torch.rand(1, 600, 4) - 0.5
    arguments = grad_output.to(dtype), value.to(dtype), case.levels, *rest

    def both_ways(deterministic: bool) -> list[list[Tensor]]:
        results = []
        for reverse in (False, True):
            kernels.reverse_blocks(reverse)
            results.append(kernels.backward(*arguments, deterministic=deterministic))
        kernels.reverse_blocks(False)
        return results

    for first, second in zip(*both_ways(True), strict=True):
        assert torch.equal(first, second)
    if dtype == torch.float32:
        first, second = both_ways(False)
        assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("place", ["output", "weights"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("reference_dims", [0, 2])
def test_deterministic_shows_what_is_not_finite(kernels, reference_dims, number, place):
    case = Case(4, reference_dims)
    value, *rest = case.inputs(torch.float32, torch.float32)
    rest[0].fill_(0.5)
    grad_output = torch.ones(1, case.num_queries, 8)
    (grad_output if place == "output" else rest[-1]).view(-1)[3] = number
    gradients = kernels.backward(grad_output, value, case.levels, *rest, deterministic=True)
    assert gradients[0].isnan().all()


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_deterministic_at_any_scale(kernels, scale):
    case = Case(4)
    inputs = case.inputs(torch.float32, torch.float32)
    grad_output = torch.rand(1, case.num_queries, 8) * scale
    arguments = grad_output, inputs[0], case.levels, *inputs[1:]
    actual, *_ = kernels.backward(*arguments, deterministic=True)
    expected, *_ = kernels.backward(*arguments)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6 * scale)


def test_asks_torch_whether_to_be_deterministic(kernels):
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for enabled in (True, False):
            torch.use_deterministic_algorithms(enabled)
            assert kernels.library.deterministic_algorithms_enabled() == enabled
    finally:
        torch.use_deterministic_algorithms(before)


def test_a_failed_launch_names_the_gpu_and_the_architectures(kernels):
    case = Case(4)
    value, *rest = case.inputs(torch.float32, torch.float32)
    with pytest.raises(RuntimeError, match="the GPU is a CPU, compute capability 0.0; .* built for 900"):
        kernels.forward(value, case.levels, *rest, stream=1)
