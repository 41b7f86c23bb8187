"""MSDeformAttn against mmcv's module with the same weights, compiled and exported."""

import numpy as np
import pytest
import torch

from ms_deform_attn import MSDeformAttn

SHAPES = torch.tensor([[5, 4], [2, 3]])
STARTS = torch.tensor([0, 20])
SIZES = [
    {"embed_dims": 32, "num_heads": 8, "num_levels": 2, "num_points": 4},
    {"embed_dims": 15, "num_heads": 5, "num_levels": 2, "num_points": 3},
]


def peer_of(module: MSDeformAttn, sizes: dict[str, int]) -> torch.nn.Module:
    from mmcv.ops import MultiScaleDeformableAttention

    peer = MultiScaleDeformableAttention(**sizes, dropout=0.0, batch_first=True).to(
        next(module.parameters()).dtype
    )
    peer.load_state_dict(module.state_dict())
    return peer


@pytest.fixture(params=SIZES, ids=lambda sizes: f"{sizes['num_heads']}_heads")
def sizes(request) -> dict[str, int]:
    return request.param


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("reference_dims", [2, 4])
def test_equals_mmcv(sizes, reference_dims, padded):
    torch.manual_seed(0)
    module = MSDeformAttn(**sizes).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    peer = peer_of(module, sizes)
    query = torch.randn(2, 7, sizes["embed_dims"], dtype=torch.float64, requires_grad=True)
    value = torch.randn(2, 26, sizes["embed_dims"], dtype=torch.float64, requires_grad=True)
    points = torch.rand(2, 7, 2, reference_dims, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 26) < 0.3 if padded else None

    ours = module(query, value, points, SHAPES, STARTS, mask)
    theirs = peer(
        query,
        value=value,
        identity=torch.zeros_like(query),
        key_padding_mask=mask,
        reference_points=points,
        spatial_shapes=SHAPES,
        level_start_index=STARTS,
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)

    direction = torch.randn_like(ours)
    our_gradients = torch.autograd.grad(ours, [query, value, points, *module.parameters()], direction)
    their_gradients = torch.autograd.grad(theirs, [query, value, points, *peer.parameters()], direction)
    torch.testing.assert_close(our_gradients, their_gradients, rtol=0, atol=1e-10)


def test_starts_like_mmcv(sizes):
    module = MSDeformAttn(**sizes)
    ours, theirs = module.state_dict(), peer_of(module, sizes)
    theirs.init_weights()
    theirs = theirs.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        if name in ("value_proj.weight", "output_proj.weight"):  # random
            bound = (3 / sizes["embed_dims"]) ** 0.5
            assert 0.5 * bound < ours[name].abs().max() <= bound
        else:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


def test_autocast_trains():
    torch.manual_seed(0)
    module = MSDeformAttn(8, 2, 2, 1)
    inputs = torch.randn(1, 3, 8), torch.randn(1, 26, 8), torch.rand(1, 3, 2, 2), SHAPES, STARTS
    with torch.autocast("cpu", torch.bfloat16):
        output = module(*inputs)
    assert output.dtype == torch.bfloat16
    output.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    torch.testing.assert_close(output.float(), module(*inputs), rtol=0.05, atol=0.05)


def test_float64_takes_float32_reference_points():
    module = MSDeformAttn(8, 2, 2, 1).double()
    inputs = torch.randn(1, 3, 8).double(), torch.randn(1, 26, 8).double(), torch.rand(1, 3, 2, 2)
    assert module(*inputs, SHAPES, STARTS).dtype == torch.float64


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="embed_dims .* 10 and 4"):
        MSDeformAttn(10, 4)


class WithGeometry(torch.nn.Module):
    """With the level geometry as numbers, as a detector of one image size has it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention = MSDeformAttn(embed_dims=8, num_heads=2, num_levels=2, num_points=3)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter)

    def forward(self, query, value, reference_points):
        return self.attention(query, value, reference_points, [(5, 4), (2, 3)], [0, 20])


def inputs(num_queries: int, reference_dims: int = 2) -> tuple[torch.Tensor, ...]:
    points = torch.rand(1, num_queries, 2, reference_dims)
    return torch.randn(1, num_queries, 8), torch.randn(1, 26, 8), points


def test_exports_as_one_op():
    module = WithGeometry()
    program = torch.export.export(module, inputs(5))
    assert any("fused_forward" in str(node.target) for node in program.graph.nodes)
    given = inputs(5)
    torch.testing.assert_close(program.module()(*given), module(*given))


@pytest.mark.slow
@pytest.mark.parametrize(("dynamo", "reference_dims"), [(False, 2), (False, 4), (True, 2)])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_exports_to_onnx(dynamo, reference_dims, tmp_path):
    """By both exporters of PyTorch, run by ONNX's own evaluator."""
    evaluator = pytest.importorskip("onnx.reference", reason="onnx is not installed")
    names = ["query", "value", "reference_points"]
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
        queries = torch.export.Dim("num_queries")
        sizes = dict(dynamic_shapes=({1: queries}, None, {1: queries}))
    else:
        axes = {1: "num_queries"}
        sizes = dict(dynamic_axes=dict(query=axes, reference_points=axes), opset_version=20)
    module, path, example = WithGeometry().eval(), tmp_path / "attention.onnx", inputs(5, reference_dims)
    torch.onnx.export(module, example, path, input_names=names, dynamo=dynamo, verbose=False, **sizes)
    exported = evaluator.ReferenceEvaluator(str(path))
    assert "GridSample" in {node.op_type for node in exported.proto_.graph.node}
    for num_queries in (5, 7):
        given = inputs(num_queries, reference_dims)
        arrays = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        (output,) = exported.run(None, arrays)
        np.testing.assert_allclose(output, module(*given).detach().numpy(), atol=1e-4)
