"""The CUDA kernels alone: deterministic sums, limits, launches, and what nvcc makes of them.

Their numbers are checked with those of the CPU kernels, in test_functional.py.
"""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.cpp_extension import COMMON_NVCC_FLAGS

from .conftest import CASES, CUDA, ENTRIES, Sizes

KERNELS = Path(__file__).parents[2] / "ops" / "csrc" / "cuda"
UNFUSED = ENTRIES["unfused"]
on_cuda = pytest.mark.parametrize("device", ["emulated", CUDA], indirect=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("entry", ["unfused", "points"], indirect=True)
def test_deterministic_to_the_bit_in_any_order_of_the_blocks(entry, dtype, emulated):
    sizes = Sizes(((1, 2),), bs=1, num_heads=1, head_dims=4, num_queries=600)
    inputs = sizes.inputs(entry, torch.float32, value_dtype=dtype)

    def are_equal(deterministic: bool) -> bool:
        results = []
        torch.use_deterministic_algorithms(deterministic)
        try:
            for reverse in (False, True):
                emulated.reverse_blocks(reverse)
                results.append(entry.output_and_gradients(inputs))
        finally:
            emulated.reverse_blocks(False)
            torch.use_deterministic_algorithms(False)
        return all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    assert are_equal(True)
    if dtype == torch.float32:
        assert not are_equal(False)


@on_cuda
@pytest.mark.parametrize("spoilt", ["grad_output", "weights"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("entry", ["unfused", "points"], indirect=True)
def test_deterministic_shows_nan_and_infinity(entry, number, spoilt, device, deterministic):
    inputs = Sizes(bs=1, head_dims=4).inputs(entry, torch.float32, device)
    inputs[3].fill_(0.5)
    grad_output = torch.ones(1, 6, 8, device=device)
    (grad_output if spoilt == "grad_output" else inputs[-1]).view(-1)[3] = number
    inputs[0].requires_grad_()
    (gradient,) = torch.autograd.grad(entry.function(*inputs), inputs[0], grad_output)
    assert gradient.isnan().all()


@on_cuda
@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_deterministic_at_any_scale(scale, device):
    inputs = Sizes(bs=1, head_dims=4).inputs(UNFUSED, torch.float32, device)
    inputs[0].requires_grad_()
    grad_output = torch.rand(1, 6, 8, device=device) * scale
    gradients = []
    for deterministic in (True, False):
        torch.use_deterministic_algorithms(deterministic)
        gradients += torch.autograd.grad(UNFUSED.function(*inputs), inputs[0], grad_output)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6 * scale)


def test_more_than_two_to_the_31_elements(emulated):
    num_value = 2**23 + 4
    memory = np.zeros((1, num_value, 1, 256), np.float16)  # nothing is written to most of it
    memory[0, -4:] = np.arange(4)[:, None, None]
    output = UNFUSED.function(
        *(torch.from_numpy(memory), [(1, 4)], [2**23]),
        *(torch.tensor([0.75, 0.5]).view(1, 1, 1, 1, 1, 2), torch.ones(1, 1, 1, 1, 1)),
    )
    assert (output == 2.5).all()


def test_too_many_levels(emulated):
    with pytest.raises(RuntimeError, match="at most 32 levels, got 33"):
        UNFUSED.function(*Sizes(((1, 1),) * 33).inputs(UNFUSED, torch.float32))


def test_a_failed_launch_names_the_gpu_and_the_architectures(emulated):
    emulated.fail_launches(True)
    try:
        with pytest.raises(RuntimeError, match=r"a CPU, compute capability 0\.0; .* 900"):
            UNFUSED.function(*CASES["one_pixel"].inputs(UNFUSED, torch.float32))
    finally:
        emulated.fail_launches(False)


@pytest.mark.gpu
@pytest.mark.parametrize("entry", ["boxes"], indirect=True)
def test_cuda_graph_replays_forward_and_backward(entry):
    inputs = CASES["3_channels"].inputs(entry, torch.float32, "cuda")
    wanted = [inputs[i].requires_grad_() for i in (0, *entry.differentiable)]
    direction = torch.rand_like(entry.function(*inputs))

    def step():
        output = entry.function(*inputs)
        return output, *torch.autograd.grad(output, wanted, direction)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # as PyTorch asks, the first call is not the one captured
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()

    with torch.no_grad():
        for tensor in wanted:
            tensor.uniform_()
    graph.replay()
    for replayed, eager in zip(captured, step(), strict=True):
        torch.testing.assert_close(replayed, eager)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc was not found")
@pytest.mark.parametrize("source", sorted(path.name for path in KERNELS.glob("*.cu")))
def test_no_kernel_spills_registers(source, tmp_path):
    command = ["nvcc", "-std=c++17", "-O3", "-Xptxas=-v", *COMMON_NVCC_FLAGS, "-fatbin", KERNELS / source]
    command += [f"-gencode=arch=compute_{number},code=sm_{number}" for number in (80, 90)]
    result = subprocess.run([*command, "-o", tmp_path / "kernels"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    kernels = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads",
        result.stderr,
        re.DOTALL,
    )
    assert {architecture for _, architecture, *_ in kernels} == {"sm_80", "sm_90"}
    for name, architecture, stores, loads in kernels:
        assert stores == loads == "0", f"{name} spills registers on {architecture}"
