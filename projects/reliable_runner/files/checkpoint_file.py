"""Reading of checkpoints with ``weights_only`` kept on: no code in a file is ever run.

mmengine's loader of local files calls ``torch.load`` without the names that its own checkpoints need: since
torch 2.6 it can't read them.
"""

import argparse
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from ..errors import InputError, first_line
from .checkpoint_family import foreign_weights, is_safetensors, stored_names, whose_weights

MapLocation = str | torch.device | Callable | None

_SAVE_WEIGHTS = 'save its weights alone: torch.save({"state_dict": weights}, path)'
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def _statistic(owner: object, name: str) -> Callable:
    """Stand in for ``getattr``, which would open every door: give HistoryBuffer's statistics alone."""
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError(f"GLOBAL getattr on {owner}, {name!r} is not allowed")
    return getattr(HistoryBuffer, name)


class _Settings:
    """Stands in for yacs' ``CfgNode``, a dict of settings: becomes a plain dict, and yacs is not needed."""

    def __new__(cls) -> OrderedDict:  # of a plain dict torch.load can't restore the attributes
        return OrderedDict()


def allowed_globals() -> list:
    """What mmengine's log history is made of, and what official codes keep their arguments in."""
    rebuild = {"_reconstruct": np.empty(0).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}
    return [
        argparse.Namespace,
        (_Settings, "yacs.config.CfgNode"),
        HistoryBuffer,
        (_statistic, "builtins.getattr"),
        np.ndarray,
        np.dtype,
        *(type(np.dtype(name)) for name in ("bool", "int32", "int64", "float32", "float64")),
        # numpy 1 writes the first name of the module, numpy 2 the second; both read both.
        *((f, f"numpy.core.multiarray.{name}") for name, f in rebuild.items()),
        *((f, f"numpy._core.multiarray.{name}") for name, f in rebuild.items()),
    ]


def read_checkpoint(path: str | Path, map_location: MapLocation = "cpu") -> dict:
    """Read a checkpoint of mmengine's Runner, or bare weights by name, from a local file.

    Args:
        path: A file that ``torch.save`` has written; ``~`` is expanded.
        map_location: Where tensors go, as in `torch.load`.

    Returns:
        A dict with ``state_dict`` and whatever else the Runner saved, or a dict of tensors alone. A text
        ``meta.config`` is left out: ``Runner.resume`` would run it as Python. So are mean and standard
        deviation of the images, which mmdet's published checkpoints carry: a config gives them.

    Raises:
        InputError: The file is missing, empty, cut short or foreign, holds objects other than tensors,
            plain values and mmengine's log history, holds no weights, or parts of another type than the
            Runner saves. Nothing in it was run.
    """
    checkpoint = read_torch_file(path, map_location)
    weights = _weights(path, checkpoint)
    for fault in _faults(checkpoint, weights):
        raise InputError(f"{path}: this is no checkpoint of a training, {fault}; {_SAVE_WEIGHTS}")
    for statistic in ("mean", "std"):
        weights.pop(f"data_preprocessor.{statistic}", None)
    checkpoint.get("meta", {}).pop("config", None)
    return checkpoint


def _faults(checkpoint: dict, weights: dict) -> Iterator[str]:
    """Yield what is of another kind than mmengine's Runner saves."""
    for key, value in weights.items():
        plain = not isinstance(value, torch.Tensor) or (
            value.layout == torch.strided and not (value.is_quantized or value.is_complex())
        )
        if not plain:
            yield f"{key} is not dense numbers but {value.dtype}, {value.layout}"
    if weights is checkpoint:
        return
    for part in ("meta", "ema_state_dict"):
        if not isinstance(checkpoint.get(part, {}), dict):
            yield f"{part!r} is a {type(checkpoint[part]).__name__}"
    meta = checkpoint.get("meta", {})
    data = meta.get("dataset_meta") or meta
    if not isinstance(data, dict):
        yield f"meta.dataset_meta is a {type(data).__name__}"
    classes = data.get("classes", data.get("CLASSES"))
    names = classes if isinstance(classes, (list, tuple)) else [classes]
    if classes is not None and not all(isinstance(name, str) for name in names):
        yield f"its classes are {classes!r:.60}"


def read_torch_file(path: str | Path, map_location: MapLocation = "cpu") -> object:
    """Read what ``torch.save`` has written; nothing in it is run.

    Args:
        path: a local file; ``~`` is expanded.
        map_location: where tensors go, as in `torch.load`.

    Raises:
        InputError: The file is missing, empty, cut short or foreign, or holds objects other than tensors,
            plain values and mmengine's log history.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint file{_other_checkpoints(path)}")
    try:
        with torch.serialization.safe_globals(allowed_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # what a damaged file raises has no bounds
        raise InputError(f"{path}: {_diagnosis(path, error)}") from error


def _diagnosis(path: Path, error: Exception) -> str:
    """Say what an unreadable file seems to be, and what to do."""
    if isinstance(error, PermissionError):
        return "there is no permission to read this file"
    if refused := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"the file asks for {refused[1]}, which no checkpoint needs; it was refused and nothing in "
            f"the file was run; its weights are {whose_weights(stored_names(path))}; if you trust whoever "
            f"made it, open it where it came from and {_SAVE_WEIGHTS}"
        )
    with path.open("rb") as file:
        start = file.read(512)
    if is_safetensors(start):
        return foreign_weights(stored_names(path), path) or (
            "this is a file of safetensors, not of torch.save; if its weights have the names of ours: "
            'torch.save({"state_dict": safetensors.torch.load_file(path)}, ...)'
        )
    if not start:
        kind = "the file is empty"
    elif start.startswith(_ZIP) and not zipfile.is_zipfile(path):
        kind = "the checkpoint is cut short: it has no end"
    elif start.startswith(_ZIP) and not _is_torch_zip(path):
        kind = "this is a zip archive, but torch.save did not write it"
    elif start.startswith((_ZIP, _PICKLE)):
        kind = f"the checkpoint is damaged, or torch.save did not write it ({first_line(error)})"
    elif _ZIP.startswith(start):
        kind = "the checkpoint is cut short after its first bytes"
    elif start.isascii() and b"\0" not in start:
        kind = f"this is a text that begins with {start[:40].decode()!r}, not a checkpoint"
    else:
        kind = "this is not a file that torch.save has written"
    return f"{kind}{_other_checkpoints(path)}"


def _is_torch_zip(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _other_checkpoints(path: Path) -> str:
    """Offer the newest other checkpoint beside ``path``."""
    others = [other for other in path.parent.glob("*.pth") if other != path and other.stat().st_size]
    if not others:
        return "; copy or download it again, or name another file"
    newest = max(others, key=lambda other: other.stat().st_mtime)
    return f"; the newest other checkpoint in its folder is {newest.name}"


def _weights(path: Path, checkpoint: object) -> dict:
    """Return the part of ``checkpoint`` that holds the weights by name.

    Raises:
        InputError: There is none.
    """
    contents = checkpoint if isinstance(checkpoint, dict) else {}
    weights = contents.get("state_dict", contents)
    if isinstance(weights, dict) and all(isinstance(key, str) for key in weights):
        if weights is not contents:
            return weights
        if weights and all(isinstance(value, torch.Tensor) for value in weights.values()):
            return weights
    parts = [contents, *(part for part in contents.values() if isinstance(part, dict))]
    remedy = foreign_weights([str(key) for part in parts for key in part], path)
    if "ema_state_dict" in contents:
        remedy = (
            "it holds the averaged weights of EMAHook alone; save them as the weights: ema = "
            'torch.load(path)["ema_state_dict"]; del ema["steps"]; torch.save({"state_dict": ema}, path)'
        )
    keys = ", ".join(map(repr, list(contents)[:8]))
    raise InputError(
        f"{path}: this is no checkpoint: it has no 'state_dict', "
        + (f"its keys are {keys}" if keys else f"it holds a {type(checkpoint).__name__}")
        + f"; {remedy or _SAVE_WEIGHTS}"
    )


def load_from_local(filename: str, map_location: MapLocation) -> dict:
    """Load a local file; see `read_checkpoint`."""
    return read_checkpoint(filename, map_location)
