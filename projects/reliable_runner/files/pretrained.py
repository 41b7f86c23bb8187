"""Weights from the network: an address, or a name such as ``torchvision://resnet50`` or ``hf://owner/name``.

Unlike mmengine's, these loaders read safely (`read_checkpoint`) and need no torchvision.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mmengine
from mmengine.dist import barrier, get_rank
from mmengine.runner import CheckpointLoader

from ..errors import InputError, did_you_mean, first_line
from .checkpoint_file import MapLocation, read_checkpoint
from .download import download
from .model_index import published_models

# In order of preference; a pickle is read safely too.
_FILES_OF_THE_HUB = ("model.safetensors", "pytorch_model.bin")


def load_from_http(url: str, map_location: MapLocation = None, digest: str | None = None) -> dict:
    """Download a checkpoint into torch.hub's folder, and load it from there; see `download`.

    The digest of a published model (`published_models`) is known.
    """
    digest = digest or next((m.sha256 for m in published_models().values() if m.weights == url), None)
    return _fetch_and_read(partial(download, url, digest), map_location)


def load_from_hub(address: str, map_location: MapLocation = None) -> dict:
    """Load the weights of a repository of the Hugging Face hub, ``hf://owner/name[@revision]``."""
    return _fetch_and_read(partial(fetch_from_hub, address), map_location)


def _fetch_and_read(fetch: Callable[[], Path], map_location: MapLocation) -> dict:
    """Fetch once, on rank 0; a machine that shares no disk with it fetches too."""
    if get_rank() == 0:
        fetch()
    barrier()
    return read_checkpoint(fetch(), map_location)


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


def fetch_from_hub(address: str) -> Path:
    """Fetch the weights of a repository into the hub's own cache, unless they are there.

    huggingface_hub does it: ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` count. A
    revision is a branch, tag or commit. `InputError` if it is not installed, there is no connection and
    nothing in the cache, or the repository is private or missing, has no such revision, or no weights.
    """
    try:
        from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise InputError(f"{address}: to read it, pip install huggingface_hub") from error
    repository, _, revision = address.removeprefix("hf://").partition("@")
    for name in _FILES_OF_THE_HUB:
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None))
        except errors.LocalEntryNotFoundError as error:
            for other in _FILES_OF_THE_HUB:  # the repository may have this one alone
                cached = try_to_load_from_cache(repository, other, revision=revision or None)
                if isinstance(cached, str):
                    return Path(cached)
            command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
            raise InputError(
                f"{address}: no connection, and {name} is not in the cache "
                f"({first_line(error.__cause__ or error)}). Fetch it elsewhere with `{command}` and name the "
                "local file"
            ) from error
        except errors.EntryNotFoundError:
            continue
        except (errors.HFValidationError, errors.HfHubHTTPError, OSError) as error:
            match error:
                case errors.RevisionNotFoundError():
                    fault = f"the repository has no revision {revision!r}"
                case errors.GatedRepoError():
                    fault = "accept its conditions on the hub, then log in: hf auth login"
                case errors.RepositoryNotFoundError():
                    login = "log in with `hf auth login`, or set HF_TOKEN"
                    fault = f"there is no such repository, or it is private: {login}"
                case errors.HFValidationError():
                    fault = "write hf://owner/name or hf://owner/name@revision"
                case _:
                    fault = f"the download failed ({first_line(error)})"
            raise InputError(f"{address}: {fault}") from error
    raise InputError(f"{address}: the repository has none of {', '.join(_FILES_OF_THE_HUB)}")
