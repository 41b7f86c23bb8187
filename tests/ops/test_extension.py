"""The built library: where it is, what it needs of its hosts, and what happens without it."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ms_deform_attn

ROOT = Path(__file__).parents[2]
LIBRARY = importlib.util.find_spec("ms_deform_attn._C")


def test_ops_is_the_one_of_this_repository():
    assert Path(ms_deform_attn.__file__).parent == ROOT / "ops" / "ms_deform_attn"


def test_extension_is_built():
    assert LIBRARY is not None
    assert Path(LIBRARY.origin).name.startswith("_C.abi3") or sys.platform == "win32"


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm was not found")
def test_library_needs_stable_symbols_only():
    listing = subprocess.run(
        ["nm", "-D", "-C", "--undefined-only", LIBRARY.origin],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    symbols = re.findall(r"^\s+[UwWvV] (.+)$", listing, flags=re.MULTILINE)
    assert any(symbol.startswith("aoti_torch_") for symbol in symbols)
    unstable = [s for s in symbols if re.search(r"\b(at|c10|caffe2|torch)::", s)]
    assert not unstable
    python = {s for s in symbols if re.match(r"_?Py", s)}
    # All of the limited API since Python 3.10 or before.
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


@pytest.mark.parametrize(
    "prepare, message",
    [
        ("", "ms_deform_attn._C cannot be loaded"),
        ("torch.__version__ = '2.9.1'", "torch 2.9.1 is older than 2.10"),
        (
            "sys.modules['ms_deform_attn._C'] = type(sys)('ms_deform_attn._C')",
            "built from older sources",
        ),
    ],
)
def test_without_extension_the_reference_serves_with_one_warning(prepare, message):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTENSION.format(prepare=prepare)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    (warning,) = result.stdout.splitlines()
    assert message in warning
    assert "make build" in warning and "pip install -e . --no-deps" in warning


def test_extension_without_cuda_warns_once_for_a_gpu(monkeypatch):
    from ms_deform_attn import _library

    monkeypatch.setattr(_library, "_EXTENSION", type("Extension", (), {"with_cuda": 0}))
    _library._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="without a kernel for cuda") as caught:
        assert not _library.serves(torch.device("cuda"))
        assert not _library.serves(torch.device("cuda"))
    assert len(caught) == 1
