"""Which code base the weights of a checkpoint are from, judged by their names."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

# The first pattern that a name matches decides.
_PATTERNS = {
    "huggingface": r"(model\.)?decoder\.layers\.\d+\.encoder_attn\.sampling_offsets\.",
    "mmdet": r"(encoder|decoder)\.layers\.\d+\.(self|cross)_attn\.sampling_offsets\.",
    "mmdet2": r"bbox_head\.transformer\.",
    "detrex": r"transformer\.encoder\.layers\.\d+\.attentions\.\d+\.sampling_offsets\.",
    "official": r"transformer\.encoder\.layers\.\d+\.self_attn\.sampling_offsets\.",
    "detr": r"((model|transformer)\.)?encoder\.layers\.\d+\.self_attn\.",
    "resnet": r"layer1\.0\.conv1\.weight$",
}
_CONVERT = "convert them: python tools/model_converters/convert.py {argument} OUT.pth"
# Whose they are, and what to do.
_OWNERS = {
    "mmdet": ("this project and MMDetection 3", ""),
    "huggingface": ("Hugging Face transformers", _CONVERT),
    "detrex": ("detrex", _CONVERT),
    "official": ("the official code", _CONVERT),
    "mmdet2": ("MMDetection 2", "take those that MMDetection's model zoo has for version 3"),
    "detr": ("a DETR without deformable attention", "that is another model"),
    "resnet": (
        "a ResNet alone",
        'give them to the backbone: model.backbone.init_cfg=dict(type="Pretrained", checkpoint="{path}")',
    ),
}


def guess_family(keys: Iterable[str]) -> str | None:
    """Guess by their names whose weights these are; a leading ``module.`` is passed over.

    "mmdet" (3.x, and ours), "mmdet2", "official" (fundamentalvision), "huggingface" or "detrex" for a
    Deformable DETR, "detr" for a plain DETR of any of them, "resnet" for torchvision's, or None.
    """
    names = [key.removeprefix("module.") for key in keys]
    fits = (kind for kind, pattern in _PATTERNS.items() if any(re.match(pattern, name) for name in names))
    return next(fits, None)


def whose_weights(keys: Iterable[str]) -> str:
    """Say whose weights these are, by which of their names."""
    keys = list(keys)
    family = guess_family(keys)
    if family is None:
        return "of an unknown family"
    owner, _ = _OWNERS[family]
    return f"those of {owner}, such as {next(k for k in keys if guess_family([k]) == family)}"


def foreign_weights(keys: Iterable[str], path: str | Path) -> str | None:
    """Say whose weights the file ``path`` holds and what to do with it; None if they may be ours."""
    keys = list(keys)
    family = guess_family(keys)
    if family in (None, "mmdet"):
        return None
    _, remedy = _OWNERS[family]
    remedy = remedy.format(path=path, argument=shlex.quote(str(path)))
    return f"its weights are {whose_weights(keys)}; {remedy}"
