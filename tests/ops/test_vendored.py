"""An autograd function as research repositories carry it runs on our op, and gives the reference."""

import importlib
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch.autograd import Function, gradcheck
from torch.autograd.function import once_differentiable

from ms_deform_attn import _library, ms_deform_attn_reference
from ms_deform_attn.compat.vendored import ms_deform_attn_backward, provide

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


@pytest.mark.parametrize("extension", [True, False])
@pytest.mark.parametrize(
    ("name", "wrong", "error", "named"),
    [
        ("value", torch.zeros(3, 30, 2, 4), TypeError, "float64 does not mix"),
        ("grad_output", torch.zeros(3, 5, 8), TypeError, "float64 does not mix"),
        ("grad_output", torch.zeros(3, 5, 8, dtype=torch.int64), TypeError, "grad_output .*int64"),
        ("grad_output", torch.zeros(3, 5, 4).double(), ValueError, r"grad_output .*\(3, 5, 8\)"),
        ("grad_output", torch.zeros(3, 5, 8, device="meta").double(), ValueError, "grad_output .*meta"),
        ("grad_output", None, TypeError, "grad_output .*NoneType"),
        ("attention_weights", torch.zeros(3, 5, 2, 2).double(), ValueError, "attention_weights"),
        ("spatial_shapes", None, TypeError, "spatial_shapes .*None"),
    ],
)
def test_backward_names_bad_input(monkeypatch, extension, name, wrong, error, named):
    """As forward does, which is `ms_deform_attn` itself."""
    if not extension:
        monkeypatch.setattr(_library, "serves", lambda device: False)
    value, locations, weights = inputs()
    arguments = dict(value=value, spatial_shapes=SHAPES, level_start_index=STARTS)
    arguments |= dict(sampling_locations=locations, attention_weights=weights)
    arguments["grad_output"] = torch.zeros(3, 5, 8, dtype=torch.float64)
    with pytest.raises(error, match=named):
        ms_deform_attn_backward(**arguments | {name: wrong})


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
    assert provide("some_detector._C") is module
    (tmp_path / "some_detector" / "_D.py").write_text("")
    with pytest.raises(ImportError, match="some_detector._D is there already"):
        provide("some_detector._D")
    with pytest.warns(UserWarning, match="some_detector is imported already"):
        provide("some_detector._E")
    for wrong in ("some_detector.", None):
        with pytest.raises(ValueError, match="is no name of a module"):
            provide(wrong)
    for name in [name for name in sys.modules if name.startswith("some_detector")]:
        monkeypatch.delitem(sys.modules, name)


def test_it_may_be_imported_before_torch():
    code = "import MultiScaleDeformableAttention as m; print(m.ms_deform_attn_forward.__name__)"
    env = {"PYTHONPATH": str(ROOT / "ops")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "ms_deform_attn_forward", done.stderr


NAME = "MultiScaleDeformableAttention"
OURS = (ROOT / "ops" / f"{NAME}.py").read_text()


@pytest.fixture
def which_is_imported(monkeypatch):
    """Theirs or ours, where a path follows ours; and the warnings."""

    def run(path: Path) -> tuple[str, list[str]]:
        monkeypatch.delitem(sys.modules, NAME, raising=False)
        monkeypatch.setattr(sys, "path", [str(ROOT / "ops"), str(path), *sys.path])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module = importlib.import_module(NAME)
        found = "ours" if hasattr(module, "ms_deform_attn_forward") else "theirs"
        return found, [f"{warning.category.__name__}: {warning.message}" for warning in caught]

    return run


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("text", "found"), [("a = 1", "theirs"), (OURS, "ours")], ids=["theirs", "ours"])
def test_one_that_was_built_is_left_alone(which_is_imported, tmp_path, zipped, text, found):
    """Wherever on the path it lies, in a zipped egg too; another copy of ours is none."""
    path = tmp_path / f"{NAME}-1.0-py3.11.egg" if zipped else tmp_path
    if zipped:
        with zipfile.ZipFile(path, "w") as egg:
            egg.writestr(f"{NAME}.py", text)
    else:
        (path / f"{NAME}.py").write_text(text)
    assert which_is_imported(path) == (found, [])


def test_what_an_eggs_stub_puts_in_its_place_is_taken(which_is_imported, tmp_path):
    (tmp_path / f"{NAME}.py").write_text(
        "import sys, types\nms_deform_attn_forward = 'the stub'\n"
        "sys.modules[__name__] = types.ModuleType(__name__)"
    )
    assert which_is_imported(tmp_path) == ("theirs", [])


@pytest.mark.parametrize("file", [f"{NAME}.abi3.so", f"{NAME}.py"])
def test_one_that_cannot_be_loaded_gives_way_with_a_warning(which_is_imported, tmp_path, file):
    """An extension built against another torch, or a stub that needs what is no more."""
    (tmp_path / file).write_text("import no_such_module")
    found, (said,) = which_is_imported(tmp_path)
    assert found == "ours" and said.startswith(f"UserWarning: {tmp_path / file} cannot be loaded (")


def test_a_folder_of_the_name_is_no_module(which_is_imported, tmp_path):
    (tmp_path / NAME).mkdir()
    assert which_is_imported(tmp_path) == ("ours", [])
