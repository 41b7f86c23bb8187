"""The ops for CUDA: with emulated kernels on CPU tensors and, where there is a GPU, on it."""

import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ms_deform_attn.reference import ms_deform_attn_fused_reference, ms_deform_attn_reference

if shutil.which("g++") is None:
    pytest.skip("g++ was not found: it compiles the emulation", allow_module_level=True)
if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
    pytest.skip("the ops need torch >= 2.10", allow_module_level=True)

EMULATION = Path(__file__).parent / "emulation"


@dataclass(frozen=True)
class Backend:
    """The namespace of the ops, and where they take their tensors."""

    namespace: object
    device: str


@pytest.fixture(scope="module")
def emulated(tmp_path_factory) -> Backend:
    library = tmp_path_factory.mktemp("emulation") / "ops.so"
    torch_folder = Path(torch.__file__).parent
    command = ["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas"]
    command += ["-fvisibility=hidden", "-Wl,-Bsymbolic-functions"]
    command += ["-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command += [f"-I{EMULATION}", f"-I{torch_folder / 'include'}"]
    command += [f"-I{sysconfig.get_path('include')}", f"-L{torch_folder / 'lib'}"]
    command += [EMULATION / "ops.cpp", "-ltorch_cpu", "-o", library]
    subprocess.run(command, check=True)
    torch.ops.load_library(library)
    return Backend(torch.ops.ms_deform_attn_emulated, "cpu")


@pytest.fixture(scope="module", params=["emulated", "cuda"])
def backend(request) -> Backend:
    if request.param == "emulated":
        return request.getfixturevalue("emulated")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return Backend(torch.ops.ms_deform_attn, "cuda")


@pytest.fixture(params=[False, True], ids=["fast", "deterministic"])
def deterministic(request):
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(before)


def check(device: str, forward, backward, reference, inputs: list[Tensor]) -> None:
    """Against float64: output and gradients, and that they have the form of the inputs."""
    value, shapes, starts, *rest = inputs
    exact = [tensor.double().requires_grad_() for tensor in (value, *rest)]
    expected = reference(exact[0], shapes, starts, *exact[1:])
    grad_output = (torch.rand_like(expected) - 0.5).to(value.dtype).transpose(0, 1).contiguous()
    grad_output = grad_output.transpose(0, 1)  # what autograd gives need not be contiguous
    expected_grads = torch.autograd.grad(expected, exact, grad_output.double())

    inputs = [value.to(device), shapes, starts, *(tensor.to(device) for tensor in rest)]
    output = forward(*inputs)
    grads = backward(grad_output.to(device), *inputs)
    assert output.dtype == value.dtype
    for actual, like in zip(grads, (value, *rest), strict=True):
        assert actual.dtype == like.dtype and actual.shape == like.shape
    for actual, wanted in zip((output, *grads), (expected, *expected_grads), strict=True):
        relative = {torch.float16: 2**-11, torch.bfloat16: 2**-8}.get(actual.dtype, 1e-5)
        largest = wanted.abs().max().item() if wanted.numel() else 0
        torch.testing.assert_close(actual.double().cpu(), wanted, rtol=1.01 * relative, atol=1e-5 * largest)


def test_unfused(backend, sizes, deterministic):
    inputs = sizes.inputs(torch.float32, "cpu")
    namespace = backend.namespace
    check(backend.device, namespace.forward, namespace.backward, ms_deform_attn_reference, inputs)


@pytest.mark.parametrize(
    "dtype, rest_dtype",
    [
        (torch.float64, torch.float64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("reference_dims", [2, 4])
@pytest.mark.parametrize("num_queries", [0, 5])
def test_fused(backend, num_queries, reference_dims, dtype, rest_dtype, deterministic):
    def rand(*shape: int) -> Tensor:
        reverse = torch.rand(shape[::-1], generator=generator).to(rest_dtype)
        return reverse.permute(*range(len(shape) - 1, -1, -1))

    generator = torch.Generator().manual_seed(0)
    value = torch.rand(2, 40, 2, 8, generator=generator).to(dtype) - 0.5
    sizes = 2, num_queries, 2, 2, 4
    inputs = [
        *(value, torch.tensor([[8, 4], [2, 4]]), torch.tensor([0, 32])),
        *(rand(2, num_queries, 2, reference_dims), rand(*sizes, 2) * 4 - 2, rand(*sizes) * 4),
    ]
    namespace, reference = backend.namespace, ms_deform_attn_fused_reference
    check(backend.device, namespace.fused_forward, namespace.fused_backward, reference, inputs)


def test_more_than_two_to_the_31_elements(emulated):
    num_value = 2**23 + 4
    memory = np.zeros((1, num_value, 1, 256), np.float16)  # nothing is written to most of it
    memory[0, -4:] = np.arange(4)[:, None, None]
    output = emulated.namespace.forward(
        *(torch.from_numpy(memory), torch.tensor([[1, 4]]), torch.tensor([2**23])),
        *(torch.tensor([0.75, 0.5]).view(1, 1, 1, 1, 1, 2), torch.ones(1, 1, 1, 1, 1)),
    )
    assert (output == 2.5).all()


def test_too_many_levels(emulated):
    weights = torch.zeros(1, 1, 1, 33, 1)
    with pytest.raises(RuntimeError, match="take at most 32 levels, got 33"):
        emulated.namespace.forward(
            *(torch.zeros(1, 33, 1, 1), torch.ones(33, 2).long(), torch.arange(33)),
            *(torch.zeros(1, 1, 1, 33, 1, 2), weights),
        )
