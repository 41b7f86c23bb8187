"""ImageNet checkpoints of the official DAT code: ``dat://`` before the path in a config."""

from mmengine.runner import CheckpointLoader

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.checkpoint_file import MapLocation, read_torch_file


@CheckpointLoader.register_scheme(prefixes="dat://")
def load_official(filename: str, map_location: MapLocation = "cpu") -> dict:
    """Load a file of github.com/LeapLabTHU/DAT, e.g. ``dat://checkpoints/dat_tiny_in1k_224.pth``.

    Raises:
        InputError: the file cannot be read safely, or holds no weights under ``model``.
    """
    path = filename.removeprefix("dat://")
    contents = read_torch_file(path, map_location)
    if not isinstance(contents, dict) or not isinstance(contents.get("model"), dict):
        raise InputError(
            f"{path}: has no weights under 'model', so it is no checkpoint of the official DAT code; one "
            "that was trained here is loaded without 'dat://' before its path"
        )
    return {"state_dict": contents["model"]}
