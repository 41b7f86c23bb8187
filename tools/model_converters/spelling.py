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
_QUERY_KEY_VALUE = re.compile(
    r"(model\.decoder\.layers\.\d+\.self_attn\.)([qkv])_proj\.(weight|bias)"
)


def count_levels(tensors: dict[str, Tensor]) -> Levels:
    """Levels of the neck, in any family: convolutions on the backbone's levels are 1x1, the further 3x3."""
    name = r"(module\.)?(model\.input_proj|input_proj|neck\.convs|neck\.extra_convs)\.\d+\.(0|conv)\.weight"
    kernels = [tensor.shape[-1] for key, tensor in tensors.items() if re.fullmatch(name, key)]
    embeds = [len(tensor) for key, tensor in tensors.items() if re.search(r"\blevel_embeds?$", key)]
    backbone = kernels.count(1)
    return Levels(backbone, max(len(kernels), *embeds, backbone) - backbone)


def plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as the table has them: those of files, without a wrapper's prefix, attention in one piece."""
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    result, pieces = {}, {}
    for key, tensor in tensors.items():
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


def count_layers(tensors: Iterable[str], layers: str) -> int:
    """How many layers there are under ``layers``; one that is not there at all counts, to be missed."""
    numbers = [re.match(re.escape(layers) + r"(\d+)\.", key) for key in tensors]
    return 1 + max((int(match[1]) for match in numbers if match), default=0)
