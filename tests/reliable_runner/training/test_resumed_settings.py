"""A resumed run tells what its config changes, and takes the config's schedule where it is asked to."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import EpochBasedTrainLoop

from projects.reliable_runner.training.resumed_settings import ResumedSettingsHook, read_config_text

CONFIG = Path(__file__).resolve().parents[2] / "tiny_ddetr.py"
WARMUP = dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=7)
SCHEDULES = {
    "step": [dict(type="MultiStepLR", by_epoch=True, milestones=[1, 4], gamma=0.1)],
    "cosine": [dict(type="CosineAnnealingLR", T_max=6, by_epoch=True, convert_to_iter_based=True)],
    "poly": [WARMUP, dict(type="PolyLR", power=0.9, begin=1, end=6, by_epoch=True)],
    "warm-up": [WARMUP, dict(type="CosineAnnealingLR", T_max=6, eta_min_ratio=0.1, by_epoch=True)],
}
EPOCH = 5


class Run:
    """Optimizer and schedule of a run in epochs of five iterations."""

    def __init__(self, schedule: list[dict], lr: float) -> None:
        parameters = [dict(params=[torch.nn.Parameter(torch.ones(1))], lr=lr * scale) for scale in (1, 0.1)]
        self.optimizer = torch.optim.AdamW(parameters)
        with DefaultScope.overwrite_default_scope("mmengine"):
            self.schedulers = [self._build(dict(cfg)) for cfg in schedule]
        loop = object.__new__(EpochBasedTrainLoop)
        loop.dataloader = [None] * EPOCH
        self.runner = SimpleNamespace(
            _resume=True,
            train_loop=loop,
            param_schedulers=self.schedulers,
            optim_wrapper=SimpleNamespace(optimizer=self.optimizer),
            cfg=SimpleNamespace(to_dict=dict),
        )

    def _build(self, cfg: dict):
        if cfg.pop("convert_to_iter_based", False):
            cls = PARAM_SCHEDULERS.get(cfg.pop("type"))
            return cls.build_iter_from_epoch(self.optimizer, epoch_length=EPOCH, end=6, begin=0, **cfg)
        return PARAM_SCHEDULERS.build(dict(cfg, optimizer=self.optimizer))

    def train(self, epochs: int) -> list[list[float]]:
        rates = []
        for _ in range(epochs):
            for _ in range(EPOCH):
                rates.append([group["lr"] for group in self.optimizer.param_groups])
                self._step(by_epoch=False)
            self._step(by_epoch=True)
        return rates

    def _step(self, by_epoch: bool) -> None:
        for scheduler in self.schedulers:
            if scheduler.by_epoch is by_epoch:
                scheduler.step()

    def checkpoint(self, epoch: int) -> dict:
        return copy.deepcopy(
            dict(
                meta=dict(epoch=epoch, iter=epoch * EPOCH),
                optimizer=self.optimizer.state_dict(),
                param_schedulers=[scheduler.state_dict() for scheduler in self.schedulers],
            )
        )


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_configs_schedule_from_the_checkpoint_on(name):
    expected = Run(SCHEDULES[name], lr=0.2).train(6)
    first = Run(SCHEDULES["step"], lr=0.7)
    first.train(3)
    checkpoint = first.checkpoint(epoch=3)
    second = Run(SCHEDULES[name], lr=0.2)
    ResumedSettingsHook("config").after_load_checkpoint(second.runner, checkpoint)
    second.optimizer.load_state_dict(checkpoint["optimizer"])
    for scheduler, state in zip(second.schedulers, checkpoint["param_schedulers"], strict=True):
        scheduler.load_state_dict(state)
    torch.testing.assert_close(
        torch.tensor(second.train(3)), torch.tensor(expected[3 * EPOCH :]), rtol=1e-6, atol=0
    )


def test_a_resumed_run_tells_what_differs_and_what_counts(tool, scalars, tmp_path):
    def train(*args: str, **options) -> tuple[str, list[float]]:
        before = len(scalars(tmp_path, "lr"))
        tool("train", CONFIG, "--work-dir", tmp_path, *args, **options)
        log = max(tmp_path.glob("*/*.log"), key=lambda path: path.stat().st_mtime_ns)
        return log.read_text(), [line["lr"] for line in scalars(tmp_path, "lr")[before:]]

    train(**{"train_cfg.max_epochs": 1})
    changes = {"optim_wrapper.optimizer.lr": 1e-5, "train_dataloader.batch_size": 4}
    log, rates = train("--resume", **changes, **{"train_cfg.max_epochs": 2})
    assert set(rates) == {1e-3}
    rows = [line.split() for line in log.splitlines()]
    assert ["optim_wrapper.optimizer.lr", "0.001", "1e-05", "checkpoint"] in rows
    assert ["train_dataloader.batch_size", "2", "4", "config"] in rows
    assert ["train_cfg.max_epochs", "1", "2", "config"] in rows
    _, rates = train("--resume", "--resume-schedule", "config", **changes)
    assert rates == pytest.approx([1e-6] * len(rates))  # its milestone is at epoch 2


def test_nothing_in_a_config_text_is_run(tmp_path):
    text = f"a = dict(b=[1, (2, -3.5)], c=None)\nd = open('{tmp_path}/x', 'w')\ne = __import__('os')\n"
    found = read_config_text(text)
    assert found["a"] == dict(b=[1, [2, -3.5]], c=None)
    assert not list(tmp_path.iterdir())
    assert read_config_text("a = (") == {}
