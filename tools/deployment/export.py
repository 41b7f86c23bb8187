"""Write a detector as a file that runs without this code base, and check what was written.

python tools/deployment/export.py CONFIG CHECKPOINT --to onnx
python tools/deployment/export.py CONFIG CHECKPOINT --to openvino --fp16 --out exported/detector.xml

See docs/deployment.md.
"""

import logging
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.registry import DATASETS
from torch import Tensor, nn

from projects.deployment.description import Description
from projects.deployment.exported_detector import ExportedDetector
from projects.deployment.graph import DetectorGraph
from projects.deployment.parity import HEADS, compare
from projects.deployment.targets import SUFFIXES, module_of
from projects.reliable_runner.errors import InputError, first_line
from projects.reliable_runner.files.disk_space import check_writable
from projects.reliable_runner.files.media import find_media, is_video
from projects.reliable_runner.inference import init_detector, prepare
from projects.reliable_runner.launcher import config_parser, positive_int, run_tool

TOLERANCE, HALF_TOLERANCE = 1e-4, 0.1


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    check_writable(args.out.parent, "folder of the file", "--out")
    detector = init_detector(args.config, args.checkpoint, "cpu", args.cfg_options)
    images = read_images(detector, args)
    graph, texts = DetectorGraph(detector), Description.of(detector).texts()
    with warnings.catch_warnings():  # of torch about its own code
        warnings.simplefilter("ignore")
        for name in ("torch.onnx", "onnxscript"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            module_of(args.out).write(graph, args.out, texts, args.fp16)
        except (torch.onnx.OnnxExporterError, torch._dynamo.exc.UserError) as error:
            kind = type(detector.backbone).__name__
            raise InputError(
                f"torch can't export it ({kind} as its backbone): {first_line(error.__cause__ or error)}"
            ) from error
    files = [args.out, *([args.out.with_suffix(".bin")] if args.to == "openvino" else [])]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{', '.join(map(str, files))}: {size:.1f} MB")
    if not args.no_check:
        check(detector, args.out, images, HALF_TOLERANCE if args.fp16 else TOLERANCE)


def parse_args(argv: list[str] | None) -> Namespace:
    parser = config_parser("Export a detector and check the file.")
    parser.add_argument("checkpoint", help="checkpoint: a file, an address or the name of a published model")
    what = "onnxruntime and others; OpenVINO; torch without this code base"
    parser.add_argument("--to", choices=SUFFIXES, required=True, help=what)
    what = f"the file, which ends with {', '.join(SUFFIXES.values())}; by default beside the checkpoint"
    parser.add_argument("--out", type=Path, help=what)
    parser.add_argument("--fp16", action="store_true", help="store the weights in float16 (openvino)")
    what = "images, or folders of them, to check with; by default the config's test data"
    parser.add_argument("--images", nargs="+", help=what)
    parser.add_argument("--num-images", type=positive_int, default=3, help="how many of them (3)")
    parser.add_argument("--no-check", action="store_true", help="write the file alone")
    args = parser.parse_args(argv)
    suffix = SUFFIXES[args.to]
    if args.out is None:
        folder = Path(args.checkpoint).parent if Path(args.checkpoint).is_file() else Path()
        args.out = folder / (Path(args.checkpoint).stem + suffix)
    if args.out.suffix != suffix:
        parser.error(f"--out {args.out}: a file of --to {args.to} ends with {suffix}")
    if args.fp16 and args.to != "openvino":
        parser.error(f"--fp16 is for --to openvino; {args.to} is written in float32")
    return args


def read_images(detector: nn.Module, args: Namespace) -> list[Tensor]:
    """The first images to check with, as the test pipeline of ``detector`` makes them."""
    if args.no_check:
        return []
    if args.images:
        paths = [path for path in find_media(args.images) if not is_video(path)]
    else:
        try:
            dataset = DATASETS.build(detector.cfg.test_dataloader.dataset)
        except InputError as error:
            raise InputError(f"{error}; to check with other images give --images") from error
        paths = [dataset.get_data_info(i)["img_path"] for i in range(min(args.num_images, len(dataset)))]
    if not paths:
        raise InputError("there are no images to check with: give --images, or --no-check")
    return [prepare(detector, str(path))["inputs"] for path in paths[: args.num_images]]


def check(detector: nn.Module, path: Path, images: Sequence[Tensor], tolerance: float) -> None:
    """Compare the file with ``detector`` and print the table; `InputError` if they differ."""
    wrong = []
    print_line(HEADS)
    for comparison in compare(detector, ExportedDetector(path), images, tolerance):
        print_line(comparison.line())
        wrong += [comparison.case] if comparison.missing else []
    if wrong:
        raise InputError(f"{path} differs from PyTorch by more than {tolerance:g}: {', '.join(wrong)}")


def print_line(cells: Sequence[str]) -> None:
    widths = 14, 5, 11, 10, 16, 15, 0
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(run_tool(main))
