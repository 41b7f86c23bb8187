"""The op alone: ``ms_deform_attn``, its extension on the LibTorch stable ABI and Python's limited API."""

import os
import shutil
import sys
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

try:
    import torch
    from torch.utils import cpp_extension
except ImportError:
    raise SystemExit(
        "ms_deform_attn: torch must be installed before the op is built: install torch >= 2.10, then "
        "pip install -e . --no-deps --no-build-isolation"
    ) from None

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
    raise SystemExit(
        f"ms_deform_attn: torch {torch.__version__} is installed, but building the op needs >= 2.10. "
        "Older torch runs without the build: put the repository on PYTHONPATH."
    )


class BuildExtension(cpp_extension.BuildExtension):
    """Says in one line when there is no compiler."""

    def build_extensions(self) -> None:
        compiler = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "cl").split()[0]
        if shutil.which(compiler) is None:
            raise SystemExit(
                f"ms_deform_attn: the C++ compiler '{compiler}' was not found: install g++ (Debian, "
                "Ubuntu: apt install g++), or set CXX to a compiler"
            )
        super().build_extensions()


def extension():
    """The extension, with the CUDA kernels where torch and the machine have CUDA."""
    with_cuda = torch.version.cuda is not None and cpp_extension.CUDA_HOME is not None
    sources = glob("ops/csrc/*.cpp") + glob("ops/csrc/cpu/*.cpp")
    macros = [("TORCH_TARGET_VERSION", "0x020a000000000000")]
    if with_cuda:
        sources += glob("ops/csrc/cuda/*.cpp") + glob("ops/csrc/cuda/*.cu")
        macros += [("WITH_CUDA", None), ("USE_CUDA", None)]
    # With contraction and without traps, neither of which changes a finite or NaN result beyond
    # rounding, compilers vectorise the kernels.
    flags = ["-O3", "-ffp-contract=fast", "-fno-trapping-math", "-fopenmp-simd"]
    flags += ["-fvisibility=hidden", "-g0"]
    make = cpp_extension.CUDAExtension if with_cuda else cpp_extension.CppExtension
    return make(
        "ms_deform_attn._C",
        sorted(sources),
        depends=sorted(glob("ops/csrc/**/*.h", recursive=True)),
        define_macros=macros,
        extra_compile_args={"cxx": ["/O2"] if os.name == "nt" else flags, "nvcc": ["-O3"]},
        py_limited_api=True,
    )


PACKAGES = find_packages("ops")
if "editable_wheel" in sys.argv:  # a working copy: its projects too
    PACKAGES += find_namespace_packages(include=["projects.*"])

setup(
    name="deformable-detr-ops",
    version="0.1.0",
    description="Multi-scale deformable attention for PyTorch, with C++ and CUDA kernels; needs torch alone",
    long_description=Path("docs/op.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=PACKAGES,
    py_modules=["MultiScaleDeformableAttention"],
    package_dir={"": "ops", "projects": "projects"},
    install_requires=["torch"],
    ext_modules=[extension()],
    cmdclass={"build_ext": BuildExtension.with_options(use_ninja=False)},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
