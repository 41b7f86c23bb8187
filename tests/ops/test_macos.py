"""The sources compile for macOS on arm64 with clang; nothing is linked or run."""

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from torch.utils import cpp_extension

CSRC = Path(__file__).parents[2] / "ops" / "csrc"
SOURCES = sorted([*CSRC.glob("*.cpp"), *CSRC.glob("cpu/*.cpp")])


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang, which has clang, is not there"
)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_source_compiles_for_macos(source, tmp_path):
    setup = (CSRC.parents[1] / "setup.py").read_text()
    flags = ["-O3", "-ffp-contract=fast", "-fno-trapping-math", "-fopenmp-simd", "-fvisibility=hidden"]
    assert all(flag in setup for flag in flags)
    include = [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]
    clang = [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-macos", "-std=c++20"]
    macros = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DPy_LIMITED_API=0x030a0000"]
    command = [*clang, *flags, *macros, *(f"-I{path}" for path in include), "-c", source]
    done = subprocess.run([*command, "-o", tmp_path / "x.o"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
