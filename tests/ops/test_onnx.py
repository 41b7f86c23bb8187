"""The module exported to ONNX by both exporters of PyTorch, run by ONNX's own evaluator."""

import numpy as np
import pytest
import torch
from torch import nn

from ms_deform_attn import MSDeformAttn

evaluator = pytest.importorskip("onnx.reference", reason="onnx is not installed")
SHAPES, STARTS = [(3, 4), (2, 2)], [0, 12]


class Attention(nn.Module):
    """With the level geometry as numbers, as a detector of one image size has it."""

    def __init__(self):
        super().__init__()
        self.attention = MSDeformAttn(embed_dims=8, num_heads=2, num_levels=2, num_points=3)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, query, value, reference_points):
        return self.attention(query, value, reference_points, SHAPES, STARTS)


def inputs(num_queries: int, reference_dims: int) -> tuple[torch.Tensor, ...]:
    points = torch.rand(1, num_queries, 2, reference_dims)
    return torch.randn(1, num_queries, 8), torch.randn(1, 16, 8), points


@pytest.mark.parametrize(("dynamo", "reference_dims"), [(False, 2), (False, 4), (True, 2)])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_exported_module_gives_the_same(dynamo, reference_dims, tmp_path):
    names = ["query", "value", "reference_points"]
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
        queries = torch.export.Dim("num_queries")
        sizes = dict(dynamic_shapes=({1: queries}, None, {1: queries}))
    else:
        axes = {1: "num_queries"}
        sizes = dict(dynamic_axes=dict(query=axes, reference_points=axes), opset_version=20)
    torch.manual_seed(0)
    module, path = Attention().eval(), tmp_path / "attention.onnx"
    torch.onnx.export(
        module,
        inputs(5, reference_dims),
        path,
        input_names=names,
        dynamo=dynamo,
        verbose=False,
        **sizes,
    )
    exported = evaluator.ReferenceEvaluator(str(path))
    assert "GridSample" in {node.op_type for node in exported.proto_.graph.node}
    for num_queries in (5, 7):
        given = inputs(num_queries, reference_dims)
        arrays = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        (output,) = exported.run(None, arrays)
        np.testing.assert_allclose(output, module(*given).detach().numpy(), atol=1e-4)
