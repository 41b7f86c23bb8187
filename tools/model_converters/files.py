"""Checkpoint files of every code base."""

import io
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.atomic_file import write_atomically


def write_tensors(path: Path, family: str, tensors: dict[str, Tensor], meta: dict) -> None:
    """Write a file as the code of ``family`` reads it; ``meta`` goes into mmdet's alone.

    Raises:
        InputError: the path can't be written, has no name of a checkpoint, or is of safetensors, which
            transformers alone reads.
    """
    is_huggingface = family.startswith("huggingface")
    if path.suffix == ".safetensors":
        if not is_huggingface:
            raise InputError(f"{path}: {family} reads .pth")
        write_atomically(path, safetensors.torch.save(tensors, {"format": "pt"}))
        return
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise InputError(f"{path}: the name of a checkpoint ends with .pth, .pt, .bin or .safetensors")
    contents = {"model": tensors}
    if family == "mmdet":
        contents = {"state_dict": tensors, "meta": meta}
    elif is_huggingface:
        contents = tensors
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write_atomically(path, buffer.getvalue())
