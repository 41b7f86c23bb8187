"""An autograd function as research repositories carry it runs on our op, and gives the reference."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import Function, gradcheck
from torch.autograd.function import once_differentiable

from ms_deform_attn import ms_deform_attn_reference
from ms_deform_attn.compat.vendored import provide

ROOT = Path(__file__).parents[2]
SHAPES = torch.tensor([(6, 4), (3, 2)])
STARTS = torch.tensor([0, 24])


def vendored_function(module) -> type[Function]:
    """What such repositories write round the compiled module."""

    class MSDeformAttnFunction(Function):
        @staticmethod
        def forward(ctx, value, shapes, starts, locations, weights, im2col_step):
            ctx.im2col_step = im2col_step
            output = module.ms_deform_attn_forward(value, shapes, starts, locations, weights, ctx.im2col_step)
            ctx.save_for_backward(value, shapes, starts, locations, weights)
            return output

        @staticmethod
        @once_differentiable
        def backward(ctx, grad_output):
            value, shapes, starts, locations, weights = ctx.saved_tensors
            grad_value, grad_locations, grad_weights = module.ms_deform_attn_backward(
                value, shapes, starts, locations, weights, grad_output, ctx.im2col_step
            )
            return grad_value, None, None, grad_locations, grad_weights, None

    return MSDeformAttnFunction


def inputs(dtype=torch.float64, bs: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(0)
    value = torch.randn(bs, 30, 2, 4, dtype=dtype)
    locations = torch.rand(bs, 5, 2, 2, 3, 2, dtype=dtype)
    weights = torch.rand(bs, 5, 2, 6, dtype=dtype).softmax(-1).view(bs, 5, 2, 2, 3)
    return [x.requires_grad_() for x in (value, locations, weights)]


@pytest.fixture(scope="module")
def function() -> type[Function]:
    return vendored_function(importlib.import_module("MultiScaleDeformableAttention"))


def run(function, value, locations, weights):
    return function.apply(value, SHAPES, STARTS, locations, weights, 64)  # 64 does not divide the batch


def test_gradients_are_those_of_the_function(function):
    assert gradcheck(lambda *x: run(function, *x), inputs(), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("contiguous", [True, False])
def test_output_and_gradients_are_the_references(function, dtype, contiguous):
    given = inputs(dtype)
    if not contiguous:
        given = [x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for x in given]
        assert not given[0].is_contiguous()
    exact = [x.detach().double().requires_grad_() for x in given]
    output = run(function, *given)
    expected = ms_deform_attn_reference(exact[0], SHAPES, STARTS, *exact[1:])
    grad = torch.randn_like(expected)
    output.backward(grad.to(dtype))
    expected.backward(grad.to(dtype).double())
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for found, right in zip(
        [output, *(x.grad for x in given)], [expected, *(x.grad for x in exact)], strict=True
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), right, rtol=tolerance, atol=tolerance)


def test_double_backward_is_torchs_error(function):
    value, locations, weights = inputs()
    output = run(function, value, locations, weights)
    (grad,) = torch.autograd.grad(output.square().sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_code_base_gets_the_module_that_it_imports(tmp_path, monkeypatch):
    package = tmp_path / "some_detector" / "models"
    package.mkdir(parents=True)
    (tmp_path / "some_detector" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "attention.py").write_text(
        "from some_detector import _C\nforward = _C.ms_deform_attn_forward\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = provide("some_detector._C")
    importlib.invalidate_caches()  # which asks every finder
    attention = importlib.import_module("some_detector.models.attention")
    assert attention.forward is module.ms_deform_attn_forward
    package = importlib.import_module("some_detector")
    assert package._C is module is sys.modules["some_detector._C"]
    with pytest.raises(ImportError, match="some_detector._C is there already"):
        provide("some_detector._C")
    (tmp_path / "some_detector" / "_D.py").write_text("")
    with pytest.raises(ImportError, match="some_detector._D is there already"):
        provide("some_detector._D")
    with pytest.warns(UserWarning, match="some_detector is imported already"):
        provide("some_detector._E")
    with pytest.raises(ValueError, match="is no name of a module"):
        provide("some_detector.")
    for name in [name for name in sys.modules if name.startswith("some_detector")]:
        monkeypatch.delitem(sys.modules, name)


def test_it_may_be_imported_before_torch():
    code = "import MultiScaleDeformableAttention as m; print(m.ms_deform_attn_forward.__name__)"
    env = {"PYTHONPATH": str(ROOT / "ops")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "ms_deform_attn_forward", done.stderr


@pytest.mark.parametrize(("text", "found"), [("ours = False", "theirs"), (None, "ours")])
def test_one_that_was_built_is_left_alone(tmp_path, text, found):
    """Wherever on the path it lies; another copy of ours is none."""
    name = "MultiScaleDeformableAttention"
    (tmp_path / f"{name}.py").write_text(text or (ROOT / "ops" / f"{name}.py").read_text())
    code = f"import {name} as m; print('ours' if hasattr(m, 'ms_deform_attn_forward') else 'theirs')"
    env = {"PYTHONPATH": f"{ROOT / 'ops'}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == found, done.stderr
