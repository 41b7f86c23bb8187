"""The ops under torch.compile, export, vmap, deterministic mode, and each instruction set."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ms_deform_attn import (
    MSDeformAttn,
    _library,
    ms_deform_attn,
    ms_deform_attn_fused,
    ms_deform_attn_fused_reference,
    ms_deform_attn_reference,
)

ROOT = Path(__file__).parents[2]
GEOMETRY = [(3, 4), (2, 2)], [0, 12]


def sampling(num_queries: int, bs: int = 1) -> list[torch.Tensor]:
    """value, sampling_locations or offsets, attention weights or logits."""
    generator = torch.Generator().manual_seed(num_queries)
    shapes = [(bs, 16, 2, 4), (bs, num_queries, 2, 2, 3, 2), (bs, num_queries, 2, 2, 3)]
    return [torch.rand(shape, generator=generator).requires_grad_() for shape in shapes]


def attend(value, locations, weights):
    return ms_deform_attn(value, *GEOMETRY, locations, weights)


def attend_fused(value, offsets, logits):
    points = offsets[:, :, 0, :, 0].sigmoid()
    return ms_deform_attn_fused(value, *GEOMETRY, points, offsets, logits)


@pytest.mark.parametrize("function", [attend, attend_fused])
def test_compiles_as_one_graph_with_dynamic_sizes(function):
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for num_queries in (5, 7, 11):
        inputs = sampling(num_queries)
        ours, theirs = compiled(*inputs), function(*inputs)
        torch.testing.assert_close(ours, theirs)
        for a, b in zip(
            torch.autograd.grad(ours.sum(), inputs),
            torch.autograd.grad(theirs.sum(), inputs),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles with g++")
def test_both_entries_and_the_module_compile_to_machine_code(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    torch._dynamo.reset()
    module = MSDeformAttn(8, 2, 2, 3)

    def everything(value, locations, weights):
        query = value.flatten(2)[:, : locations.shape[1]]
        points = locations[:, :, 0, :, 0]
        attended = module(query, value.flatten(2), points, *GEOMETRY)
        return attended + attend(value, locations, weights) * attend_fused(value, locations, weights)

    compiled = torch.compile(everything, fullgraph=True, dynamic=True)
    for num_queries in (5, 7):
        inputs = sampling(num_queries)
        ours, theirs = compiled(*inputs), everything(*inputs)
        torch.testing.assert_close(ours, theirs)
        wanted = [*inputs, *module.parameters()]
        for a, b in zip(
            torch.autograd.grad(ours.square().sum(), wanted),
            torch.autograd.grad(theirs.square().sum(), wanted),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_graph_replays_forward_and_backward():
    inputs = [tensor.detach().cuda().requires_grad_() for tensor in sampling(5, bs=2)]
    direction = torch.rand(2, 5, 8, device="cuda")

    def step():
        output = attend_fused(*inputs)
        return output, *torch.autograd.grad(output, inputs, direction)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # as PyTorch asks, the first call is not the one captured
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()

    with torch.no_grad():
        for tensor in inputs:
            tensor.uniform_()
    graph.replay()
    for replayed, eager in zip(captured, step(), strict=True):
        torch.testing.assert_close(replayed, eager)


def test_module_compiles_and_exports():
    torch.manual_seed(0)
    torch._dynamo.reset()
    module = MSDeformAttn(8, 2, 2, 3)
    inputs = torch.randn(1, 5, 8), torch.randn(1, 16, 8), torch.rand(1, 5, 2, 2), *GEOMETRY
    expected = module(*inputs)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)

    program = torch.export.export(module, inputs)
    assert any("fused_forward" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*inputs), expected)


def test_fake_tensors_tell_shapes_and_dtypes():
    with torch._subclasses.FakeTensorMode():
        value = torch.empty(2, 16, 2, 4, dtype=torch.bfloat16)
        points, offsets = torch.empty(2, 5, 2, 4), torch.empty(2, 5, 2, 2, 3, 2)
        output = ms_deform_attn_fused(value, *GEOMETRY, points, offsets, offsets[..., 0])
    assert output.shape == (2, 5, 8) and output.dtype == torch.bfloat16


def test_onnx_export_takes_pure_operators(monkeypatch):
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(torch.ops.ms_deform_attn, "forward", None)
    monkeypatch.setattr(torch.ops.ms_deform_attn, "fused_forward", None)
    value, offsets, logits = sampling(5)
    assert not _library.serves(value.device)
    points = offsets[:, :, 0, :, 0]
    assert torch.equal(
        ms_deform_attn_fused(value, *GEOMETRY, points, offsets, logits),
        ms_deform_attn_fused_reference(value, *GEOMETRY, points, offsets, logits),
    )
    assert torch.equal(
        attend(value, offsets, logits), ms_deform_attn_reference(value, *GEOMETRY, offsets, logits)
    )


@pytest.mark.parametrize("function", [attend, attend_fused])
def test_vmap(function):
    value, locations, weights = (tensor.detach() for tensor in sampling(5, bs=6))
    locations, weights = locations.view(3, 2, *locations.shape[1:]), weights.unflatten(0, (3, 2))
    mapped = torch.func.vmap(function, in_dims=(None, 0, 0))(value[:2], locations, weights)
    one_by_one = [function(value[:2], *pair) for pair in zip(locations, weights, strict=True)]
    torch.testing.assert_close(mapped, torch.stack(one_by_one))


@pytest.mark.parametrize("function", [attend, attend_fused])
def test_gradients_of_several_directions_at_once(function):
    inputs = sampling(5)
    output = function(*inputs)
    directions = torch.rand(3, *output.shape)
    mapped = torch.autograd.grad(output, inputs, directions, is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(output, inputs, each, retain_graph=True) for each in directions]
    for ours, theirs in zip(mapped, zip(*one_by_one, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(theirs))


def test_vmap_over_geometry_is_refused():
    shapes = torch.tensor([[[3, 4], [2, 2]]])
    value, locations, weights = sampling(5)
    with pytest.raises(NotImplementedError, match="cannot map ms_deform_attn over its level"):
        torch.func.vmap(
            lambda each: torch.ops.ms_deform_attn.forward(
                value, each, torch.tensor([0, 12]), locations, weights
            )
        )(shapes)


@pytest.mark.parametrize("function", [attend, attend_fused])
def test_deterministic_mode_repeats_to_the_bit(function):
    inputs = sampling(40, bs=2)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (torch.autograd.grad(function(*inputs).square().sum(), inputs) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_result_depends_on_the_number_of_threads():
    inputs = sampling(200, bs=2)
    before = torch.get_num_threads()
    gradients = []
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            gradients.append(torch.autograd.grad(attend_fused(*inputs).square().sum(), inputs))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("instruction_set", ["default", "avx2"])
def test_instruction_sets_that_can_be_asked_for(instruction_set):
    """The float64 comparison of each dtype, as run with the kernels for lesser machines."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [
            "tests/ops/test_fused.py",
            "-k",
            "cpu and (3_channels or 33_ch or 64_ch) and not opcheck",
        ],
        cwd=ROOT,
        env=os.environ | {"ATEN_CPU_CAPABILITY": instruction_set},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
