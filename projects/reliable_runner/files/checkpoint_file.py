"""Reading of checkpoints with ``weights_only`` kept on: no code in a file is ever run.

mmengine's loader of local files calls ``torch.load`` without the names that its own checkpoints need: since
torch 2.6 it can't read them.
"""

import argparse
import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from safetensors import SafetensorError, safe_open
from torch import Tensor

from projects.checkpoint_conversion.conversion import convert
from projects.checkpoint_conversion.family import foreign_weights, guess_family
from projects.checkpoint_conversion.names import FAMILIES

from ..errors import InputError, did_you_mean, first_line
from .model_index import published_models

MapLocation = str | torch.device | Callable | None

_SAVE_WEIGHTS = 'save its weights alone: torch.save({"state_dict": weights}, path)'
_OTHER_FILE = "copy or download it again, or name another file"
_ZIP = b"PK\x03\x04"


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
    """Read a checkpoint of mmengine's Runner, bare weights by name, or a file of another code base.

    The weights of the official code, transformers and detrex are converted; the log says so.

    Returns a dict with ``state_dict`` and whatever else the Runner saved, or a dict of tensors alone. A text
    ``meta.config`` is left out: ``Runner.resume`` would run it as Python. So are mean and standard deviation
    of the images, which mmdet's published checkpoints carry: a config gives them. Of converted weights
    ``meta.cfg_options`` are the settings that a config needs for them.

    `InputError` if the file can't be read, holds no weights, or can't be converted. Nothing in it was run.
    """
    checkpoint = read_file(path, map_location)
    tensors = _find_tensors(checkpoint)
    if tensors and guess_family(tensors) in FAMILIES.keys() - {"mmdet"}:
        try:
            weights, meta = convert(tensors)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
        checkpoint = dict(state_dict=weights, meta=meta)
        wanted = ", ".join(f"{key}={value}" for key, value in meta["cfg_options"].items())
        text = f"{path}: converted from {FAMILIES[meta['converted_from']]}, {meta['variant']}"
        print_log(f"{text}; for it {wanted}" if wanted else text, logger="current")
    weights = _weights(path, checkpoint)
    for statistic in ("mean", "std"):
        weights.pop(f"data_preprocessor.{statistic}", None)
    checkpoint.get("meta", {}).pop("config", None)
    return checkpoint


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read the weights by name, and everything else in a file of any code base.

    They stand under ``state_dict`` (mmdet) or ``model`` (official, detrex), or alone (transformers).
    `InputError` if the file can't be read, or holds no weights.
    """
    contents = read_file(path)
    if tensors := _find_tensors(contents):
        others = {} if tensors is contents else contents
        return tensors, {key: value for key, value in others.items() if value is not tensors}
    keys = ", ".join(map(repr, contents)) if isinstance(contents, dict) else ""
    raise InputError(
        f"{path}: it holds no weights under 'state_dict' or 'model', nor weights alone; its keys are "
        f"{keys or 'none'}. If they stand elsewhere, or to convert their running average, {_SAVE_WEIGHTS}"
    )


def _find_tensors(contents: object) -> dict[str, Tensor] | None:
    """The weights in a file of any code base, if there are some."""
    if not isinstance(contents, dict):
        return None
    return next(filter(_is_tensors, (contents.get("state_dict"), contents.get("model"), contents)), None)


def _is_tensors(value: object) -> bool:
    return isinstance(value, dict) and value != {} and all(isinstance(x, Tensor) for x in value.values())


def read_file(path: str | Path, map_location: MapLocation = "cpu") -> object:
    """What a file of ``torch.save`` or of safetensors holds, told by its first bytes; see `read_torch_file`.

    Of safetensors it is the tensors by name, or, with the ``meta`` that tools/publish_model.py writes, both.
    """
    path = Path(path).expanduser()
    if not path.is_file() or not _is_safetensors(path):
        return read_torch_file(path, map_location)
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
            meta = (file.metadata() or {}).get("meta")
            return {"state_dict": tensors, "meta": dict(json.loads(meta))} if meta else tensors
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: the safetensors file can't be read ({first_line(error)}); {_OTHER_FILE}"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Eight bytes give the length of a JSON object, which follows."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def read_torch_file(path: str | Path, map_location: MapLocation = "cpu") -> object:
    """Read what ``torch.save`` has written into a local file; nothing in it is run.

    `InputError` if the file is missing, empty, cut short or foreign, or holds objects other than tensors,
    plain values and mmengine's log history.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        nearest = did_you_mean(str(path), published_models())
        raise InputError(f"{path}: there is no such checkpoint file; {_OTHER_FILE}{nearest}")
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
            f"the file asks for {refused[1]}, which no checkpoint needs; it was refused and nothing in the "
            f"file was run; if you trust whoever made it, open it where it came from and {_SAVE_WEIGHTS}"
        )
    with path.open("rb") as file:
        start = file.read(512)
    if _ZIP.startswith(start[:4]) and not zipfile.is_zipfile(path):
        kind = f"the checkpoint is cut short, it ends after {path.stat().st_size} bytes"
    elif start.isascii() and b"\0" not in start:
        kind = f"this is a text that begins with {start[:40].decode()!r}, not a checkpoint"
    else:
        kind = f"the checkpoint is damaged, or torch.save did not write it ({first_line(error)})"
    return f"{kind}; {_OTHER_FILE}"


def _weights(path: str | Path, checkpoint: object) -> dict:
    """The part of ``checkpoint`` that holds the weights by name; `InputError` if there is none."""
    contents = checkpoint if isinstance(checkpoint, dict) else {}
    if isinstance(contents.get("state_dict"), dict):
        return contents["state_dict"]
    if _is_tensors(contents):
        return contents
    parts = [contents, *(part for part in contents.values() if isinstance(part, dict))]
    remedy = foreign_weights([str(key) for part in parts for key in part], path) or _SAVE_WEIGHTS
    keys = ", ".join(map(repr, list(contents)[:8])) or f"none, it holds a {type(checkpoint).__name__}"
    raise InputError(f"{path}: this is no checkpoint: it has no 'state_dict', its keys are {keys}; {remedy}")
