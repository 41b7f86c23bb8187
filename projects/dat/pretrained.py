"""ImageNet checkpoints of the official DAT code: ``dat://`` before the path in a config."""

from collections import OrderedDict
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader


@CheckpointLoader.register_scheme(prefixes="dat://")
def load_official(filename: str, map_location: str | torch.device | None = "cpu") -> dict:
    """Load a file of github.com/LeapLabTHU/DAT, e.g. ``dat://checkpoints/dat_tiny_in1k_224.pth``.

    The classifier, and the masks of shifted windows, which are of one image size, are left out. Nothing in
    the file is run. `ValueError` if it holds no weights under ``model``.
    """
    path = Path(filename.removeprefix("dat://")).expanduser()
    # A dict with attributes, as which yacs' settings are read without yacs.
    with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
        contents = torch.load(path, map_location, weights_only=True)
    if not isinstance(contents, dict) or "model" not in contents:
        raise ValueError(
            f"{path}: has no weights under 'model', so it is no checkpoint of the official DAT code; one "
            "that was trained here is loaded without 'dat://' before its path"
        )
    weights = contents["model"]
    kept = [key for key in weights if not key.startswith("cls_") and "attn_mask" not in key]
    return {"state_dict": {key: weights[key] for key in kept}}
