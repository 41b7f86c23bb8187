"""Detect objects in images and videos: pictures with boxes, and a JSON file of the results.

python tools/infer.py IMAGE_OR_FOLDER_OR_VIDEO... --model ddetr_r50_50e_two_stage
python tools/infer.py IMAGE_OR_FOLDER_OR_VIDEO... CONFIG CHECKPOINT --out-dir outputs
python tools/infer.py IMAGE_OR_FOLDER_OR_VIDEO... model.onnx

See docs/inference.md; in Python: projects/reliable_runner/inference.py.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from mmengine.structures import BaseDataElement
from torch import nn
from tqdm import tqdm

from projects.deployment.exported_detector import ExportedDetector
from projects.deployment.targets import is_exported
from projects.reliable_runner.drawing import build_visualizer, draw_sample
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import shorten
from projects.reliable_runner.files.download import download
from projects.reliable_runner.files.media import MediaWriter, Video, find_media, is_video, short_names
from projects.reliable_runner.files.model_index import find_model, table
from projects.reliable_runner.inference import (
    detect_each,
    file_name,
    init_detector,
    is_address,
    prepare,
    read_image,
)
from projects.reliable_runner.launcher import add_cfg_options, positive_int, run_tool
from projects.reliable_runner.metric.coco_results import CocoResults, ids_of
from projects.reliable_runner.metric.result_formats import FORMATS, save_as
from projects.reliable_runner.progress import progress
from projects.reliable_runner.slicing import detect_sliced


class Frame(NamedTuple):
    """An image, or a frame of a video, which has a number from 0 on and frames a second."""

    name: str
    image: np.ndarray  # (h, w, 3), BGR
    prepared: dict  # by the test pipeline
    number: int | None = None
    fps: float | None = None

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name} frame {self.number}"


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.list_models:
        return print(table())
    if args.model:
        find_model(args.model)
    with TemporaryDirectory() as folder:
        infer(args, find_media(list(fetched(args.inputs, Path(folder)))))


def fetched(inputs: Sequence[str], folder: Path) -> Iterator[str | Path]:
    """Yield ``inputs``, those that are addresses as files in ``folder``."""
    for number, entry in enumerate(inputs):
        path = folder / str(number) / file_name(entry)
        yield download(entry, path=path) if is_address(entry) else entry


def infer(args: Namespace, paths: Sequence[Path]) -> None:
    names = short_names(paths)
    if args.exported:
        detector = ExportedDetector(args.exported)
    else:
        detector = init_detector(args.config, args.checkpoint, args.device, args.cfg_options)
    classes = detector.dataset_meta["classes"]
    if args.ann_file:
        ids, category_ids = ids_of(args.ann_file, paths, classes)
        results = CocoResults(classes, category_ids, dict(zip(names, ids, strict=True)))
    else:
        results = CocoResults(classes)
    visualizer = build_visualizer(detector.cfg, classes)

    unread: list[str] = []
    try:
        with progress(len(paths), "image", smoothing=0) as bar, MediaWriter(args.out_dir / "vis") as pictures:
            frames = read_frames(detector, dict(zip(names, paths, strict=True)), unread, bar)
            for frame, sample in detect(detector, frames, args):
                found = results.add(frame.name, sample, frame.number)
                if args.print_result:
                    bar.write("\n".join([str(frame), *map(results.describe, found)]))
                if not args.no_save_vis:
                    pictures.write(frame.name, draw_sample(visualizer, frame.image, sample), frame.fps)
                bar.update()
    finally:  # what an interrupted run has found is not lost
        if results.images:
            if not args.no_save_pred:
                results.save(args.out_dir / "predictions.json")
            for kind in args.to:
                save_as(results, kind, args.out_dir / kind)
    if not results.images:
        raise InputError(f"nothing could be read: {shorten(unread)}")
    print(f"{len(results.annotations)} detections in {len(results.images)} images")
    if unread:
        print(f"skipped, {len(unread)} files can't be read or prepared, or not to the end: {shorten(unread)}")
    if not args.no_save_vis:
        print(f"pictures: {args.out_dir / 'vis'}")
    files = [*([] if args.no_save_pred else ["predictions.json"]), *args.to]
    if files:
        print(f"results: {', '.join(str(args.out_dir / file) for file in files)}")


def parse_args(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description="Detect objects in images and videos.")
    what = "images, videos (addresses too), folders of them, patterns such as 'data/**/*.jpg'"
    what += "; without --model behind them a config and a checkpoint (a file, an address or a model's name), "
    what += "or what tools/deployment/export.py has written"
    parser.add_argument("inputs", nargs="*", help=what, metavar="INPUT")
    parser.add_argument("--model", metavar="NAME", help="a published model instead of config and checkpoint")
    parser.add_argument("--list-models", action="store_true", help="print the published models, and end")
    parser.add_argument("--out-dir", type=Path, default="outputs", help="for vis/ and predictions.json")
    what = "write the results in these forms too (predictions.json is COCO's), each into its folder"
    parser.add_argument("--to", nargs="+", choices=FORMATS, default=[], help=what)
    parser.add_argument("--device", help="cpu, cuda:0, ...; by default a GPU if there is one")
    what = "detections of a lower score are neither drawn nor written (0.3); 0 keeps all"
    parser.add_argument("--score-thr", "--pred-score-thr", type=float, default=0.3, help=what)
    parser.add_argument("--batch-size", type=positive_int, default=1, help="images at once (1)")
    what = "detect in overlapping slices of this many pixels too (NMS across slices): for small objects"
    parser.add_argument("--slice", type=positive_int, metavar="PIXELS", help=what)
    what = "overlap of slices, a share of their side below 1 (0.2)"
    parser.add_argument("--slice-overlap", type=float, default=0.2, help=what)
    what = "boxes of a class that overlap more than this count once (0.5)"
    parser.add_argument("--slice-iou-thr", type=float, default=0.5, help=what)
    parser.add_argument("--ann-file", type=Path, help="COCO file whose image and category ids are taken")
    parser.add_argument("--no-save-vis", action="store_true", help="write no pictures")
    parser.add_argument("--no-save-pred", action="store_true", help="write no predictions.json")
    parser.add_argument("--print-result", action="store_true", help="print what is found")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.slice_overlap < 1:
        parser.error(f"--slice-overlap is {args.slice_overlap}; it must be in [0, 1)")
    args.config, args.checkpoint, args.exported = args.model, args.model, None
    if len(args.inputs) > 1 and is_exported(args.inputs[-1]):
        *args.inputs, args.exported = args.inputs
        check_options(parser, args)
    elif not args.model and len(args.inputs) > 2:
        *args.inputs, args.config, args.checkpoint = args.inputs
    if not (args.list_models or args.inputs and (args.config or args.exported)):
        parser.error("give INPUT... and --model NAME, INPUT... CONFIG CHECKPOINT, or INPUT... model.onnx")
    return args


def check_options(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse what an exported file can't follow."""
    if args.inputs[-1].endswith(".py"):
        parser.error(f"{args.inputs[-1]}: {args.exported} has its config inside; leave the config out")
    if args.model:
        parser.error(f"--model {args.model}: {args.exported} is a detector too; give one of them")
    if args.device not in (None, "cpu"):
        parser.error(f"--device {args.device}: {args.exported} runs on the CPU; give config and checkpoint")
    if args.cfg_options:
        parser.error(f"--cfg-options: {args.exported} has its config inside; give them to export.py")


def read_frames(detector: nn.Module, files: dict[str, Path], unread: list[str], bar: tqdm) -> Iterator[Frame]:
    """Yield the images of all ``files``, paths by name.

    ``unread`` gets the names of those that can't be read, or not to their end, ``bar`` a warning for each.
    """
    for name, path in files.items():
        try:
            if is_video(path):
                video = Video(path)
                bar.total += max(video.num_frames - 1, 0)
                for number, image in enumerate(video):
                    yield Frame(name, image, prepare(detector, image, path), number, video.fps)
            else:
                image = read_image(detector, path)
                yield Frame(name, image, prepare(detector, image, path))
        except InputError as error:
            bar.write(f"warning: {error}", file=sys.stderr)
            bar.update()
            unread.append(name)


def detect(
    detector: nn.Module, frames: Iterator[Frame], args: Namespace
) -> Iterator[tuple[Frame, BaseDataElement]]:
    """Yield each frame with what is found in it; no more than a batch is held in memory."""
    if args.slice:
        options = args.slice, args.slice_overlap, args.slice_iou_thr, args.batch_size
        pairs = ((frame, detect_sliced(detector, frame.image, frame.prepared, *options)) for frame in frames)
    else:
        pairs = detect_each(detector, ((frame, frame.prepared) for frame in frames), args.batch_size)
    for frame, sample in pairs:
        found = sample.pred_instances
        sample.pred_instances = found[found.scores >= args.score_thr]
        yield frame, sample


if __name__ == "__main__":
    sys.exit(run_tool(main))
