"""A training step that can be repeated, also from a file of plain tensors and values."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import BaseBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..data.seeded_items import generators_kept
from ..errors import InputError
from ..files.checkpoint_file import read_torch_file
from .diagnosis import Forward, forward

_ELEMENTS = {kind.__name__: kind for kind in (DetDataSample, InstanceData, PixelData)}


@dataclass
class SavedStep:
    """What goes into a step of the optimizer; states are those before its first batch."""

    iteration: int  # counted from 1, as logs do
    dtype: str | None  # of autocast, "float16" or "bfloat16"; None without it
    batches: list[dict]  # as the data loader gives them; several if their gradients are summed
    random_states: dict[str, Tensor]  # torch's, by type of device
    state_dict: dict[str, Tensor]  # the model's

    def repeat(self, model: nn.Module) -> list[Forward]:
        """Run the forward pass of each batch; ``model``, in training mode, is left as it was."""
        device = next(model.parameters()).device.type
        dtype = getattr(torch, self.dtype or "float32")
        with state_kept(model), torch.autocast(device, dtype, enabled=self.dtype is not None):
            torch.set_rng_state(self.random_states["cpu"])
            if "cuda" in self.random_states and torch.cuda.is_available():
                torch.cuda.set_rng_state(self.random_states["cuda"])
            return [forward(model, batch) for batch in self.batches]

    def save(self, path: Path) -> None:
        """Write the step for `load`."""
        torch.save(tree_map(_plain, {field.name: getattr(self, field.name) for field in fields(self)}), path)

    @classmethod
    def load(cls, path: str | Path) -> "SavedStep":
        """Read what `save` has written, on the CPU; `InputError` if the file can't be read or is another."""
        contents = read_torch_file(path)
        names = {field.name for field in fields(cls)}
        if not isinstance(contents, dict) or set(contents) != names:
            raise InputError(
                f"{path}: this is no saved step; a training writes one into its work_dir for a NaN step, "
                "nonfinite_iter_N.pth"
            )
        return cls(**tree_map(_rebuilt, contents, is_leaf=_is_element))


@contextmanager
def state_kept(model: nn.Module) -> Iterator[None]:
    """Within this a forward pass may draw random numbers and move running statistics; after it none has."""
    buffers = [buffer.clone() for buffer in model.buffers()]
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with generators_kept(), torch.random.fork_rng(gpus):
            yield
    finally:
        restore_buffers(model, buffers)


def restore_buffers(model: nn.Module, buffers: list[Tensor]) -> None:
    """Give the buffers of ``model``, such as running statistics, the values that they had."""
    for buffer, before in zip(model.buffers(), buffers, strict=True):
        buffer.data.copy_(before)  # `data`: a backward pass may follow, which must not notice


def random_states() -> dict[str, Tensor]:
    """The states of torch's generators, on the CPU and on the GPU that is in use."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def image_paths(data_batch: dict) -> list[str]:
    """The files of the images of a batch."""
    samples = data_batch.get("data_samples") or []
    return [str(sample.metainfo.get("img_path", "?")) for sample in samples]


def _plain(leaf: object) -> object:
    """What is in no list, tuple or dict, as tensors and values."""
    match leaf:
        case Tensor():
            return leaf.cpu()
        case BaseDataElement():
            contents = dict(metainfo=leaf.metainfo, **dict(leaf.items()))
            return {"element": type(leaf).__name__, "contents": tree_map(_plain, contents)}
        case BaseBoxes():
            return leaf.tensor
        case PolygonMasks() | BitmapMasks():
            return {"element": "BitmapMasks", "contents": torch.from_numpy(leaf.to_ndarray())}
        case np.ndarray() | np.generic():
            return leaf.tolist()
        case tuple():  # a torch.Size
            return tuple(leaf)
        case None | bool() | int() | float() | str():
            return leaf
    return str(leaf)


def _rebuilt(value: object) -> object:
    """The inverse of `_plain`."""
    if not _is_element(value):
        return value
    contents = tree_map(_rebuilt, value["contents"], is_leaf=_is_element)
    if value["element"] == "BitmapMasks":
        return BitmapMasks(contents.numpy(), *contents.shape[1:])
    return _ELEMENTS[value["element"]](**contents)


def _is_element(value: object) -> bool:
    return isinstance(value, dict) and "element" in value
