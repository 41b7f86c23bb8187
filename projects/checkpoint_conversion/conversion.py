"""From one code base to another: names, class rows, and the settings that go with the weights."""

from torch import Tensor

from .classes import COCO_IDS, NUMBERED_BY_ID, add_labels, cut_labels, num_rows, parse_ids, select, spread
from .weights import VARIANTS, decode, encode, guess_family, guess_variant

# In what other codes differ from our configs.
_EPS = {"model.bbox_head.inverse_sigmoid_eps": 1e-3}
_POSITIONS = {"model.positional_encoding.offset": -0.5, "model.positional_encoding.temperature": 10000}
SETTINGS = {("detrex", variant): _EPS | {"model.test_cfg.max_per_img": 300} for variant in VARIANTS}
SETTINGS |= {("detrex", "dino"): _EPS | _POSITIONS, ("official", "dino"): _EPS}


def convert(
    state_dict: dict[str, Tensor],
    to: str = "mmdet",
    classes: str | None = None,
    variant: str | None = None,
    meta: dict | None = None,
) -> tuple[dict[str, Tensor], dict]:
    """Convert the weights of a Deformable DETR or DINO from one code base to another.

    Args:
        state_dict: by the names of any of `FAMILIES`; left as it is.
        to: another of `FAMILIES`.
        classes: which rows of the other's class branches are our classes, in their order: "coco", "all", or
            ids with commas between. None is "coco" where the numbers of rows fit (91, or 80 on the way out).
        variant: one of `VARIANTS`; None takes that of ``meta``, or guesses it.
        meta: what an earlier conversion to mmdet has returned beside ``state_dict``.

    Returns:
        The weights by their new names, and for the way back: ``converted_from``, ``variant`` and, where rows
        of the class branches were selected, ``class_rows`` and ``unused_classes``; of the official DINO
        ``unused_labels``; and, on the way to mmdet, ``cfg_options``: the settings that a config of ours needs
        for the same numbers.

    Raises:
        ValueError: the weights are not all of a Deformable DETR, or ``classes`` does not fit them.
    """
    family = guess_family(state_dict)
    if family == to:
        raise ValueError(f"it is of {family} already: name another family with --to")
    meta = meta or {}
    tensors = decode(state_dict, family)
    variant = variant or meta.get("variant") or guess_variant(state_dict, tensors)
    result = dict(converted_from=family, variant=variant)
    kept = ("class_rows", "unused_classes", "unused_labels")
    result |= {key: meta[key] for key in kept if key in meta}
    if family == "official" and (others := cut_labels(tensors)) is not None:
        result["unused_labels"] = others
    two_stage, ids = variant == "two-stage", parse_ids(classes or "coco") if classes != "all" else []
    if ids and family in NUMBERED_BY_ID and (classes or num_rows(tensors) == 91):
        result.update(class_rows=ids, unused_classes=select(tensors, ids, two_stage))
    if ids and to in NUMBERED_BY_ID and (classes or num_rows(tensors) == len(COCO_IDS)):
        unused = result["unused_classes"] if result.get("class_rows") == ids else {}
        spread(tensors, ids, two_stage, unused)
    if to == "official":
        add_labels(tensors, result.get("unused_labels"))
    converted = encode(tensors, to, variant)
    if to == "mmdet":
        settings = {"model.neck.bias": True} if "neck.convs.0.conv.bias" in converted else {}
        result["cfg_options"] = settings | SETTINGS.get((family, variant), {})
    return converted, result
