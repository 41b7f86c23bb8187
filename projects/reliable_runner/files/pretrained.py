"""Pretrained weights from the network: an address, or a name such as ``torchvision://resnet50``, in a config.

Unlike mmengine's, these loaders read safely (`read_checkpoint`) and need no torchvision.
"""

import re
from pathlib import Path

import mmengine
from mmengine.dist import barrier, get_rank
from mmengine.runner import CheckpointLoader

from ..errors import InputError, did_you_mean
from .checkpoint_file import MapLocation, read_checkpoint
from .download import download
from .hub import fetch_from_hub
from .model_index import published_models


def load_from_http(url: str, map_location: MapLocation = None, digest: str | None = None) -> dict:
    """Download a checkpoint once, on rank 0, into torch.hub's folder, and load it from there.

    The digest of a published model (`published_models`) is known.

    Raises:
        InputError: The download failed, or what came is no checkpoint, or not the one of ``digest``, the
            first digits of a SHA-256 in hexadecimal.
    """
    digest = digest or next((m.sha256 for m in published_models().values() if m.weights == url), None)
    if get_rank() == 0:
        download(url, digest)
    barrier()
    return read_checkpoint(download(url, digest), map_location)  # a machine may share no disk with rank 0


def load_from_hub(address: str, map_location: MapLocation = None) -> dict:
    """Load the weights of a repository of the Hugging Face hub, ``hf://owner/name[@revision]``."""
    if get_rank() == 0:
        fetch_from_hub(address)
    barrier()
    return read_checkpoint(fetch_from_hub(address), map_location)


def load_from_local(filename: str, map_location: MapLocation = None) -> dict:
    """Load a local file, or the weights of a published model by its name."""
    if not Path(filename).exists() and filename in published_models():
        return CheckpointLoader.load_checkpoint(published_models()[filename].weights, map_location)
    return read_checkpoint(filename, map_location)


def load_from_torchvision(filename: str, map_location: MapLocation = None) -> dict:
    """Load ImageNet weights by torchvision's name of the model, e.g. ``torchvision://resnet50``."""
    url = _published(filename, "torchvision_0.12.json")
    # torchvision's file names end in the first digits of the file's SHA-256.
    digest = re.search(r"-([0-9a-f]+)\.pth$", url)
    return load_from_http(url, map_location, digest and digest[1])


def load_from_openmmlab(filename: str, map_location: MapLocation = None) -> dict:
    """Load OpenMMLab's weights by name, e.g. ``open-mmlab://detectron2/resnet50_caffe``."""
    return load_from_http(_published(filename, "openmmlab.json"), map_location)


def refuse_other_stores(filename: str, map_location: MapLocation = None) -> dict:
    """Refuse what would be read without a check."""
    raise InputError(f"{filename}: fetch the checkpoint from there, and name the local file")


def _published(filename: str, index: str) -> str:
    """The address of a name in one of mmengine's lists; `InputError` if it is not there."""
    urls = mmengine.load(Path(mmengine.__file__).parent / "hub" / index)
    scheme, _, name = filename.partition("://")
    if name not in urls:
        raise InputError(f"{filename}: {scheme} has no weights of this name{did_you_mean(name, urls)}")
    return urls[name]
