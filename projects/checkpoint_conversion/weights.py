"""The weights of a Deformable DETR from the names of any code base into mmdet's, and back."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from . import family as families
from .names import FAMILIES, kind_of_model, num_decoder_layers, rename_pairs

VARIANTS = ("base", "refine", "two-stage", "dino")
_BRANCH = re.compile(r"bbox_head\.(cls|reg)_branches\.(\d+)\.(.+)")
# The decoder holds the branches that it uses, to refine boxes or to rank proposals, under a second name.
_SECOND_NAME = re.compile(r"^(module\.)?(transformer|model)\.decoder\.(?=(class|bbox)_embed\.)")
# What transformers 5 calls in memory is written to a file under the names of transformers 4.
_IN_MEMORY = (
    (re.compile(r"^model\.backbone\.model\."), "model.backbone.conv_encoder.model."),
    (re.compile(r"\.self_attn\.o_proj\."), ".self_attn.out_proj."),
    (re.compile(r"\.mlp\.fc"), ".fc"),
)


def guess_family(names: Iterable[str]) -> str:
    """The family that has such names; `ValueError` if none of `FAMILIES` has."""
    names = list(names)
    family = families.guess_family(names)
    if family == "huggingface" and any("encoder.stages." in name for name in names):
        return "huggingface-resnet"
    if family not in FAMILIES:
        owner = families.whose_weights(names)
        raise ValueError(f"its weights are {owner}, not of {', '.join(FAMILIES)}: {_listed(names)}")
    return family


def decode(state_dict: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """Name all weights of a model, which has the names of ``family``, as mmdet does.

    `ValueError` if a name is unknown or missing, or the two names of a branch hold different numbers.
    """
    tensors, differing = _plain(state_dict)
    if family.startswith("huggingface"):
        _join_attention(tensors)
        _untie(tensors)
    pairs = list(rename_pairs(tensors, family, "mmdet"))
    known = dict(pairs)
    result = {ours: tensors[theirs] for theirs, ours in pairs if theirs in tensors}
    bottleneck = "backbone.layer1.0.conv3.weight" in result
    faults = {
        "names that are unknown": [key for key in tensors if key not in known],
        "weights that are missing": [
            theirs for theirs, ours in pairs if theirs not in tensors and _is_needed(ours, bottleneck)
        ],
        "branches that differ under their two names": differing,
    }
    if any(faults.values()):
        found = "; ".join(f"{len(names)} {what}: {_listed(names)}" for what, names in faults.items() if names)
        raise ValueError(
            f"read as {family} ({FAMILIES[family]}) it has {found}; convert a complete Deformable DETR with "
            "a ResNet as its code saved it"
        )
    biases = [key for key in result if re.fullmatch(r"neck\..*\.conv\.bias", key)]
    if family != "mmdet" and not any(result[key].any() for key in biases):
        for key in biases:  # mmdet has none before a norm
            del result[key]
    return result


def encode(tensors: dict[str, Tensor], family: str, variant: str) -> dict[str, Tensor]:
    """Name the weights ``tensors``, by mmdet's names, as ``family`` does; no two share memory.

    `ValueError` if ``family`` has no such model.
    """
    if family == "mmdet":
        return tensors
    is_huggingface = family.startswith("huggingface")
    if is_huggingface and variant == "dino":
        raise ValueError("it is a DINO, which transformers has not")
    decoder = "model.decoder." if is_huggingface else "transformer.decoder."
    both = ("bbox_embed", "class_embed")
    copied = {"base": (), "refine": ("bbox_embed",), "two-stage": both, "dino": both}[variant]
    zero_biases = {  # mmdet leaves them out before a norm
        key.removesuffix("weight") + "bias": tensor.new_zeros(len(tensor))
        for key, tensor in tensors.items()
        if re.fullmatch(r"neck\..*\.conv\.weight", key)
    }
    tensors = zero_biases | tensors
    result = {}
    for ours, theirs in rename_pairs(tensors, "mmdet", family):
        if ours not in tensors:
            continue
        if is_huggingface and variant == "base" and re.match(r"(class|bbox)_embed\.(?!0\.)", theirs):
            continue  # transformers ties the branches of all layers to the first and writes that alone
        if is_huggingface and "in_proj_" in theirs:
            for letter, piece in zip("qkv", tensors[ours].chunk(3), strict=True):
                result[theirs.replace("in_proj_", f"{letter}_proj.")] = piece
            continue
        result[theirs] = tensors[ours]
        if theirs.startswith(copied):
            result[decoder + theirs] = tensors[ours]
    return {key: tensor.clone() for key, tensor in result.items()}


def guess_variant(state_dict: dict[str, Tensor], tensors: dict[str, Tensor]) -> str:
    """One of `VARIANTS`, of a ``state_dict`` and the same by mmdet's names.

    What tells is whether the decoder's layers have branches of their own.
    """
    if kind_of_model(tensors) == "dino":
        return "dino"
    num_layers = num_decoder_layers(tensors)
    is_refined = any(map(_SECOND_NAME.match, state_dict)) or any(
        not torch.equal(tensor, tensors[f"bbox_head.{match[1]}_branches.0.{match[3]}"])
        for key, tensor in tensors.items()
        if (match := _BRANCH.fullmatch(key)) and int(match[2]) < num_layers
    )
    if "memory_trans_fc.weight" not in tensors:
        return "refine" if is_refined else "base"
    if not is_refined:
        raise ValueError(
            "all decoder layers of this two-stage model have the same branches: if it has "
            "with_box_refine=False, no other code can run it, since they refine every two-stage model; if "
            "not, say --variant two-stage"
        )
    return "two-stage"


def _plain(state_dict: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Names as the table has them, and second names with other numbers.

    The mean and standard deviation of pixels, which mmdet's published files hold, belong to a config.
    """
    result, differing = {}, []
    for name, tensor in state_dict.items():
        key = _SECOND_NAME.sub("", name).removeprefix("module.")
        for pattern, in_file in _IN_MEMORY:
            key = pattern.sub(in_file, key)
        if key in result and not torch.equal(result[key], tensor):
            differing.append(name)
        if key not in ("data_preprocessor.mean", "data_preprocessor.std"):
            result[key] = tensor
    return result, differing


def _join_attention(tensors: dict[str, Tensor]) -> None:
    """Pack query, key and value, which transformers has apart."""
    for key in [key for key in tensors if ".self_attn.q_proj." in key]:
        names = [key.replace("q_proj", f"{letter}_proj") for letter in "qkv"]
        if all(name in tensors for name in names):
            tensors[key.replace("q_proj.", "in_proj_")] = torch.cat([tensors.pop(name) for name in names])


def _untie(tensors: dict[str, Tensor]) -> None:
    """Give every decoder layer the branch that all share and that transformers writes once."""
    for kind in ("class_embed", "bbox_embed"):
        if not any(key.startswith(f"{kind}.1.") for key in tensors):
            for key in [key for key in tensors if key.startswith(f"{kind}.0.")]:
                for i in range(1, num_decoder_layers(tensors)):
                    tensors[key.replace(".0.", f".{i}.", 1)] = tensors[key]


def _is_needed(name: str, bottleneck: bool) -> bool:
    """Whether the tensor, by mmdet's name, is in every complete model."""
    if re.fullmatch(r".*\.num_batches_tracked|neck\..*\.conv\.bias", name):
        return False
    if re.search(r"\.(conv|bn)3\.", name):
        return bottleneck
    # A shortcut is where the number of channels changes.
    return "downsample" not in name or (".0.downsample" in name and (bottleneck or "layer1" not in name))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
