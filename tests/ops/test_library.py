"""The built library: what it needs of its hosts, what happens without it, and its rules in PyTorch."""

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ms_deform_attn
from ms_deform_attn import _library

from .conftest import ENTRIES, Sizes

ROOT = Path(__file__).parents[2]
LIBRARY = importlib.util.find_spec("ms_deform_attn._C")
GEOMETRY = [(3, 4), (2, 2)], [0, 12]


def run(code: str) -> str:
    """What a fresh Python at the root of the repository prints."""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def inputs_of(entry, num_queries: int = 5, bs: int = 1) -> list[torch.Tensor]:
    sizes = Sizes(tuple(GEOMETRY[0]), bs=bs, head_dims=4, num_queries=num_queries, num_points=3)
    inputs = sizes.inputs(entry, torch.float32)
    return [inputs[i].requires_grad_() for i in (0, *entry.differentiable)]


def attend(entry, value, *sampling):
    return entry.function(value, *GEOMETRY, *sampling)


def test_package_is_the_one_of_this_repository_under_its_one_name():
    assert Path(ms_deform_attn.__file__).parent == ROOT / "ops" / "ms_deform_attn"
    with pytest.raises(ImportError, match="import ms_deform_attn, not ops.ms_deform_attn"):
        importlib.import_module("ops.ms_deform_attn")


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm was not found")
def test_library_needs_stable_symbols_only():
    assert Path(LIBRARY.origin).name.startswith("_C.abi3")
    listing = subprocess.run(
        ["nm", "-D", "-C", "--undefined-only", LIBRARY.origin], capture_output=True, text=True, check=True
    ).stdout
    symbols = re.findall(r"^\s+[UwWvV] (.+)$", listing, flags=re.MULTILINE)
    assert any(symbol.startswith("aoti_torch_") for symbol in symbols)
    assert not [s for s in symbols if re.search(r"\b(at|c10|caffe2|torch)::", s)]
    # All of the limited API since Python 3.10 or before.
    python = {s for s in symbols if re.match(r"_?Py", s)}
    assert python <= {"PyModule_Create2", "PyModule_AddIntConstant", "_Py_Dealloc", "Py_DecRef"}


WITHOUT_EXTENSION = """
import sys, warnings
sys.modules["ms_deform_attn._C"] = None
import torch
{prepare}
from ms_deform_attn import ms_deform_attn, ms_deform_attn_reference
inputs = (torch.rand(1, 4, 1, 2), [(2, 2)], [0], torch.rand(1, 3, 1, 1, 2, 2), torch.rand(1, 3, 1, 1, 2))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    outputs = [ms_deform_attn(*inputs) for _ in range(3)]
assert all(torch.equal(output, ms_deform_attn_reference(*inputs)) for output in outputs)
print(*(warning.message for warning in caught), sep="\\n")
"""


OTHER_LIBRARY = """
other = torch.library.Library("ms_deform_attn", "DEF")
other.define("mine(Tensor x) -> Tensor")
"""


@pytest.mark.parametrize(
    "prepare, problem",
    [
        ("", "ms_deform_attn._C cannot be loaded"),
        ("torch.__version__ = '2.9.1'", "torch 2.9.1"),
        ("sys.modules['ms_deform_attn._C'] = type(sys)('ms_deform_attn._C')", "older sources"),
        (OTHER_LIBRARY, "another library"),
    ],
)
def test_without_extension_the_reference_serves_with_one_warning(prepare, problem):
    (warning,) = run(WITHOUT_EXTENSION.format(prepare=prepare)).splitlines()
    assert problem in warning
    remedy = (
        "one of the two alone" if prepare is OTHER_LIBRARY else "make build, or pip install -e . --no-deps"
    )
    assert remedy in warning


def test_extension_without_cuda_warns_once_for_a_gpu(monkeypatch):
    monkeypatch.setattr(_library, "_EXTENSION", type("Extension", (), {"with_cuda": 0}))
    _library._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="cuda") as caught:
        assert not any(_library.serves(torch.device("cuda")) for _ in range(2))
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("entry", "backend"),
    [
        ("unfused", "aot_eager"),
        ("boxes", "aot_eager"),
        pytest.param("boxes", "inductor", marks=pytest.mark.slow),
    ],
    indirect=["entry"],
)
def test_compiles_as_one_graph_with_dynamic_sizes(entry, backend, tmp_path, monkeypatch):
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("g++ was not found: inductor compiles with it")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    compiled = torch.compile(entry.function, fullgraph=True, dynamic=True, backend=backend)
    for num_queries in (5, 7, 11):
        inputs = inputs_of(entry, num_queries)
        results = [function(inputs[0], *GEOMETRY, *inputs[1:]) for function in (compiled, entry.function)]
        torch.testing.assert_close(*results)
        torch.testing.assert_close(*(torch.autograd.grad(result.sum(), inputs) for result in results))


def test_vmap(entry):
    value, *sampling = (tensor.detach() for tensor in inputs_of(entry, bs=6))
    sampling = [tensor.unflatten(0, (3, 2)) for tensor in sampling]

    def function(*sampling):
        return attend(entry, value[:2], *sampling)

    one_by_one = [function(*each) for each in zip(*sampling, strict=True)]
    torch.testing.assert_close(torch.func.vmap(function)(*sampling), torch.stack(one_by_one))


def test_gradients_of_several_directions_at_once(entry):
    inputs = inputs_of(entry)
    output = attend(entry, *inputs)
    directions = torch.rand(3, *output.shape)
    mapped = torch.autograd.grad(output, inputs, directions, is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(output, inputs, each, retain_graph=True) for each in directions]
    torch.testing.assert_close(mapped, tuple(map(torch.stack, zip(*one_by_one, strict=True))))


def test_vmap_over_geometry_is_refused():
    value, *sampling = inputs_of(ENTRIES["unfused"])
    starts = torch.tensor(GEOMETRY[1])
    with pytest.raises(NotImplementedError, match="level geometry"):
        torch.func.vmap(lambda shapes: torch.ops.ms_deform_attn.forward(value, shapes, starts, *sampling))(
            torch.tensor([GEOMETRY[0]])
        )
