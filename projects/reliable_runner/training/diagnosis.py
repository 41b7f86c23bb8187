"""Where a training step becomes NaN or infinite: weights, the output of a module, a loss, gradients."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..files.coco_file import shorten


@dataclass
class Output:
    """What a module has given in a forward pass."""

    name: str
    kind: str  # its class
    max_abs: float  # NaN if one of its numbers is
    faulty_images: list[int]  # those of the batch for which it is NaN or infinite


@dataclass
class Forward:
    """A forward pass: the outputs of the modules, in the order in which they are done, and the losses."""

    outputs: list[Output] = field(default_factory=list)
    losses: dict[str, Tensor] = field(default_factory=dict)

    def first_output(self) -> Output | None:
        """The first output that is NaN or infinite."""
        return next((output for output in self.outputs if not math.isfinite(output.max_abs)), None)

    def first_fault(self) -> str | None:
        """What is NaN or infinite first, in words."""
        if output := self.first_output():
            return f"the output of {output.name} ({output.kind}) is the first that is NaN or infinite"
        losses = [name for name, loss in self.losses.items() if not _finite([loss])]
        return f"{shorten(losses)} is NaN or infinite, though no output of a module is" if losses else None


def forward(model: nn.Module, data_batch: dict) -> Forward:
    """Run the forward pass of a training step on a batch of the data loader; note what each module gives."""
    record = Forward()
    bs = len(data_batch["data_samples"])
    with ExitStack() as handles:
        for name, module in model.named_modules():
            if name:
                handle = module.register_forward_hook(_noting(name, record.outputs, bs))
                handles.callback(handle.remove)
        data = model.data_preprocessor(data_batch, True)
        losses = model(**data, mode="loss")
    record.losses = {name: sum(loss.mean() for loss in _tensors(value)) for name, value in losses.items()}
    return record


def faulty_weights(state_dict: dict[str, Tensor]) -> str | None:
    """Which weights are NaN or infinite before any forward pass, in words."""
    names = [name for name, value in state_dict.items() if not _finite([value])]
    return f"weights are already NaN or infinite, since the step before: {shorten(names)}" if names else None


def faulty_gradients(model: nn.Module) -> str | None:
    """Which gradients are NaN or infinite, in words, those nearest to the loss first."""
    parameters = model.named_parameters()
    names = [name for name, p in parameters if p.grad is not None and not _finite([p.grad])]
    return f"the forward pass is finite, gradients are not: {shorten(names[::-1])}" if names else None


def _noting(name: str, outputs: list[Output], bs: int):
    def note(module: nn.Module, _, output: object) -> None:
        tensors = [x.detach() for x in _tensors(output) if x.is_floating_point() and x.numel()]
        if tensors:
            largest = torch.stack([x.abs().max().float() for x in tensors]).max().item()
            faulty = [] if math.isfinite(largest) else sorted(_faulty_images(output, bs))
            outputs.append(Output(name, type(module).__name__, largest, faulty))

    return note


def _faulty_images(output: object, bs: int) -> set[int]:
    """For which of ``bs`` images ``output`` is NaN or infinite; all where it has no dimension of images.

    That is the first dimension, also if it is images times heads or queries; or the second, after the layers.
    """
    if isinstance(output, Tensor):
        if _finite([output]):
            return set()
        if output.shape[:1] != (bs,) and output.shape[1:2] == (bs,):
            output = output.transpose(0, 1)
        if not output.ndim or len(output) % bs:
            return set(range(bs))
        return set((~output.reshape(bs, -1).isfinite().all(1)).nonzero().flatten().tolist())
    if isinstance(output, Mapping):
        return _faulty_images(list(output.values()), bs)
    if not isinstance(output, list | tuple):
        return set()
    if len(output) == bs and all(isinstance(part, BaseDataElement) for part in output):
        return {image for image, part in enumerate(output) if not _finite(_tensors(part))}
    return set().union(*(_faulty_images(part, bs) for part in output))


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in what a module gives or takes."""
    if isinstance(value, Tensor):
        yield value
        return
    if isinstance(value, Mapping | BaseDataElement):
        value = [getattr(item, "tensor", item) for _, item in value.items()]
    for item in value if isinstance(value, list | tuple) else ():
        yield from _tensors(item)


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(x.isfinite().all() for x in tensors if x.is_floating_point())
