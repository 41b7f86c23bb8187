"""Checkpoint files of every code base."""

import io
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.atomic_file import write_atomically
from projects.reliable_runner.files.checkpoint_file import read_torch_file


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read the weights by name, and everything else in a file, without running anything in it.

    It is ``.safetensors``, or what ``torch.save`` has written: weights under ``state_dict`` (mmdet) or
    ``model`` (official, detrex), or alone (transformers).
    """
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path), {}
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(
                f"{path}: the safetensors file can't be read ({error}); copy or download it again"
            ) from error
    contents = read_torch_file(path)
    contents = contents if isinstance(contents, dict) else {}
    for key in ("state_dict", "model"):
        if _is_tensors(contents.get(key)):
            return contents.pop(key), contents
    if _is_tensors(contents):
        return contents, {}
    raise InputError(
        f"{path}: it holds no weights under 'state_dict' or 'model', nor weights alone; its keys are "
        f"{', '.join(map(repr, contents)) or 'none'}. If they stand elsewhere, or to convert their running "
        'average, save them alone: torch.save({"state_dict": weights}, path)'
    )


def _is_tensors(value: object) -> bool:
    return isinstance(value, dict) and value != {} and all(isinstance(x, Tensor) for x in value.values())


def write_tensors(path: Path, family: str, tensors: dict[str, Tensor], meta: dict) -> None:
    """Write a file as the code of ``family`` reads it; ``meta`` goes into mmdet's alone.

    Raises:
        InputError: the path can't be written, or is of safetensors, which transformers alone reads.
    """
    is_huggingface = family.startswith("huggingface")
    if path.suffix == ".safetensors":
        if not is_huggingface:
            raise InputError(f"{path}: {family} reads .pth")
        write_atomically(path, safetensors.torch.save(tensors, {"format": "pt"}))
        return
    contents = {"model": tensors}
    if family == "mmdet":
        contents = {"state_dict": tensors, "meta": meta}
    elif is_huggingface:
        contents = tensors
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write_atomically(path, buffer.getvalue())
