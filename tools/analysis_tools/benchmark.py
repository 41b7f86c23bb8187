"""Time detectors on this machine: images a second, latency, memory.

python tools/analysis_tools/benchmark.py configs/ddetr_r18_custom.py --shape 240 320 --batch-sizes 1 8
python tools/analysis_tools/benchmark.py work_dirs/bccd/epoch_75.pth --against work_dirs/bccd/epoch_75.onnx

Each detector runs in a process of its own, and they take turns, one batch each: what else the machine does
slows all alike.
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import nn
from torch.multiprocessing import get_context

from projects.deployment.exported_detector import ExportedDetector
from projects.deployment.targets import is_exported
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import init_detector
from projects.reliable_runner.launcher import positive_int, run_tool
from projects.reliable_runner.log import quiet
from projects.reliable_runner.run_state import input_channels
from projects.reliable_runner.training.compilation import FOR_INFERENCE, compile_networks
from projects.reliable_runner.training.log_processor import peak_resident_mb
from projects.reliable_runner.training.resumed_settings import read_config_text


@dataclass
class Timing:
    """How fast a detector is with batches of one size."""

    target: str
    batch_size: int
    seconds: np.ndarray  # of each batch, from the images in memory to the detections
    memory_mb: float  # most allocated on the GPU; without one, the largest resident set, NaN if unknown
    scores: np.ndarray  # (n,), those of the detections in the first image, falling

    def line(self, first: "Timing") -> list[str]:
        """A line of the table; ``first`` is what it is compared with."""
        p50, p95 = np.percentile(self.seconds, [50, 95])
        speed_up = np.median(first.seconds) / p50
        n = min(len(self.scores), len(first.scores))
        difference = np.abs(self.scores[:n] - first.scores[:n]).max(initial=0)
        cells = f"{self.batch_size / p50:.2f} {p50 * 1e3:.1f} {p95 * 1e3:.1f} {self.memory_mb:.0f}"
        return [self.target, str(self.batch_size), *cells.split(), f"{speed_up:.2f}x", f"{difference:.1e}"]


HEADS = ["detector", "batch", "images/s", "p50, ms", "p95, ms", "memory, MB", "speed", "scores differ by"]


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    what = "a config (random weights), a checkpoint of tools/train.py, the name of a published model, or a "
    what += "file of tools/deployment/export.py"
    parser.add_argument("target", help=what)
    parser.add_argument("--against", nargs="+", default=[], metavar="TARGET", help="others, in the same run")
    what = "of the images, which are noise; no resizing"
    shape = dict(nargs=2, type=positive_int, default=[800, 1333], metavar=("H", "W"))
    parser.add_argument("--shape", **shape, help=what)
    parser.add_argument("--batch-sizes", nargs="+", type=positive_int, default=[1])
    parser.add_argument("--max-iter", type=positive_int, default=20, help="batches to time")
    parser.add_argument("--num-warmup", type=positive_int, default=3, help="batches before them")
    parser.add_argument("--threads", type=positive_int, help="of the CPU; by default torch's choice")
    parser.add_argument("--compile", action="store_true", help="torch.compile, but for exported files")
    parser.add_argument("--device", help="by default the first GPU if there is one; not for exported files")
    args = parser.parse_args(argv)

    targets = list(dict.fromkeys([args.target, *args.against]))
    print(" | ".join(HEADS), flush=True)
    for batch_size in args.batch_sizes:
        timings = time_in_turn(targets, batch_size, args)
        for timing in timings:
            print(" | ".join(timing.line(timings[0])), flush=True)


def time_in_turn(targets: list[str], batch_size: int, args: Namespace) -> list[Timing]:
    """Time detectors, each in a process of its own, batch by batch in turn."""
    context = get_context("spawn")
    pipes, processes = [], []
    for target in targets:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, target, batch_size, args), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    seconds = np.zeros((args.num_warmup + args.max_iter, len(targets)))
    for row in seconds:
        for i, pipe in enumerate(pipes):
            pipe.send("run")
            row[i] = receive(pipe, targets[i])
    timings = []
    for target, pipe, process, of_target in zip(targets, pipes, processes, seconds.T, strict=True):
        pipe.send("stop")
        timings.append(Timing(target, batch_size, of_target[args.num_warmup :], *receive(pipe, target)))
        process.join()
    return timings


def receive(pipe: Connection, target: str) -> object:
    """What the process of ``target`` answers; `InputError` if it says why it can't, or has ended."""
    try:
        answer = pipe.recv()
    except EOFError:
        raise InputError(f"{target}: its process has ended, perhaps for want of memory") from None
    if isinstance(answer, InputError):
        raise answer
    return answer


def serve(pipe: Connection, target: str, batch_size: int, args: Namespace) -> None:
    """Run a batch when ``pipe`` asks for it and answer with the seconds; at last with memory and scores."""
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        detector = open_detector(target, args.device)
        if args.compile:  # an exported file has none of these networks
            compile_networks(detector, **FOR_INFERENCE)
    except InputError as error:
        pipe.recv()
        pipe.send(error)
        return
    generator = torch.Generator().manual_seed(0)
    size = (batch_size, input_channels(detector), *args.shape)
    images = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    metainfo = dict(img_shape=tuple(args.shape), ori_shape=tuple(args.shape), scale_factor=(1, 1))
    while pipe.recv() == "run":
        start = time.perf_counter()
        samples = [DetDataSample(metainfo=metainfo) for _ in images]
        with torch.inference_mode():
            found = detector.test_step(dict(inputs=list(images), data_samples=samples))
        scores = found[0].pred_instances.scores.cpu().numpy()  # waits for a GPU
        pipe.send(time.perf_counter() - start)
    on_gpu = torch.cuda.is_initialized()
    memory_mb = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_resident_mb()
    pipe.send((memory_mb, np.sort(scores)[::-1]))


def open_detector(target: str, device: str | None) -> nn.Module:
    """The detector of a config, of a checkpoint with the config inside, of a published name or a file."""
    if is_exported(target):
        return ExportedDetector(target)
    with quiet():
        if target.endswith(".py"):
            return init_detector(target, device=device)
        if not Path(target).is_file():
            return init_detector(target, device=device, pretrained=True)
        text = CheckpointLoader.load_checkpoint(target, map_location="cpu").get("meta", {}).get("cfg")
        if text is None:
            raise InputError(f"{target}: it has no config inside; give the config in its place")
        return init_detector(Config(read_config_text(text)), target, device)


if __name__ == "__main__":
    sys.exit(run_tool(main))
