import json
import random
import runpy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import worker_init_fn
from torch.utils.data import DataLoader

from projects.reliable_runner.training import seeding
from projects.reliable_runner.training.seeding import EpochSeedHook

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def one_thread():
    """So small a model trains slower in several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def losses(work_dir: Path) -> dict[int, dict]:
    """Per iteration, everything logged of it that does not measure time."""
    (log,) = work_dir.glob("*/vis_data/scalars.json")
    lines = map(json.loads, log.read_text().splitlines())
    unequal = ("time", "data_time", "memory")
    return {
        line["iter"]: {key: value for key, value in line.items() if key not in unequal}
        for line in lines
        if "loss" in line
    }


def test_a_resumed_run_repeats_the_run_that_was_never_stopped(tmp_path, shapes_root, monkeypatch):
    monkeypatch.setenv("SHAPES_ROOT", str(shapes_root))
    train = runpy.run_path(str(REPO / "tools" / "train.py"))["main"]
    config = str(REPO / "tests" / "tiny_ddetr.py")
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    options = ["randomness.seed=None", "train_dataloader.num_workers=2"]

    def run(work_dir: Path, *args: str) -> None:
        names = [f"{key}={work_dir}".replace("/", "_") for key in ("experiment_name", "visualizer.name")]
        train([config, *args, "--work-dir", str(work_dir), "--cfg-options", *names, *options])

    run(straight)
    # Without validation: what it draws must not matter.
    options += ["val_cfg=None", "val_dataloader=None", "val_evaluator=None"]
    run(resumed, "--resume", str(straight / "epoch_1.pth"))

    expected, got = losses(straight), losses(resumed)
    assert sorted(expected) == list(range(1, 13))
    assert got == {iteration: expected[iteration] for iteration in range(5, 13)}
    last, resumed_last = (
        torch.load(folder / "epoch_3.pth", weights_only=False)["state_dict"] for folder in (straight, resumed)
    )
    assert all(torch.equal(weight, resumed_last[name]) for name, weight in last.items())


class Draws:
    """A data set whose items are what an augmentation would draw."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[float]:
        return [random.random(), np.random.rand(), torch.rand(()).item()]


def epochs(num_workers: int, first: int = 0, seed: int = 3, **loader_options) -> list[list]:
    """What `Draws` yields in epochs ``first`` to 2."""
    init = partial(worker_init_fn, num_workers=num_workers, rank=0, seed=seed)
    loader = DataLoader(Draws(), num_workers=num_workers, worker_init_fn=init, **loader_options)
    hook, runner = EpochSeedHook(), SimpleNamespace(seed=seed, train_dataloader=loader)
    hook.before_train(runner)
    drawn = []
    for runner.epoch in range(first, 3):
        hook.before_train_epoch(runner)
        drawn.append([torch.stack(item).flatten().tolist() for item in loader])
    return drawn


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_epoch_draws_its_own_numbers(num_workers):
    drawn = epochs(num_workers)
    assert drawn == epochs(num_workers)
    assert drawn[1:] == epochs(num_workers, first=1)
    assert drawn != epochs(num_workers, seed=4)
    numbers = [number for epoch in drawn for item in epoch for number in item]
    assert len(set(numbers)) == 3 * 4 * 3


def test_workers_that_outlive_an_epoch_are_warned_about(monkeypatch):
    logged = []
    monkeypatch.setattr(seeding, "warn", logged.append)
    epochs(1, persistent_workers=False)
    assert not logged
    epochs(1, persistent_workers=True)
    assert "persistent_workers=True: a resumed run will draw other" in logged[0]
