"""Checkpoint files of every code base."""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.checkpoint_file import read_torch_file

_TORCH = (".pth", ".pt", ".bin")
_AVERAGES = ("ema_state_dict", "model_ema", "ema_model", "ema")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read a file without running anything in it.

    Args:
        path: ``.safetensors``, or what ``torch.save`` has written: weights under ``state_dict`` (mmdet) or
            ``model`` (official, detrex), or alone (transformers). ``argparse.Namespace``, which official
            checkpoints hold, is read as plain values.

    Returns:
        The weights by name and everything else in the file.

    Raises:
        InputError: it can't be read, or holds no weights.
    """
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise InputError(f"{path}: there is no such file")
        try:
            return safetensors.torch.load_file(path), {}
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(
                f"{path}: the safetensors file is damaged or cut short ({error}); copy or download it again"
            ) from error
    contents = read_torch_file(path)
    contents = contents if isinstance(contents, dict) else {}
    for key in ("state_dict", "model"):
        if _is_tensors(contents.get(key)):
            return contents.pop(key), contents
    if _is_tensors(contents):
        return contents, {}
    keys = ", ".join(map(repr, contents)) or "none"
    if averages := [key for key in _AVERAGES if key in contents]:
        raise InputError(
            f"{path}: it holds no weights but their running average. To convert that, save it alone: "
            f'torch.save({{"state_dict": average}}, path) with average = the tensors under {averages[0]!r}'
        )
    raise InputError(
        f"{path}: it holds no weights under 'state_dict' or 'model', nor weights alone; its keys are {keys}. "
        'If they stand elsewhere, save them alone: torch.save({"state_dict": weights}, path)'
    )


def _is_tensors(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(tensor, Tensor) for tensor in value.values())
    )


def write_tensors(path: Path, family: str, tensors: dict[str, Tensor], meta: dict) -> None:
    """Write a file as the code of ``family`` reads it; ``meta`` goes into mmdet's alone.

    Raises:
        InputError: the path can't be written.
    """
    try:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
        elif family == "mmdet":
            torch.save({"state_dict": tensors, "meta": meta}, path)
        elif family.startswith("huggingface"):
            torch.save(tensors, path)
        else:
            torch.save({"model": tensors}, path)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: the file can't be written ({error})") from error


def check_out_path(path: Path, family: str) -> None:
    """Refuse what `write_tensors` would fail at after a long reading.

    Raises:
        InputError: the folder is missing, or the suffix is not one that the code of ``family`` reads.
    """
    allowed = (".safetensors", *_TORCH) if family.startswith("huggingface") else _TORCH[:2]
    if path.suffix not in allowed:
        raise InputError(f"{path}: a file of {family} must end with {' or '.join(allowed)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
