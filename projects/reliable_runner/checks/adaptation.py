"""Weights of a checkpoint beside those of a model, and their adaptation to other classes and queries."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from ..files.coco_file import shorten

_CLASS_BRANCHES = (".cls_branches.", ".fc_cls.")  # the latter is DETR's
_QUERIES = "query_embedding.weight"
_CAUSES = {
    "classes": "other classes: the class branches stay as they were initialised",
    "queries": "another number of queries",
    "model": "another model; compare with_box_refine, as_two_stage, widths, layers and levels",
}

_Shape = tuple[int, ...]


def is_class_branch(key: str) -> bool:
    """Whether a parameter of this name has a row for each class."""
    return any(branch in key for branch in _CLASS_BRANCHES)


class Misfit(NamedTuple):
    """A tensor of a model that is not in the file, or there of another shape."""

    key: str
    in_file: _Shape | None
    here: _Shape

    def __str__(self) -> str:
        return f"{self.key} is {_or_none(self.in_file)} instead of {self.here}"

    @property
    def cause(self) -> str:
        """What differs from the file: "classes", "queries", or else "model"."""
        if self.in_file and self.in_file[1:] == self.here[1:]:
            if is_class_branch(self.key):
                return "classes"
            if self.key == _QUERIES:
                return "queries"
        return "model"


def misfits(weights: dict, model: nn.Module) -> list[Misfit]:
    """The tensors of ``model`` that ``weights``, a state dict, cannot fill.

    A leading ``module.`` is passed over, and so are counters of batches, which old checkpoints lack.
    """
    found, expected = _shapes(weights), _shapes(model.state_dict())
    return [Misfit(key, found.get(key), shape) for key, shape in expected.items() if found.get(key) != shape]


def unknown(weights: dict, model: nn.Module) -> list[str]:
    """The names in ``weights`` that ``model`` does not have."""
    expected = _shapes(model.state_dict())
    return [key for key in _shapes(weights) if key not in expected]


def untied(weights: dict, model: nn.Module) -> Iterator[str]:
    """Tell which tensors are one in ``model``, but differ in ``weights``.

    A model without box refinement has one branch for all layers. The checkpoint of one with it has the same
    names and shapes, so nothing else tells them apart.
    """
    first: dict[int, str] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        twin = first.setdefault(id(value), key)
        if key != twin and not torch.equal(weights.get(key, value), weights.get(twin, value)):
            yield f"{key} differs from {twin}, but with_box_refine=False has one for both"


def adapt(weights: dict, model: nn.Module, class_difference: str = "") -> str:
    """Make ``weights`` fit ``model``: what can't be loaded, stays as the model has it.

    Args:
        weights: a state dict. Its misfits are replaced by the model's own tensors, what the model does not
            have is taken out, all others stay untouched.
        model: initialised.
        class_difference: not empty if the classes are others; then no class branch is taken.

    Returns:
        A report of all that was left out, "" if nothing was.
    """
    own = model.state_dict()
    left = misfits(weights, model)
    left += [
        Misfit(key, tuple(value.shape), tuple(value.shape))
        for key, value in own.items()
        if class_difference and is_class_branch(key) and key not in {misfit.key for misfit in left}
    ]
    strange = unknown(weights, model)
    taken = {key.removeprefix("module."): value for key, value in weights.items()}
    taken = own | {key: taken[key] for key in own if key in taken}
    taken |= {misfit.key: own[misfit.key] for misfit in left}
    weights.clear()
    weights.update(taken)

    lines = [line for cause in _CAUSES for line in _section(cause, left, class_difference)]
    if strange:
        lines.append(f"  passed over, the model does not have them: {shorten(strange)}")
    if differing := list(untied(weights, model)):
        lines.append(f"  {shorten(differing)}; the last is taken")
    if lines:
        lines.insert(
            0,
            f"{len(left)} of the model's {len(own)} tensors are re-initialised (shape in the file -> shape "
            "here), all others are loaded exactly",
        )
    return "\n".join(lines)


def _section(cause: str, left: list[Misfit], class_difference: str) -> Iterator[str]:
    names = [misfit for misfit in left if misfit.cause == cause]
    if names:
        yield f"  {_CAUSES[cause]}{class_difference if cause == 'classes' else ''}"
    for misfit in names:
        yield f"    {misfit.key} {_or_none(misfit.in_file)} -> {misfit.here}"


def _or_none(shape: _Shape | None) -> str:
    return "not there" if shape is None else str(shape)


def _shapes(weights: dict) -> dict[str, _Shape]:
    return {
        key.removeprefix("module."): tuple(value.shape)
        for key, value in weights.items()
        if isinstance(value, torch.Tensor) and not key.endswith("num_batches_tracked")
    }
