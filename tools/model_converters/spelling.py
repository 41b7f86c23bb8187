"""What differs in names or shapes between the code bases beyond the table."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from tools.model_converters.names import Levels

# What transformers 5 calls in memory is written to a file under the names of transformers 4.
_IN_MEMORY = (
    (re.compile(r"^model\.backbone\.model\."), "model.backbone.conv_encoder.model."),
    (re.compile(r"\.self_attn\.o_proj\."), ".self_attn.out_proj."),
    (re.compile(r"\.mlp\.fc"), ".fc"),
)
_NUMBERED = re.compile(r"(.*?(?:layers|branches|layer\d)\.)(\d+)\.")
_QUERY_KEY_VALUE = re.compile(r"(model\.decoder\.layers\.\d+\.self_attn\.)([qkv])_proj\.(weight|bias)")


def count_levels(tensors: dict[str, Tensor]) -> Levels:
    """Levels of the neck, in any family: convolutions on the backbone's levels are 1x1, the further 3x3."""
    name = r"(module\.)?(model\.input_proj|input_proj|neck\.convs|neck\.extra_convs)\.\d+\.(0|conv)\.weight"
    kernels = [tensor.shape[-1] for key, tensor in tensors.items() if re.fullmatch(name, key)]
    embeds = [len(tensor) for key, tensor in tensors.items() if re.search(r"\blevel_embeds?$", key)]
    backbone = kernels.count(1)
    return Levels(backbone, max(len(kernels), *embeds, backbone) - backbone)


def plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as the table has them: those of files, without a wrapper's prefix, attention in one piece.

    The mean and standard deviation of pixels, which mmdet's published files hold, are a config's affair.
    """
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    result, pieces = {}, {}
    for key, tensor in tensors.items():
        if key in ("data_preprocessor.mean", "data_preprocessor.std"):
            continue
        for pattern, name in _IN_MEMORY:
            key = pattern.sub(name, key)
        if match := _QUERY_KEY_VALUE.fullmatch(key):
            pieces.setdefault(f"{match[1]}in_proj_{match[3]}", {})[match[2]] = tensor
        else:
            result[key] = tensor
    for key, piece in pieces.items():
        if len(piece) == 3:
            result[key] = torch.cat([piece[letter] for letter in "qkv"])
    return result


def split_attention(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value of the decoder's self-attention apart, as transformers has them."""
    result = {}
    for key, tensor in tensors.items():
        if "in_proj_" in key:
            for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
                result[key.replace("in_proj_", f"{letter}_proj.")] = piece
        else:
            result[key] = tensor
    return result


def count_layers(tensors: Iterable[str]) -> dict[str, int]:
    """How many layers, blocks or branches there are, by mmdet's name up to their number."""
    counts = {}
    for key in tensors:
        if match := _NUMBERED.match(key):
            counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
    return counts
