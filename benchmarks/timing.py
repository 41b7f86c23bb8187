"""What the benchmarks share: their arguments, times and memory."""

import time
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from multiprocessing import get_context
from statistics import median

import torch


def add_arguments(parser: ArgumentParser, rounds: int) -> None:
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=rounds, help="of which the median is taken")
    parser.add_argument("--threads", type=int, help="of the CPU; by default torch's choice")


def use_threads(number: int | None) -> None:
    """Let torch have so many threads; None leaves it its own choice."""
    torch.set_num_threads(number or torch.get_num_threads())


def milliseconds(run: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def median_seconds(run: Callable[[], object], rounds: int) -> float:
    """The median time that ``run`` takes on a CPU, once it is warm."""
    return median([milliseconds(run, "cpu") for _ in range(rounds + 1)][1:]) / 1e3


def in_own_process(function: Callable, *args) -> object:
    """What ``function`` returns in a process of its own; `BrokenProcessPool` if the system kills that."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def peak_megabytes(run: Callable[[], object], device: str) -> float:
    """Memory that a run needs on top of what is held before it."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = accumulate(event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()))
    return max(held, default=0) / 2**20
