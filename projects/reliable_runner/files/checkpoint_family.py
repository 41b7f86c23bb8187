"""Which code base the weights of a checkpoint are from, judged by their names."""

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Iterable
from contextlib import suppress
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
_CONVERT = "convert them: python tools/model_converters/convert.py {path} OUT.pth"
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
_LEGACY_PICKLES = 4  # a magic number, the protocol, the system, and then the object
_MOST_BYTES = 2**23  # the names in a checkpoint take a few 100 kB


def guess_family(keys: Iterable[str]) -> str | None:
    """Guess whose weights these are.

    Args:
        keys: names of the weights; a leading ``module.`` is passed over.

    Returns:
        "mmdet" (3.x, and ours), "mmdet2", "official" (fundamentalvision), "huggingface" or "detrex" for a
        Deformable DETR, "detr" for a plain DETR of any of them, "resnet" for torchvision's, or None.
    """
    names = [key.removeprefix("module.") for key in keys]
    for family, pattern in _PATTERNS.items():
        if any(re.match(pattern, name) for name in names):
            return family
    return None


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
    return f"its weights are {whose_weights(keys)}; {remedy.format(path=path)}"


def stored_names(path: Path) -> list[str]:
    """The strings in a file of ``torch.save`` or safetensors, among them the names of its weights.

    Nothing is unpickled, the strings are read off its instructions; of a damaged file those before the
    damage.
    """
    names: list[str] = []
    with suppress(Exception), path.open("rb") as file:  # what a damaged file raises has no bounds
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                (entry,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                start = archive.open(entry).read(_MOST_BYTES)
        else:
            file.seek(0)
            start = file.read(_MOST_BYTES)
        if is_safetensors(start):
            return list(json.loads(start[8 : 8 + int.from_bytes(start[:8], "little")]))
        pickles = io.BytesIO(start)
        for _ in range(_LEGACY_PICKLES):
            for _, value, _ in pickletools.genops(pickles):
                if isinstance(value, str):
                    names.append(value)
    return names


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is of safetensors: the length of a JSON header, then the header."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < _MOST_BYTES
