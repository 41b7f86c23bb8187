"""ImageNet checkpoints of the official DAT code: ``dat://`` before the path in a config."""

import pickle
from collections import OrderedDict
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader


class _Settings:
    """Stands in for yacs' ``CfgNode``, a dict of settings, so that yacs is not needed."""

    def __new__(cls) -> OrderedDict:  # of a plain dict torch.load can't restore the attributes
        return OrderedDict()


@CheckpointLoader.register_scheme(prefixes="dat://")
def load_official(filename: str, map_location: str | torch.device | None = "cpu") -> dict:
    """Load a file of github.com/LeapLabTHU/DAT, e.g. ``dat://checkpoints/dat_tiny_in1k_224.pth``.

    Nothing in the file is run.

    Raises:
        ValueError: the file cannot be read safely, or holds no weights under ``model``.
    """
    path = Path(filename.removeprefix("dat://")).expanduser()
    try:
        with torch.serialization.safe_globals([(_Settings, "yacs.config.CfgNode")]):
            contents = torch.load(path, map_location, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: can't be read: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(contents, dict) or not isinstance(contents.get("model"), dict):
        raise ValueError(
            f"{path}: has no weights under 'model', so it is no checkpoint of the official DAT code; one "
            "that was trained here is loaded without 'dat://' before its path"
        )
    return {"state_dict": contents["model"]}
