"""The weights of a Deformable DETR in the names of any code base, and what they tell of the model."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from projects.reliable_runner.errors import InputError
from tools.model_converters.names import FAMILIES, Levels, Row, find, table
from tools.model_converters.spelling import count_layers, count_levels, plain, split_attention

VARIANTS = ("base", "refine", "two-stage")
_SHOWN = 12  # names in a message
_BRANCH = re.compile(r"bbox_head\.(cls|reg)_branches\.(\d+)\.(.+)")


@dataclass
class Weights:
    """All weights of a model in mmdet's names.

    Attributes:
        tensors: by name.
        variant: one of `VARIANTS`.
        ids: which rows of another's class branches our classes were; None for all. See `classes`.
        unused: the other rows, by the name of the tensor.
    """

    tensors: dict[str, Tensor]
    variant: str
    ids: tuple[int, ...] | None = None
    unused: dict[str, Tensor] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Rows of a class branch of the decoder."""
        return len(self.tensors["bbox_head.cls_branches.0.bias"])


def guess_family(tensors: dict[str, Tensor]) -> str:
    """The family that has most of the names.

    Raises:
        InputError: none has half of them.
    """
    tensors, levels = plain(tensors), count_levels(tensors)
    known = {family: sum(find(key, family, levels) is not None for key in tensors) for family in FAMILIES}
    family = max(known, key=known.get)
    if known[family] * 2 < len(tensors):
        raise InputError(
            f"it is of no known family ({', '.join(FAMILIES)}): only {known[family]} of its "
            f"{len(tensors)} names are of {family}. Its names are {_listed(tensors)}"
        )
    return family


def decode(tensors: dict[str, Tensor], family: str, variant: str | None = None) -> Weights:
    """Read all weights of a model.

    Args:
        tensors: by the names of ``family``.
        family: one of `FAMILIES`.
        variant: one of `VARIANTS`; None guesses it.

    Raises:
        InputError: a name is unknown or missing, the two names of a branch hold different numbers, or the
            variant can't be guessed.
    """
    given, tensors = tensors, plain(tensors)
    levels = count_levels(tensors)
    places = {key: find(key, family, levels) for key in tensors}
    unknown = [key for key, place in places.items() if place is None]
    result, differing, has_copies = {}, [], False
    for key, (row, number, leaf) in ((key, place) for key, place in places.items() if place):
        name = row.spell("mmdet", number, leaf)
        if name in result and not torch.equal(result[name], tensors[key]):
            differing.append(key)
        has_copies |= bool(row.copies) and key != row.spell(family, number, leaf)
        result[name] = tensors[key]
    if family.startswith("huggingface"):
        _untie(result)
    missing = {
        row.spell(family, number, leaf): torch.empty(3)
        for row, number, leaf in _expected(result, levels)
        if row.spell("mmdet", number, leaf) not in result
    }
    if family.startswith("huggingface"):
        missing = split_attention(missing).keys() - given.keys()
    _report(family, tensors, unknown, missing, differing)
    if family != "mmdet":
        _drop_zero_biases(result)
    return Weights(result, variant or _guess_variant(result, has_copies))


def encode(weights: Weights, family: str) -> dict[str, Tensor]:
    """The tensors under the names of ``family``; no two share memory."""
    if family == "mmdet":
        return weights.tensors
    levels = count_levels(weights.tensors)
    # transformers ties the branches of all layers to the first and writes that alone.
    is_tied = weights.variant == "base" and family.startswith("huggingface")
    result = {}
    for name, tensor in {**_zero_biases(weights.tensors), **weights.tensors}.items():
        row, number, leaf = find(name, "mmdet", levels)
        if is_tied and row.copies and number != "0":
            continue
        result[row.spell(family, number, leaf)] = tensor
        if _has_copy(name, weights.variant):
            result[row.spell_copy(family, number, leaf)] = tensor
    if family.startswith("huggingface"):
        result = split_attention(result)
    return {key: tensor.clone() for key, tensor in result.items()}


def _untie(tensors: dict[str, Tensor]) -> None:
    """Give every decoder layer the branch that all share and that the file holds once."""
    for kind in ("cls", "reg"):
        branches = {key: m for key in tensors if (m := _BRANCH.fullmatch(key)) and m[1] == kind}
        if {match[2] for match in branches.values()} == {"0"}:
            for i in range(1, count_layers(tensors).get("decoder.layers.", 1)):
                for key, match in branches.items():
                    tensors[f"bbox_head.{kind}_branches.{i}.{match[3]}"] = tensors[key]


def _expected(tensors: Iterable[str], levels: Levels) -> Iterable[tuple[Row, str, str]]:
    """What a complete model has, as in `find`; mmdet's names in the file tell how large it is."""
    two_stage = any(key.startswith(("memory_trans", "pos_trans")) for key in tensors)
    bottleneck = any(re.match(r"backbone\..*\.(conv|bn)3\.", key) for key in tensors)
    counts = count_layers(tensors)
    num_branches = counts.get("decoder.layers.", 1) + two_stage
    for row in table(levels):
        name = row.names["mmdet"]
        layers, numbered, module = name.partition("#")
        if two_stage and name.startswith(("query_embedding", "reference_points")):
            continue
        if not two_stage and name.startswith(("memory_trans", "pos_trans")):
            continue
        if not bottleneck and module in (".conv3", ".bn3"):
            continue
        # Of layers that are not there at all the first is missed.
        numbers = range(num_branches if row.copies else counts.get(layers, 1))
        if "downsample" in module:  # where the number of channels changes
            numbers = range(bottleneck or "layer1" not in layers)
        for number in numbers if numbered else [""]:
            for leaf in row.leaves:
                yield row, str(number), leaf


def _report(
    family: str,
    tensors: dict[str, Tensor],
    unknown: list[str],
    missing: list[str],
    differing: list[str],
) -> None:
    faults = []
    if unknown:
        faults.append(f"{len(unknown)} weights have names that it does not know: {_listed(unknown)}")
    if missing:
        faults.append(f"{len(missing)} weights are missing: {_listed(missing)}")
    if differing:
        faults.append(f"{len(differing)} branches differ under their two names: {_listed(differing)}")
    if not faults:
        return
    guess = guess_family(tensors)
    if guess != family:
        faults.append(f"its names are those of {guess}: say --from {guess}, or leave --from out")
    else:
        faults.append("convert a complete Deformable DETR with a ResNet as its code saved it")
    raise InputError(f"read as {family} ({FAMILIES[family]}), " + "; ".join(faults))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _branches_differ(tensors: dict[str, Tensor]) -> bool:
    """Whether the decoder's layers have branches of their own."""
    num_layers = count_layers(tensors)["decoder.layers."]
    return any(
        not torch.equal(tensor, tensors[f"bbox_head.{match[1]}_branches.0.{match[3]}"])
        for key, tensor in tensors.items()
        if (match := _BRANCH.fullmatch(key)) and int(match[2]) < num_layers
    )


def _guess_variant(tensors: dict[str, Tensor], has_copies: bool) -> str:
    is_refined = has_copies or _branches_differ(tensors)
    if "memory_trans_fc.weight" not in tensors:
        return "refine" if is_refined else "base"
    if not is_refined:
        raise InputError(
            "all decoder layers of this two-stage model have the same branches: if it has "
            "with_box_refine=False, no other code can run it, since they refine every two-stage model; if "
            "not, say --variant two-stage"
        )
    return "two-stage"


def _has_copy(name: str, variant: str) -> bool:
    """Whether the decoder holds the branch too: its boxes to refine, its classes to rank proposals."""
    match = _BRANCH.fullmatch(name)
    return bool(match) and variant in (VARIANTS[1:] if match[1] == "reg" else VARIANTS[2:])


def _zero_biases(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Biases of the neck, which the others always have and mmdet leaves out before a norm."""
    return {
        key.removesuffix("weight") + "bias": tensor.new_zeros(len(tensor))
        for key, tensor in tensors.items()
        if re.fullmatch(r"neck\..*\.conv\.weight", key)
    }


def _drop_zero_biases(tensors: dict[str, Tensor]) -> None:
    biases = [key for key in tensors if re.fullmatch(r"neck\..*\.conv\.bias", key)]
    if not any(tensors[key].any() for key in biases):
        for key in biases:
            del tensors[key]
