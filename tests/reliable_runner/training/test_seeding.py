import random
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import worker_init_fn
from torch.utils.data import DataLoader

from projects.reliable_runner.training.seeding import EpochSeedHook

TESTS = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("config", "persistent"), [("tiny_ddetr.py", False), ("tiny_dino.py", True)])
def test_a_resumed_run_repeats_the_run_that_was_never_stopped(tool, scalars, tmp_path, config, persistent):
    def losses(work_dir: Path) -> dict[int, dict]:
        """Per iteration, everything logged of it that does not measure time."""
        unequal = {"time", "data_time", "memory"}
        lines = scalars(work_dir, "loss")
        return {line["iter"]: {key: line[key] for key in line.keys() - unequal} for line in lines}

    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    options = {"randomness.seed": None, "train_dataloader.num_workers": 2}
    options["train_dataloader.persistent_workers"] = persistent
    tool("train", TESTS / config, "--work-dir", straight, **options)
    # Without validation: what it draws must not matter.
    options |= dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))
    tool("train", TESTS / config, "--work-dir", resumed, "--resume", straight / "epoch_1.pth", **options)

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


def epochs(num_workers: int, first: int = 0, **loader_options) -> list[list]:
    """What `Draws` yields in epochs ``first`` to 2, and then the main process draws, as dropout does."""
    init = partial(worker_init_fn, num_workers=num_workers, rank=0, seed=3)
    loader = DataLoader(Draws(), num_workers=num_workers, worker_init_fn=init, **loader_options)
    hook, runner = EpochSeedHook(), SimpleNamespace(seed=3, train_dataloader=loader)
    hook.before_train(runner)
    drawn = []
    for runner.epoch in range(first, 3):
        hook.before_train_epoch(runner)
        drawn.append([torch.stack(item).flatten().tolist() for item in loader])
        drawn[-1].append(torch.rand(3).tolist())
    return drawn


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_epoch_draws_its_own_numbers(num_workers):
    drawn = epochs(num_workers)
    assert drawn == epochs(num_workers)
    assert drawn[1:] == epochs(num_workers, first=1)
    numbers = [number for epoch in drawn for item in epoch for number in item]
    assert len(set(numbers)) == 3 * 5 * 3


def test_workers_leave_the_main_process_its_numbers():
    drawn = [
        epochs(1, first, persistent_workers=persistent)[-1][-1]
        for first, persistent in ((0, False), (0, True), (2, True))
    ]
    assert drawn == drawn[:1] * 3


def test_workers_that_outlive_an_epoch_are_warned_about(warnings):
    epochs(1, persistent_workers=False)
    assert not warnings
    epochs(1, persistent_workers=True)
    assert "persistent_workers=True: a resumed run will draw other" in warnings[0]
