"""Where a training step stops being finite: weights, the output of a module, a loss, gradients."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import nonfinite_errors_noted
from ..files.coco_file import shorten


@dataclass
class Output:
    """What a module has given in a forward pass."""

    name: str
    kind: str  # its class
    max_abs: float  # NaN if one of its numbers is


@dataclass
class Forward:
    """A forward pass.

    Attributes:
        outputs: of the modules, in the order in which they are done.
        losses: by name, with their graph.
    """

    outputs: list[Output] = field(default_factory=list)
    losses: dict[str, Tensor] = field(default_factory=dict)

    def first_fault(self) -> str | None:
        """What is not finite first, in words."""
        for output in self.outputs:
            if not math.isfinite(output.max_abs):
                return f"the output of {output.name} ({output.kind}) is the first that is not finite"
        losses = [name for name, loss in self.losses.items() if not _finite([loss])]
        return f"{shorten(losses)} not finite, all modules are" if losses else None


def forward(model: nn.Module, data_batch: dict) -> Forward:
    """Run the forward pass of a training step and note what each module gives.

    Args:
        model: a detector in training mode.
        data_batch: as the data loader gives it.
    """
    record = Forward()
    handles = [
        module.register_forward_hook(_noting(name, record.outputs))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with nonfinite_errors_noted([]):
            data = model.data_preprocessor(data_batch, True)
            losses = model(**data, mode="loss")
    finally:
        for handle in handles:
            handle.remove()
    record.losses = {name: sum(loss.mean() for loss in _tensors(value)) for name, value in losses.items()}
    return record


def faulty_weights(state_dict: dict[str, Tensor]) -> str | None:
    """Which weights are not finite before any forward pass, in words."""
    names = [name for name, value in state_dict.items() if not _finite([value])]
    if names:
        return f"weights are already not finite, since the step before: {shorten(names)}"
    return None


def faulty_gradients(model: nn.Module) -> str | None:
    """Which gradients are not finite, in words, those nearest to the loss first."""
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    names = [name for name, grad in named if not _finite([grad])]
    if names:
        return f"the forward pass is finite, gradients are not: {shorten(names[::-1])}"
    return None


def _noting(name: str, outputs: list[Output]):
    def note(module: nn.Module, _, output: object) -> None:
        tensors = [x.detach() for x in _tensors(output) if x.is_floating_point() and x.numel()]
        if tensors:
            largest = torch.stack([x.abs().max().float() for x in tensors]).max()
            outputs.append(Output(name, type(module).__name__, largest.item()))

    return note


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in what a module gives or takes."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, BaseDataElement):
        for _, item in value.items():
            yield from _tensors(getattr(item, "tensor", item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(x.isfinite().all() for x in tensors if x.is_floating_point())
