"""The entries, backends and samples that drive all tests of the op."""

import ctypes
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ms_deform_attn import (
    _library,
    ms_deform_attn,
    ms_deform_attn_fused,
    ms_deform_attn_fused_reference,
    ms_deform_attn_reference,
)

EMULATION = Path(__file__).parent / "emulation"
MARGIN = 64


@dataclass(frozen=True)
class Entry:
    """An entry of the op: its functions, and the prefix of the names that torch has for it."""

    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    prefix: str
    reference_dims: int  # 0 for the unfused entry

    @property
    def differentiable(self) -> range:
        """The inputs that are not level geometry, but for the first, the value."""
        return range(3, 6 if self.reference_dims else 5)

    def output_and_gradients(self, inputs: list[Tensor], function: Callable | None = None) -> list[Tensor]:
        """The output of ``function``, else of the entry, and the gradients of all but the geometry."""
        inputs = [tensor.detach() for tensor in inputs]
        wanted = [inputs[i].requires_grad_() for i in (0, *self.differentiable)]
        output = (function or self.function)(*inputs)
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(output.shape, generator=generator).bfloat16()
        # What autograd passes on need not be contiguous.
        direction = direction.transpose(0, 1).contiguous().transpose(0, 1).to(output)
        return [output.detach(), *torch.autograd.grad(output, wanted, direction)]


ENTRIES = {
    "unfused": Entry(ms_deform_attn, ms_deform_attn_reference, "", 0),
    "points": Entry(ms_deform_attn_fused, ms_deform_attn_fused_reference, "fused_", 2),
    "boxes": Entry(ms_deform_attn_fused, ms_deform_attn_fused_reference, "fused_", 4),
}


@dataclass(frozen=True)
class Sizes:
    """A case: the levels and all other sizes, and how the numbers lie in memory."""

    shapes: tuple[tuple[int, int], ...] = ((6, 4), (3, 5), (1, 1))
    bs: int = 2
    num_heads: int = 2
    head_dims: int = 8
    num_queries: int = 6
    num_points: int = 2
    contiguous: bool = True
    aligned: bool = True

    def inputs(
        self, entry: Entry, dtype: torch.dtype, device: str = "cpu", value_dtype: torch.dtype | None = None
    ) -> list[Tensor]:
        """What the entry takes, between margins of NaN; ``dtype`` is that of all but the value."""
        generator = torch.Generator().manual_seed(0)

        def rand(*shape: int, low: float = 0.0, high: float = 1.0, dtype: torch.dtype = dtype) -> Tensor:
            stored = shape if self.contiguous else shape[::-1]
            begin, count = MARGIN + (not self.aligned), torch.Size(shape).numel()
            buffer = torch.full((count + 2 * begin,), torch.nan, dtype=dtype, device=device)
            tensor = buffer[begin : begin + count].view(stored)
            tensor.copy_(torch.rand(stored, generator=generator, dtype=torch.float64) * (high - low) + low)
            return tensor if self.contiguous else tensor.permute(*range(len(shape) - 1, -1, -1))

        areas = torch.tensor([height * width for height, width in self.shapes])
        num_levels = len(self.shapes)
        samples = (self.bs, self.num_queries, self.num_heads, num_levels, self.num_points)
        value_shape = self.bs, int(areas.sum()), self.num_heads, self.head_dims
        inputs = [
            rand(*value_shape, low=-0.5, high=0.5, dtype=value_dtype or dtype),
            torch.tensor(self.shapes),
            areas.cumsum(0) - areas,
        ]
        # Some samples lie inside, some at the border, some outside.
        if entry.reference_dims == 0:
            return [*inputs, rand(*samples, 2, low=-0.3, high=1.3), rand(*samples)]
        references = rand(self.bs, self.num_queries, num_levels, entry.reference_dims, low=0.1)
        return [*inputs, references, rand(*samples, 2, low=-4, high=5), rand(*samples, low=-3, high=3)]


CASES = {
    "1_channel": Sizes(head_dims=1, num_heads=5),
    "3_channels": Sizes(head_dims=3, num_heads=3, bs=3),
    "32_channels": Sizes(head_dims=32),
    "33_channels": Sizes(head_dims=33, num_heads=1, num_points=5),
    "64_channels": Sizes(head_dims=64, bs=1, num_points=1),
    "128_channels": Sizes(head_dims=128, bs=1, num_queries=2),
    "264_channels": Sizes(head_dims=264, bs=1, num_heads=1, num_queries=2),
    "a_query_for_each_pixel": Sizes(((11, 10), (3, 5)), bs=1, num_queries=125, head_dims=4),
    "one_pixel": Sizes(((1, 1),), num_queries=9),
    "five_levels": Sizes(((4, 4), (2, 2), (1, 3), (2, 1), (1, 1)), num_points=7, num_queries=3),
    "more_pixels_than_samples": Sizes(((20, 30),), num_queries=3),
    "no_queries": Sizes(num_queries=0),
    "not_aligned": Sizes(aligned=False),
    "not_contiguous": Sizes(contiguous=False),
    "not_contiguous_few_samples": Sizes(((20, 30),), num_queries=3, contiguous=False),
}


@pytest.fixture(params=CASES)
def sizes(request) -> Sizes:
    return CASES[request.param]


@pytest.fixture(params=ENTRIES)
def entry(request) -> Entry:
    return ENTRIES[request.param]


@pytest.fixture(scope="session")
def emulated_ops(tmp_path_factory) -> tuple[object, ctypes.CDLL]:
    """The CUDA ops, built for the CPU: their namespace in torch, and the library."""
    if shutil.which("g++") is None:
        pytest.skip("g++ was not found: it compiles the emulation")
    library = tmp_path_factory.mktemp("emulation") / "ops.so"
    torch_folder = Path(torch.__file__).parent
    command = ["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas"]
    command += ["-fvisibility=hidden", "-Wl,-Bsymbolic-functions"]
    command += ["-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command += [f"-DEMULATED_ARCH={os.environ.get('EMULATED_ARCH', '900')}"]
    command += [f"-I{EMULATION}", f"-I{torch_folder / 'include'}"]
    command += [f"-I{sysconfig.get_path('include')}", f"-L{torch_folder / 'lib'}"]
    command += [EMULATION / "ops.cpp", "-ltorch_cpu", "-o", library]
    subprocess.run(command, check=True)
    torch.ops.load_library(library)
    _library.register_rules(torch.ops.ms_deform_attn_emulated)
    return torch.ops.ms_deform_attn_emulated, ctypes.CDLL(str(library))


@pytest.fixture
def emulated(emulated_ops, monkeypatch) -> ctypes.CDLL:
    """The entries run the CUDA kernels, on CPU tensors."""
    namespace, library = emulated_ops
    monkeypatch.setattr(torch.ops, "ms_deform_attn", namespace)
    yield library
    assert library.margins_are_untouched(), "a kernel wrote beyond a tensor"


CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=["cpu", "emulated", CUDA])
def device(request) -> str:
    """Where the entries take their tensors; "emulated" is the CPU, but with the kernels for CUDA."""
    if request.param == "emulated":
        request.getfixturevalue("emulated")
        return "cpu"
    return request.param


@pytest.fixture
def calls(monkeypatch) -> list[torch.device]:
    """The devices of all calls of the op."""
    calls, serves = [], _library.serves
    monkeypatch.setattr(_library, "serves", lambda device: calls.append(device) or serves(device))
    return calls


@pytest.fixture(params=[True])
def deterministic(request) -> bool:
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)
