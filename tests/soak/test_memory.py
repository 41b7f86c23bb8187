"""Thousands of iterations do not fill the host's memory, neither that of the training nor its workers'."""

import os
import re
import runpy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook

from projects.deformable_detr.registry import HOOKS

REPO = Path(__file__).resolve().parents[2]
TRAIN = runpy.run_path(str(REPO / "tools" / "train.py"))["main"]
WARM_UP, ITERATIONS = 1000, 2500
ALLOWED_MB = 4.0  # in a thousand iterations


def resident_mb(pid: int) -> float:
    """Memory that the process has for itself, in MB: of what is forked, what it has written to."""
    status = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"Private_\w+: +(\d+) kB", status)) / 1024


@HOOKS.register_module(force=True)
class MemoryRecordHook(Hook):
    """Notes (iteration, MB of this process, MB of its workers) every 100 iterations."""

    record: list[tuple[int, float, float]] = []

    def after_train_iter(self, runner, **kwargs) -> None:
        if (runner.iter + 1) % 100 == 0:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            workers = max(resident_mb(int(pid)) for pid in children)
            self.record.append((runner.iter + 1, resident_mb(os.getpid()), workers))


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_stays_flat(tmp_path, shapes_root, monkeypatch):
    monkeypatch.setenv("SHAPES_ROOT", str(shapes_root))
    monkeypatch.setattr(Config, "pretty_text", "")
    heir = tmp_path / "soak.py"
    heir.write_text(
        f"_base_ = {str(REPO / 'tests' / 'tiny_ddetr.py')!r}\n"
        f"train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={ITERATIONS},\n"
        f"    val_interval={2 * ITERATIONS})\n"
        "train_dataloader = dict(num_workers=2, persistent_workers=True, batch_size=1,\n"
        "    sampler=dict(type='InfiniteSampler'))\n"
        "log_processor = dict(by_epoch=False)\nparam_scheduler = None\n"
        "default_hooks = dict(logger=dict(interval=100), checkpoint=dict(by_epoch=False, interval=500))\n"
        "custom_hooks = [dict(type='MemoryRecordHook')]\n"
    )
    MemoryRecordHook.record.clear()
    TRAIN([str(heir), "--work-dir", str(tmp_path / "run")])

    warm = [entry for entry in MemoryRecordHook.record if entry[0] >= WARM_UP]
    (start, *first), (end, *last) = warm[0], warm[-1]
    assert end == ITERATIONS
    print(*MemoryRecordHook.record, sep="\n")
    for name, before, after in zip(("training", "worker"), first, last, strict=True):
        growth = (after - before) / (end - start) * 1000
        assert growth < ALLOWED_MB, f"{name}: {growth:.1f} MB in a thousand iterations"
