"""Convert a checkpoint from one code base to another; see docs/checkpoints.md.

python tools/model_converters/convert.py r50_deformable_detr-checkpoint.pth ours.pth
python tools/model_converters/convert.py ours.pth model.safetensors --to huggingface
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import run_tool
from tools.model_converters.classes import COCO_IDS, NUMBERED_BY_ID, parse_ids, select, spread
from tools.model_converters.files import check_out_path, read_tensors, write_tensors
from tools.model_converters.names import FAMILIES
from tools.model_converters.weights import VARIANTS, Weights, decode, encode, guess_family


def main(argv: list[str] | None = None) -> None:
    """Convert as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description="Convert a checkpoint from one code base to another.")
    parser.add_argument("source", type=Path, help="checkpoint to read (.pth, .bin, .safetensors)")
    parser.add_argument("target", type=Path, help="checkpoint to write")
    parser.add_argument("--from", dest="family", choices=FAMILIES, help="by default guessed")
    parser.add_argument("--to", choices=FAMILIES, default="mmdet", help="by default mmdet")
    parser.add_argument(
        "--classes",
        help="which rows of the other code's class branches are our classes, in their order: ids with "
        "commas between, coco (91 rows, 80 in use; the default where the number of rows fits) or all",
    )
    parser.add_argument("--variant", choices=VARIANTS, help="by default guessed from the weights")
    args = parser.parse_args(argv)

    check_out_path(args.target, args.to)
    tensors, others = read_tensors(args.source.expanduser())
    meta = others.pop("meta", None)
    meta = meta if isinstance(meta, dict) else {}
    try:
        family = args.family or guess_family(tensors)
        if family == args.to:
            raise InputError(f"it is of {family} already: name another family with --to")
        weights = decode(tensors, family, args.variant or meta.get("variant"))
        if "unused_classes" in meta:
            weights.ids, weights.unused = tuple(meta["class_rows"]), meta["unused_classes"]
        before = weights.num_classes
        convert_classes(weights, family, args.to, args.classes)
        after = weights.num_classes
        write_tensors(args.target, args.to, encode(weights, args.to), meta_of(weights, family))
    except InputError as error:
        raise InputError(f"{args.source}: {error}") from error

    print(f"{args.source}: {family} ({FAMILIES[family]}), {weights.variant}, {before} classes")
    if others:
        print(f"left out: {', '.join(map(str, others))}")
    print(f"{args.target}: {args.to} ({FAMILIES[args.to]}), {weights.variant}, {after} classes")
    if args.to == "mmdet" and "neck.convs.0.conv.bias" in weights.tensors:
        print("it needs model.neck.bias=True in the config: its neck has biases")


def meta_of(weights: Weights, family: str) -> dict:
    """What a file of ours keeps beside the weights, for the way back."""
    meta = dict(converted_from=family, variant=weights.variant)
    if weights.ids is not None:
        meta.update(class_rows=list(weights.ids), unused_classes=weights.unused)
    return meta


def convert_classes(weights: Weights, source: str, target: str, classes: str | None) -> None:
    """Select or spread the rows of the class branches on the way from ``source`` to ``target``.

    Args:
        weights: changed in place.
        source: family of the file that was read.
        target: family of the file to write.
        classes: "coco", "all", ids with commas between; None is "coco" where the numbers of rows fit.
    """
    if classes == "all":
        return
    if source in NUMBERED_BY_ID and (classes or weights.num_classes == 91):
        select(weights, parse_ids(classes or "coco"))
    if target in NUMBERED_BY_ID and (classes or weights.num_classes == len(COCO_IDS)):
        spread(weights, parse_ids(classes or "coco"))


if __name__ == "__main__":
    sys.exit(run_tool(main))
