"""Plot time and memory against the size of the image: ours, mmdet's and transformers' Deformable DETR.

python benchmarks/size.py configs/ddetr_r50_50e_two_stage.py --out docs/images/size.png

All have the same random weights, and their best scores on one square of noise must be equal before a size is
timed. Each measurement is a process of its own, one after the other; its memory is the largest resident set.
A training step is losses with auxiliary ones, backward and AdamW at a learning rate of zero. What does not
fit into memory is left out.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(sys.prefix) / "transformers"))  # where `make test` installs it

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.models import Candidate, use_ours_in_mmcv
from benchmarks.random_batch import random_batch
from benchmarks.timing import in_own_process, median_seconds, use_threads
from benchmarks.train import build_mmdets
from projects.attention_viewer.sheet import save
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import init_detector
from projects.reliable_runner.launcher import positive_int, run_tool
from projects.reliable_runner.log import quiet
from projects.reliable_runner.training.log_processor import peak_resident_mb
from tools.publish_model import transformers_files

WHOSE = {"ours": "tab:blue", "mmdet's": "tab:orange", "transformers'": "tab:green"}
STEPS = ["inference", "training step"]
TOLERANCE = 1e-4  # of the best 100 scores


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/ddetr_r50_50e_two_stage.py")
    parser.add_argument("--sizes", nargs="+", type=positive_int, default=[256, 400, 640, 1024, 1600])
    parser.add_argument("--rounds", type=positive_int, default=3, help="of which the median is taken")
    parser.add_argument("--threads", type=positive_int, help="of the CPU; by default torch's choice")
    parser.add_argument("--whose", nargs="+", choices=WHOSE, default=list(WHOSE))
    parser.add_argument("--out", type=Path, default=Path("size.png"), help="picture to write")
    args = parser.parse_args(argv)

    rows = []
    print("| image | step | whose | seconds | memory, GB |\n| --- | --- | --- | --- | --- |")
    for size in args.sizes:
        for step in STEPS:
            expected = None
            for whose in args.whose:
                try:
                    seconds, gigabytes, scores = in_own_process(measure, whose, step, size, args)
                except BrokenProcessPool:
                    print(f"| {size} | {step} | {whose} | does not fit | |", flush=True)
                    continue
                expected = scores if expected is None else expected
                check(scores, expected, f"{whose} at {size} x {size}, {step}")
                rows.append(dict(size=size, step=step, whose=whose, seconds=seconds, gigabytes=gigabytes))
                print(f"| {size} | {step} | {whose} | {seconds:.3f} | {gigabytes:.2f} |", flush=True)
    save(plot(rows), args.out)
    args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1))
    print(f"saved {args.out} and {args.out.with_suffix('.json')}")


def check(scores: list[float], expected: list[float], what: str) -> None:
    """Raise `InputError` if the best scores differ."""
    difference = max(abs(a - b) for a, b in zip(scores, expected, strict=True))
    if not difference <= TOLERANCE:
        raise InputError(f"{what}: scores differ by {difference:.1e}")


def measure(whose: str, step: str, size: int, args: Namespace) -> tuple[float, float, list[float]]:
    """Median seconds of a step, the process's peak memory in GB, and the best 100 scores."""
    use_threads(args.threads)
    torch.manual_seed(0)
    candidate = BUILDERS[whose](args.config, size)
    run = candidate.inference if step == "inference" else candidate.train_step
    seconds = median_seconds(run, args.rounds)
    gigabytes = peak_resident_mb() / 1024
    scores = candidate.inference().sigmoid().flatten()
    best = scores.topk(min(100, len(scores))).values.tolist()
    return seconds, gigabytes, best


def ours(config: str, size: int, build: Callable = lambda detector: detector) -> Candidate:
    """Our model, which infers the logits of the last layer."""
    with quiet():
        detector = init_detector(config, device="cpu")
    model = build(detector)
    data = model.data_preprocessor(_batch(detector, size), training=False)
    return Candidate(
        model,
        lambda: model(**data, mode="tensor")[0][-1],
        lambda: model.parse_losses(model(**data, mode="loss"))[0],
    )


def mmdets(config: str, size: int) -> Candidate:
    """The same of mmdet's own ``DeformableDETR``, which samples as mmcv does without a compiled op."""

    def build(detector: torch.nn.Module) -> torch.nn.Module:
        with quiet():
            model = build_mmdets(detector.cfg.model)
        use_ours_in_mmcv(False, "cpu")  # which `init_detector` does
        model.load_state_dict(detector.state_dict())
        return model

    return ours(config, size, build)


def transformers(config: str, size: int) -> Candidate:
    """The same of transformers' ``DeformableDetrForObjectDetection``, as it comes."""
    from mmdet.structures.bbox import bbox_xyxy_to_cxcywh
    from transformers import DeformableDetrForObjectDetection

    with quiet():
        detector = init_detector(config, device="cpu")
    with TemporaryDirectory() as folder:
        for name, contents in transformers_files(detector).items():
            Path(folder, name).write_bytes(contents)
        model = DeformableDetrForObjectDetection.from_pretrained(folder, auxiliary_loss=True)
    data = detector.data_preprocessor(_batch(detector, size), training=False)
    objects = [sample.gt_instances for sample in data["data_samples"]]
    labels = [dict(class_labels=x.labels, boxes=bbox_xyxy_to_cxcywh(x.bboxes) / size) for x in objects]
    return Candidate(
        model,
        lambda: model(pixel_values=data["inputs"]).logits,
        lambda: model(pixel_values=data["inputs"], labels=labels).loss,
    )


BUILDERS = {"ours": ours, "mmdet's": mmdets, "transformers'": transformers}


def _batch(detector: torch.nn.Module, size: int) -> dict:
    """One square image; the same numbers whatever has been drawn before."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return random_batch(1, size, size, detector.bbox_head.num_classes)


def plot(rows: list[dict]) -> Figure:
    """Draw seconds and memory of both steps over the size, all axes logarithmic."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    sizes = sorted({row["size"] for row in rows})
    labels = dict(seconds="seconds", gigabytes="peak memory, GB")
    for line, (key, label) in zip(axes, labels.items(), strict=True):
        for ax, step in zip(line, STEPS, strict=True):
            for whose, color in WHOSE.items():
                chosen = [row for row in rows if (row["step"], row["whose"]) == (step, whose)]
                if chosen:
                    values = ([row[name] for row in chosen] for name in ("size", key))
                    ax.plot(*values, "o-", color=color, label=whose)
            ax.set(xscale="log", yscale="log", ylabel=label)
            ax.set_xticks(sizes, map(str, sizes))
            ax.set_xticks([], minor=True)
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.grid(alpha=0.3, which="both")
    for ax, step in zip(axes[0], STEPS, strict=True):
        ax.set_title(f"{step}, one image")
    for ax in axes[1]:
        ax.set_xlabel("height and width in pixels")
    axes[0, 0].legend()
    return figure


if __name__ == "__main__":
    sys.exit(run_tool(main))
