"""A training step that can be repeated, also from a file of plain tensors and values."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import BaseBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn

from ..data.seeded_items import generators_kept
from ..errors import InputError
from ..files.checkpoint_file import read_torch_file
from .diagnosis import Forward, forward

_ELEMENTS = {kind.__name__: kind for kind in (DetDataSample, InstanceData, PixelData)}


@dataclass
class SavedStep:
    """What goes into a step of the optimizer.

    Attributes:
        iteration: counted from 1, as logs do.
        dtype: of autocast, "float16" or "bfloat16"; None without it.
        batches: as the data loader gives them; several if their gradients are summed.
        random_states: torch's before the first batch, by type of device.
        state_dict: the model's before the first batch.
    """

    iteration: int
    dtype: str | None
    batches: list[dict]
    random_states: dict[str, Tensor]
    state_dict: dict[str, Tensor]

    def repeat(self, model: nn.Module) -> list[Forward]:
        """Run the forward pass of each batch; ``model``, in training mode, is left as it was."""
        device = next(model.parameters()).device.type
        autocast = nullcontext()
        if self.dtype:
            autocast = torch.autocast(device, getattr(torch, self.dtype))
        with state_kept(model), autocast:
            torch.set_rng_state(self.random_states["cpu"])
            if "cuda" in self.random_states and torch.cuda.is_available():
                torch.cuda.set_rng_state(self.random_states["cuda"])
            return [forward(model, batch) for batch in self.batches]

    def save(self, path: Path) -> None:
        """Write the step for `load`."""
        torch.save(_plain({field.name: getattr(self, field.name) for field in fields(self)}), path)

    @classmethod
    def load(cls, path: str | Path) -> "SavedStep":
        """Read what `save` has written, on the CPU.

        Raises:
            InputError: the file is missing or damaged, or holds something else.
        """
        contents = read_torch_file(path)
        names = {field.name for field in fields(cls)}
        if not isinstance(contents, dict) or set(contents) != names:
            raise InputError(
                f"{path}: this is no saved step; a training writes one into its work_dir for a NaN step, "
                "nonfinite_iter_N.pth"
            )
        return cls(**{**contents, "batches": _rebuilt(contents["batches"])})


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


def _plain(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, BaseDataElement):
        contents = dict(metainfo=value.metainfo, **dict(value.items()))
        return {"element": type(value).__name__, "contents": _plain(contents)}
    if isinstance(value, BaseBoxes):
        return _plain(value.tensor)
    if isinstance(value, PolygonMasks):
        value = value.to_bitmap()
    if isinstance(value, BitmapMasks):
        return {"element": "BitmapMasks", "contents": torch.from_numpy(value.masks)}
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _rebuilt(value: object) -> object:
    if isinstance(value, list | tuple):
        return type(value)(map(_rebuilt, value))
    if not isinstance(value, dict):
        return value
    if "element" not in value:
        return {key: _rebuilt(item) for key, item in value.items()}
    contents = _rebuilt(value["contents"])
    if value["element"] == "BitmapMasks":
        return BitmapMasks(contents.numpy(), *contents.shape[1:])
    return _ELEMENTS[value["element"]](**contents)
