"""What the fuzz tests share: runs of the tools on spoilt input, and the judgement of how they end."""

import contextlib
import io
import logging
import os
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.checkpoint_file import read_checkpoint
from projects.reliable_runner.launcher import run_tool
from tools.dataset_converters.draw_shapes import draw_split

from ..conftest import CONFIG, forget_runs, main_of

SEED = int(os.environ.get("FUZZ_SEED", "0"))
SCALE = float(os.environ.get("FUZZ_SCALE", "1"))  # how many times the usual number of inputs
SECONDS = 60  # of one input
LINES = 30  # of an error: one screen


@pytest.fixture(autouse=True)
def no_collection(monkeypatch) -> None:
    """Each data set calls ``gc.collect``, which takes longer than all the rest."""
    monkeypatch.setattr("mmengine.dataset.base_dataset.gc.collect", lambda: 0)


@pytest.fixture
def data(tmp_path) -> Path:
    """Two training images and one held-out one, of 48 px."""
    for number, split in (2, "train"), (1, "val"):
        draw_split(tmp_path / "data", split, num_images=number, size=48, seed=number)
    return tmp_path / "data"


@pytest.fixture
def tool(data, tmp_path, small_run, monkeypatch) -> Callable[..., str]:
    """Runs a tool on ``data``; returns its error, or "" if it ended well."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setenv("SHAPES_ROOT", str(data))

    def run(name: str, *args: str | Path, options: tuple = ()) -> str:
        work_dir = tmp_path / "work"
        argv = list(map(str, args))
        if name in ("train", "test"):
            argv = [str(CONFIG), *argv, "--work-dir", str(work_dir), "--cfg-options"]
            argv += [f"data_root={data}", "train_cfg.max_epochs=1", *options]
        error = io.StringIO()
        try:
            with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
                status = run_tool(partial(main_of(name), argv))
        finally:
            forget_runs()
            shutil.rmtree(work_dir, ignore_errors=True)
        printed = error.getvalue()
        assert "Traceback" not in printed
        if not status:
            return ""
        told = printed[printed.rindex("error: ") :]
        assert status == 1 and 0 < len(told.splitlines()) <= LINES, told
        assert len(told) < 5000, told
        return told

    return run


@pytest.fixture
def trained(tool, tmp_path) -> dict:
    """What a training of an epoch leaves, read."""
    assert not tool("train", options=[f"default_hooks.checkpoint.out_dir={tmp_path / 'trained'}"])
    (path,) = tmp_path.glob("trained/**/epoch_1.pth")
    return read_checkpoint(path)


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """Bytes cut short, with bits flipped, or others altogether."""
    kind = draw(st.sampled_from(["cut", "flip", "any"]))
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "any":
        return draw(st.binary(max_size=300))
    flipped = bytearray(content)
    for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        flipped[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(flipped)


@pytest.fixture
def canary(tmp_path) -> Iterator[Path]:
    """A file that code inside a spoilt file would make, and must not."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code in a file was run"


@pytest.fixture(params=["quick", pytest.param("soak", marks=pytest.mark.soak)])
def fuzz(capsys, request) -> Callable[..., None]:
    """Tries ``quick`` or ``soak`` inputs; fails with all different ways in which any of them ended badly."""

    def run(strategy: st.SearchStrategy, attempt: Callable, quick: int, soak: int) -> None:
        examples = dict(quick=quick, soak=soak)[request.param]
        outcomes, failures = Counter(), {}

        @seed(SEED)
        @settings(
            max_examples=max(1, round(examples * SCALE)),
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def once(case) -> None:
            try:
                with time_limit(case):
                    refused = attempt(case)
            except InputError as error:
                refused = str(error)
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
                failures.setdefault(place, (case, error))
                return
            outcomes["refused" if refused else "taken"] += 1

        once()
        with capsys.disabled():
            print(f"\n{request.node.name}: seed {SEED}, {dict(outcomes)}, {len(failures)} failures")
        report = [
            f"{place}\n  {str(case)[:300]}\n" + "".join(traceback.format_exception(error)[-3:])
            for place, (case, error) in failures.items()
        ]
        assert not report, "\n\n".join(report)

    return run


@contextlib.contextmanager
def time_limit(case: object) -> Iterator[None]:
    """Raise TimeoutError after SECONDS."""

    def stop(*_) -> None:
        raise TimeoutError(f"more than {SECONDS} s for {str(case)[:200]}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
