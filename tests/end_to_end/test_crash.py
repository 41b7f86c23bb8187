"""A run that is killed again and again ends like a run that nothing has stopped."""

import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import keystr, tree_flatten_with_path

from projects.reliable_runner.files.checkpoint_file import read_checkpoint

REPO = Path(__file__).resolve().parents[2]
CONFIG = """
model = dict(backbone=dict(base_channels={channels}), neck=dict(in_channels={in_channels}))
train_dataloader = dict(num_workers={num_workers})
custom_hooks = [
    dict(type="EMAHook", momentum=0.1),
    dict(type="EarlyStoppingHook", monitor="val/loss", patience=100),
    dict(type="ValLossHook"),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best="val/loss"))
train_cfg = dict(max_epochs={epochs})
randomness = dict(seed=0, deterministic=True)
"""
TRAIN = """
import os, runpy, sys
import mmengine.config.config, mmengine.runner.runner
sys.stdout = sys.stderr = open({log!r}, "a")
mmengine.config.config.FormatCode = lambda text, **_: (text, True)  # this and the next take seconds
mmengine.runner.runner.collect_env = dict
os.environ["SHAPES_ROOT"] = {shapes_root!r}
runpy.run_path({tool!r})["main"]({args!r})
"""


@pytest.fixture
def train(shapes_root, forkserver) -> Callable[..., multiprocessing.Process]:
    """Starts a training of a config."""

    def start(config: Path, work_dir: Path, *args: str) -> multiprocessing.Process:
        code = TRAIN.format(
            log=f"{work_dir}.log",
            shapes_root=str(shapes_root),
            tool=str(REPO / "tools" / "train.py"),
            args=[str(config), "--work-dir", str(work_dir), *args],
        )
        process = forkserver.Process(target=exec, args=(code,))
        process.start()
        return process

    return start


def kill(process: multiprocessing.Process, work_dir: Path, in_a_write: bool, within: float) -> bool:
    """Kill ``process`` after up to ``within`` seconds, or while it writes a file; whether it still ran."""
    draw = random.Random(process.pid)
    if in_a_write:
        while process.is_alive() and not any(work_dir.glob("*.unfinished")):
            time.sleep(0.0001)
        time.sleep(0.02 ** draw.uniform(1, 3))  # small files are written in less than a millisecond
    else:
        time.sleep(draw.uniform(0, within))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def wait_until_it_trains(process: multiprocessing.Process, work_dir: Path) -> None:
    """Return when ``process``, the only one in ``work_dir``, has written its config there."""
    runs = set(work_dir.glob("*/vis_data/config.py"))
    while process.is_alive() and set(work_dir.glob("*/vis_data/config.py")) == runs:
        time.sleep(0.01)


def last_epoch(work_dir: Path) -> int:
    """The epoch of the latest checkpoint, which must be readable; 0 if there is none yet."""
    note = work_dir / "last_checkpoint"
    return read_checkpoint(note.read_text())["meta"]["epoch"] if note.exists() else 0


def leaves(contents: dict) -> dict[str, object]:
    """What a checkpoint holds, by its path; tensors as data type and numbers."""
    return {
        keystr(path): (leaf.dtype, leaf.tolist()) if isinstance(leaf, torch.Tensor) else leaf
        for path, leaf in tree_flatten_with_path(contents)[0]
    }


@pytest.mark.parametrize(
    ("kills", "epochs", "channels", "num_workers"),
    [
        pytest.param(3, 5, 8, 2, marks=pytest.mark.slow),
        pytest.param(20, 24, 32, 0, marks=pytest.mark.soak),
        pytest.param(10, 12, 8, 2, marks=pytest.mark.soak),
    ],
)
def test_a_killed_run_ends_like_one_that_was_not(tmp_path, train, heir, kills, epochs, channels, num_workers):
    sizes = dict(channels=channels, in_channels=[channels * 4, channels * 8])
    config = heir(CONFIG.format(**sizes, num_workers=num_workers, epochs=epochs))
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    process = train(config, straight)
    wait_until_it_trains(process, straight)
    start = time.monotonic()
    process.join()
    seconds = time.monotonic() - start
    assert process.exitcode == 0, Path(f"{straight}.log").read_text()[-3000:]

    survived, in_writes, epoch = 0, 0, 0
    while survived < kills:
        process = train(config, killed, "--resume")
        wait_until_it_trains(process, killed)
        if not kill(process, killed, in_a_write=survived % 2 == 1, within=seconds / epochs):
            break
        survived += 1
        in_writes += any(killed.glob("*.unfinished"))
        assert last_epoch(killed) >= epoch
        epoch = last_epoch(killed)
    process = train(config, killed, "--resume")
    process.join()
    log = Path(f"{killed}.log").read_text()
    assert process.exitcode == 0, log[-3000:]
    print(
        f"{survived} kills, {in_writes} of them inside a write, {num_workers} workers: "
        f"{time.monotonic() - start:.0f} s; the run alone {seconds:.0f} s"
    )
    assert survived == kills

    names = [sorted(path.name for path in folder.glob("*.*")) for folder in (straight, killed)]
    assert names[0] == names[1]
    for name in (name for name in names[0] if name.endswith(".pth")):
        theirs, ours = (read_checkpoint(folder / name) for folder in (straight, killed))
        for contents in ours, theirs:
            meta, hub = contents.pop("meta"), contents.pop("message_hub")["runtime_info"]
            contents["meta"] = {key: meta[key] for key in ("epoch", "iter", "seed")}
            contents["hub"] = {
                key: hub.get(key)
                for key in ("best_score", "early_stopping", "keep_ckpt_ids", "epoch_validated")
            }
        found, expected = leaves(ours), leaves(theirs)
        assert found.keys() == expected.keys(), name
        assert [key for key in expected if found[key] != expected[key]] == [], name
