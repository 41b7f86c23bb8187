"""Thousands of iterations do not fill the host's memory, neither that of the training nor its workers'."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from projects.deformable_detr.registry import HOOKS

REPO = Path(__file__).resolve().parents[2]
# The training imports this file, for the hook.
CONFIG = """
custom_imports = dict(imports=["test_memory"])
custom_hooks = [dict(type="MemoryRecordHook", out="{out}")]
train_cfg = dict(
    _delete_=True, type="IterBasedTrainLoop", max_iters={iterations}, val_interval=10**6
)
train_dataloader = dict(
    num_workers=2, persistent_workers=True, batch_size=1, sampler=dict(type="InfiniteSampler")
)
log_processor = dict(by_epoch=False)
param_scheduler = None
default_hooks = dict(
    logger=dict(interval=100), checkpoint=dict(by_epoch=False, interval=500, max_keep_ckpts=1)
)
"""
# The first checkpoints shape the heap.
WARM_UP, ITERATIONS = 1500, 6000
ALLOWED_MB = 4.0  # in a thousand iterations


def resident_mb(pid: int) -> float:
    """Memory that the process has for itself, in MB: of what is forked, what it has written to."""
    status = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"Private_\w+: +(\d+) kB", status)) / 1024


@HOOKS.register_module()
class MemoryRecordHook(Hook):
    """Appends [iteration, MB of this process, most MB of a worker] to ``out`` every 100 iterations."""

    def __init__(self, out: str) -> None:
        self.out = Path(out)

    def after_train_iter(self, runner, **kwargs) -> None:
        if (runner.iter + 1) % 100 == 0:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            workers = max(resident_mb(int(pid)) for pid in children)
            with self.out.open("a") as file:
                print(json.dumps([runner.iter + 1, resident_mb(os.getpid()), workers]), file=file)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_stays_flat(tmp_path, shapes_root, heir):
    out = tmp_path / "memory.jsonl"
    config = heir(CONFIG.format(out=out, iterations=ITERATIONS))
    command = [sys.executable, REPO / "tools" / "train.py", config, "--work-dir", tmp_path / "run"]
    env = {**os.environ, "SHAPES_ROOT": str(shapes_root), "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    record = [json.loads(line) for line in out.read_text().splitlines()]
    print(*record, sep="\n")
    (start, *first), *_, (end, *last) = [entry for entry in record if entry[0] >= WARM_UP]
    assert (start, end) == (WARM_UP, ITERATIONS)
    for name, before, after in zip(("training", "worker"), first, last, strict=True):
        growth = (after - before) / (end - start) * 1000
        print(f"{name}: {growth:.2f} MB in a thousand iterations")
        assert growth < ALLOWED_MB, name
