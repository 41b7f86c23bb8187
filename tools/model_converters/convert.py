"""Convert a checkpoint from one code base to another; see docs/checkpoints.md.

python tools/model_converters/convert.py r50_deformable_detr-checkpoint.pth ours.pth
python tools/model_converters/convert.py ours.pth model.safetensors --to huggingface
"""

import re
import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from torch import Tensor

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import run_tool
from tools.model_converters.classes import COCO_IDS, NUMBERED_BY_ID, num_rows, parse_ids, select, spread
from tools.model_converters.files import read_tensors, write_tensors
from tools.model_converters.names import FAMILIES
from tools.model_converters.weights import VARIANTS, decode, encode, guess_family, guess_variant

# In what other codes differ from our configs.
SETTINGS = dict(
    detrex={"model.bbox_head.inverse_sigmoid_eps": 1e-3, "model.test_cfg.max_per_img": 300},
)


def convert(
    state_dict: dict[str, Tensor],
    to: str = "mmdet",
    classes: str | None = None,
    variant: str | None = None,
    meta: dict | None = None,
) -> tuple[dict[str, Tensor], dict]:
    """Convert the weights of a Deformable DETR from one code base to another.

    Args:
        state_dict: by the names of any of `FAMILIES`; left as it is.
        to: another of `FAMILIES`.
        classes: which rows of the other's class branches are our classes, in their order: "coco", "all", or
            ids with commas between. None is "coco" where the numbers of rows fit (91, or 80 on the way out).
        variant: one of `VARIANTS`; None takes that of ``meta``, or guesses it.
        meta: what an earlier conversion to mmdet has returned beside ``state_dict``.

    Returns:
        The weights by their new names, and for the way back: ``converted_from``, ``variant`` and, where rows
        of the class branches were selected, ``class_rows`` and ``unused_classes``; and, on the way to mmdet,
        ``cfg_options``: the settings that a config of ours needs for the same numbers.

    Raises:
        InputError: the weights are not all of a Deformable DETR, or ``classes`` does not fit them.
    """
    family = guess_family(state_dict)
    if family == to:
        raise InputError(f"it is of {family} already: name another family with --to")
    meta = meta or {}
    tensors = decode(state_dict, family)
    variant = variant or meta.get("variant") or guess_variant(state_dict, tensors)
    result = dict(converted_from=family, variant=variant)
    result |= {key: meta[key] for key in ("class_rows", "unused_classes") if key in meta}
    two_stage, ids = variant == "two-stage", parse_ids(classes or "coco") if classes != "all" else []
    if ids and family in NUMBERED_BY_ID and (classes or num_rows(tensors) == 91):
        result.update(class_rows=ids, unused_classes=select(tensors, ids, two_stage))
    if ids and to in NUMBERED_BY_ID and (classes or num_rows(tensors) == len(COCO_IDS)):
        unused = result["unused_classes"] if result.get("class_rows") == ids else {}
        spread(tensors, ids, two_stage, unused)
    converted = encode(tensors, to, variant)
    if to == "mmdet":
        settings = {"model.neck.bias": True} if "neck.convs.0.conv.bias" in converted else {}
        result["cfg_options"] = settings | SETTINGS.get(family, {})
    return converted, result


def main(argv: list[str] | None = None) -> None:
    """Convert as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description="Convert a checkpoint from one code base to another.")
    parser.add_argument("source", type=Path, help="checkpoint to read (.pth, .bin, .safetensors)")
    parser.add_argument("target", type=Path, help="checkpoint to write")
    parser.add_argument("--to", choices=FAMILIES, default="mmdet", help="by default mmdet")
    parser.add_argument(
        "--classes",
        help="which rows of the other code's class branches are our classes, in their order: ids with "
        "commas between, coco (91 rows, 80 in use; the default where the number of rows fits) or all",
    )
    parser.add_argument("--variant", choices=VARIANTS, help="by default guessed from the weights")
    args = parser.parse_args(argv)

    tensors, others = read_tensors(args.source.expanduser())
    meta = others.pop("meta", None)
    meta = meta if isinstance(meta, dict) else {}
    try:
        result, meta = convert(tensors, args.to, args.classes, args.variant, meta)
    except InputError as error:
        raise InputError(f"{args.source}: {error}") from error
    write_tensors(args.target, args.to, result, meta)

    family, variant = meta["converted_from"], meta["variant"]
    print(f"{args.source}: {family} ({FAMILIES[family]}), {variant}")
    if others:
        print(f"left out: {', '.join(map(str, others))}")
    rows = next(len(t) for key, t in result.items() if re.search(r"(branches|class_embed)\.0\.bias$", key))
    print(f"{args.target}: {args.to} ({FAMILIES[args.to]}), {rows} rows of classes")
    if settings := meta.get("cfg_options"):
        print(f"it needs --cfg-options {' '.join(f'{key}={value}' for key, value in settings.items())}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
