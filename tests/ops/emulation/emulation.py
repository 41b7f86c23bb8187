"""Calls the CUDA kernels without a GPU: compiled for the CPU, with CUDA's builtins emulated."""

import ctypes
import subprocess
import sysconfig
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_int, c_int32, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

HERE = Path(__file__).parent
KERNELS = HERE.parents[2] / "ops" / "csrc" / "cuda"
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
MAX_LEVELS = 32
MARGIN = 64  # elements that no kernel may touch, on both sides of each tensor


class Numbers(Structure):
    _fields_ = [("data", c_void_p), ("narrow", c_bool)]


class Inputs(Structure):
    _fields_ = [
        ("shape", c_int64 * 7),
        ("levels", c_int32 * 3 * MAX_LEVELS),
        ("value", c_void_p),
        ("reference_dims", c_int32),
        ("references", Numbers),
        ("positions", Numbers),
        ("weights", Numbers),
    ]


class Gradients(Structure):
    _fields_ = [
        ("output", c_void_p),
        ("value", c_void_p),
        ("references", Numbers),
        ("positions", Numbers),
        ("weights", Numbers),
    ]


class Workspace(Structure):
    _fields_ = [(name, c_void_p) for name in ("sums", "bounds", "weights", "references")]


class Memory:
    """Tensors between margins, to see that nobody writes beyond them; what is read there is NaN."""

    def __init__(self, shift: int = 0):
        self.shift = shift
        self.margins = []

    def copy(self, tensor: Tensor) -> Tensor:
        """The same numbers; `shift` elements after an address that is a multiple of 64 bytes."""
        count = tensor.numel()
        filler = float("nan") if tensor.is_floating_point() else -1
        buffer = torch.full((count + 2 * MARGIN,), filler, dtype=tensor.dtype)
        begin = MARGIN + self.shift
        self.margins += [buffer[:begin], buffer[begin + count :]]
        inside = buffer[begin : begin + count].view(tensor.shape)
        return inside.copy_(tensor)

    def like(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return self.copy(torch.full_like(tensor, float("nan"), dtype=dtype))

    def check(self) -> None:
        for margin in self.margins:
            assert ((margin != margin) | (margin == -1)).all(), "written beyond a tensor"


class Emulation:
    """The launchers of `ms_deform_attn_kernel.h`.

    Args:
        folder: where the library is built.
        architecture: what the kernels take `__CUDA_ARCH__` for, such as 900.
    """

    def __init__(self, folder: Path, architecture: int):
        library = folder / f"emulation_{architecture}.so"
        command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas"]
        command += [f"-D__CUDA_ARCH__={architecture}", f"-I{HERE}", f"-I{KERNELS}"]
        command += [f"-I{sysconfig.get_path('include')}"]
        subprocess.run([*command, HERE / "emulation.cpp", "-o", library], check=True)
        self.library = ctypes.CDLL(str(library))
        self.library.forward.argtypes = [c_int, POINTER(Inputs), c_void_p, c_void_p]
        self.library.backward.argtypes = [
            *(c_int, POINTER(Inputs), POINTER(Gradients), POINTER(Workspace), c_bool, c_void_p)
        ]
        self.library.deterministic_algorithms_enabled.restype = c_bool
        self.library.forward.restype = self.library.backward.restype = c_char_p

    def reverse_blocks(self, reverse: bool) -> None:
        """Let the last block run first."""
        self.library.reverse_blocks(reverse)

    def forward(
        self, value: Tensor, levels: list, *rest: Tensor, shift: int = 0, stream: int | None = None
    ) -> Tensor:
        """The output.

        Args:
            value: (bs, num_value, num_heads, head_dims).
            levels: (start, height, width) of each.
            rest: sampling_locations and attention_weights; or reference_points, sampling_offsets
                and attention_logits.
            shift: how many elements to put between all tensors and an aligned address.
            stream: anything but None makes the launch fail.
        """
        memory = Memory(shift)
        inputs = _inputs(memory, value, levels, rest)
        output = memory.like(value.new_empty(value.shape[0], rest[-1].shape[1], *value.shape[2:]))
        _check(self.library.forward(TYPES.index(value.dtype), byref(inputs), output.data_ptr(), stream))
        memory.check()
        return output.flatten(2)

    def backward(
        self,
        grad_output: Tensor,
        value: Tensor,
        levels: list,
        *rest: Tensor,
        deterministic: bool = False,
        shift: int = 0,
    ) -> list[Tensor]:
        """The gradients of value and rest; arguments as those of forward."""
        memory = Memory(shift)
        inputs = _inputs(memory, value, levels, rest)
        grad_output = memory.copy(grad_output)
        wide = torch.promote_types(value.dtype, torch.float32)
        grads = [memory.like(tensor) for tensor in (value, *rest)]
        narrow = rest[-1].dtype != wide
        numbers = [Numbers(tensor.data_ptr(), narrow) for tensor in grads[1:]]
        fused = len(rest) == 3
        gradients = Gradients(
            grad_output.data_ptr(), grads[0].data_ptr(), *[Numbers()] * (not fused), *numbers
        )

        sums, raw_weights = grads[0], grads[-1]
        if deterministic:
            sums = memory.copy(torch.zeros_like(value, dtype=torch.int64))
        elif value.dtype != wide:
            sums = memory.copy(torch.zeros_like(value, dtype=wide))
        else:
            sums.zero_()
        if narrow:
            raw_weights = memory.like(rest[-1], wide)
        bounds = memory.copy(torch.zeros(2, dtype=wide))
        references = memory.like(rest[-1][..., :1].expand(*rest[-1].shape[:-1], 4), wide)
        workspace = Workspace(*(tensor.data_ptr() for tensor in (sums, bounds, raw_weights, references)))
        kind = TYPES.index(value.dtype)
        arguments = byref(inputs), byref(gradients), byref(workspace)
        _check(self.library.backward(kind, *arguments, deterministic, None))
        memory.check()
        return grads


def _inputs(memory: Memory, value: Tensor, levels: list, rest: tuple[Tensor, ...]) -> Inputs:
    bs, num_value, num_heads, head_dims = value.shape
    _, num_queries, _, num_levels, num_points = rest[-1].shape
    inputs = Inputs(reference_dims=rest[0].shape[-1] if len(rest) == 3 else 0)
    inputs.shape[:] = bs, num_value, num_heads, head_dims, num_queries, num_levels, num_points
    for target, level in zip(inputs.levels, levels, strict=False):
        target[:] = level
    narrow = rest[-1].dtype != torch.promote_types(value.dtype, torch.float32)
    copies = [memory.copy(tensor) for tensor in (value, *rest)]
    inputs.tensors = copies  # keeps them alive
    inputs.value = copies[0].data_ptr()
    for name, copy in zip(("weights", "positions", "references"), copies[:0:-1], strict=False):
        setattr(inputs, name, Numbers(copy.data_ptr(), narrow))
    return inputs


def _check(problem: bytes) -> None:
    if problem:
        raise RuntimeError(problem.decode())
