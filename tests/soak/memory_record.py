"""A hook for a training in a process of its own: test_memory.py reads what it writes."""

import json
import os
import re
from pathlib import Path

from mmengine.hooks import Hook

from projects.deformable_detr.registry import HOOKS


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
