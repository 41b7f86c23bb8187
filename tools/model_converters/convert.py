"""Convert a checkpoint from one code base to another; see docs/checkpoints.md.

python tools/model_converters/convert.py r50_deformable_detr-checkpoint.pth ours.pth
python tools/model_converters/convert.py ours.pth model.safetensors --to huggingface
"""

import re
import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import safetensors.torch
from mmengine.runner import save_checkpoint
from torch import Tensor

from projects.checkpoint_conversion.conversion import convert
from projects.checkpoint_conversion.names import FAMILIES
from projects.checkpoint_conversion.weights import VARIANTS
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.atomic_file import write_atomically
from projects.reliable_runner.files.checkpoint_file import read_tensors
from projects.reliable_runner.launcher import run_tool


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Convert a checkpoint from one code base to another.")
    parser.add_argument("source", type=Path, help="checkpoint to read (.pth, .bin, .safetensors)")
    parser.add_argument("target", type=Path, help="checkpoint to write")
    parser.add_argument("--to", choices=FAMILIES, default="mmdet", help="by default mmdet")
    what = "which rows of the other code's class branches are our classes, in their order: ids with commas "
    what += "between, coco (91 rows, 80 in use; the default where the number of rows fits) or all"
    parser.add_argument("--classes", help=what)
    parser.add_argument("--variant", choices=VARIANTS, help="by default guessed from the weights")
    args = parser.parse_args(argv)

    tensors, others = read_tensors(args.source.expanduser())
    meta = others.pop("meta", None)
    try:
        known = meta if isinstance(meta, dict) else {}
        result, meta = convert(tensors, args.to, args.classes, args.variant, known)
    except ValueError as error:
        raise InputError(f"{args.source}: {error}") from error
    write(args.target, args.to, result, meta)

    family, variant = meta["converted_from"], meta["variant"]
    print(f"{args.source}: {family} ({FAMILIES[family]}), {variant}")
    if others:
        print(f"left out: {', '.join(map(str, others))}")
    rows = next(len(t) for key, t in result.items() if re.search(r"(branches|class_embed)\.0\.bias$", key))
    print(f"{args.target}: {args.to} ({FAMILIES[args.to]}), {rows} rows of classes")
    if settings := meta.get("cfg_options"):
        print(f"it needs --cfg-options {' '.join(f'{key}={value}' for key, value in settings.items())}")


def write(path: Path, family: str, tensors: dict[str, Tensor], meta: dict) -> None:
    """Write a file as the code of ``family`` reads it; ``meta`` goes into mmdet's alone."""
    if path.suffix not in (".pth", ".pt", ".bin", ".safetensors"):
        raise InputError(f"{path}: the name of a checkpoint ends with .pth, .pt, .bin or .safetensors")
    is_huggingface = family.startswith("huggingface")
    if path.suffix == ".safetensors":
        if not is_huggingface:
            raise InputError(f"{path}: {family} reads .pth")
        write_atomically(path, safetensors.torch.save(tensors, {"format": "pt"}))
        return
    contents = {"state_dict": tensors, "meta": meta} if family == "mmdet" else {"model": tensors}
    save_checkpoint(tensors if is_huggingface else contents, str(path))


if __name__ == "__main__":
    sys.exit(run_tool(main))
