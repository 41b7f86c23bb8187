"""Log lines with the memory in use, without a GPU too."""

import math
import re
from pathlib import Path

from mmengine.runner import LogProcessor as _LogProcessor
from mmengine.runner import Runner

_STATUS = Path("/proc/self/status")  # Linux alone has it


class LogProcessor(_LogProcessor):
    """mmengine's, which logs ``memory`` in MB on a CPU too (Linux): the most that this process has held."""

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        values, line = super().get_log_after_iter(runner, batch_idx, mode)
        if "memory" not in values and not math.isnan(held := peak_resident_mb()):
            values["memory"] = held
            line += f"  memory: {held}"
        return values, line


def peak_resident_mb() -> float:
    """The largest resident set of this process so far, in MB; NaN where the kernel does not tell it."""
    status = _STATUS.read_text("utf-8") if _STATUS.exists() else ""
    # getrusage's would begin with that of the process which has started this one.
    peak = re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)
    return int(peak[1]) // 1024 if peak else math.nan
