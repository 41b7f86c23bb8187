"""nvcc compiles the CUDA kernels, without a GPU and without torch."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

# As torch.utils.cpp_extension has it.
DEFINITIONS = [
    "-D__CUDA_NO_HALF_OPERATORS__",
    "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__",
]
KERNELS = Path(__file__).parents[2] / "ops" / "csrc" / "cuda"


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc was not found")
@pytest.mark.parametrize("source", sorted(path.name for path in KERNELS.glob("*.cu")))
def test_no_kernel_spills_registers(source, tmp_path):
    command = ["nvcc", "-std=c++17", "-O3", "-Xptxas=-v", *DEFINITIONS, "-c", KERNELS / source]
    for number in (80, 90):
        command.append(f"-gencode=arch=compute_{number},code=sm_{number}")
    result = subprocess.run(
        [*command, "-o", tmp_path / "kernels.o"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    kernels = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers",
        result.stderr,
        re.DOTALL,
    )
    assert {architecture for _, architecture, *_ in kernels} == {"sm_80", "sm_90"}
    for name, architecture, stores, loads, registers in kernels:
        print(f"{architecture}: {registers} registers, {stores} + {loads} bytes spilt: {name}")
        assert stores == loads == "0", f"{name} spills registers on {architecture}"


def test_no_kernel_includes_torch():
    for path in [*KERNELS.glob("*.cu"), *KERNELS.glob("*.h")]:
        assert "#include <torch/" not in path.read_text(), path.name
