"""Log lines, with the memory that is in use on machines without a GPU too."""

import sys
from pathlib import Path

from mmengine.runner import LogProcessor as _LogProcessor
from mmengine.runner import Runner

try:
    import resource
except ImportError:  # Windows
    resource = None


class LogProcessor(_LogProcessor):
    """mmengine's, which logs ``memory`` in MB on a CPU too: the most that this process has held so far."""

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """The values of an iteration by name, and its line."""
        values, line = super().get_log_after_iter(runner, batch_idx, mode)
        if "memory" not in values and resource:
            values["memory"] = peak_resident_mb()
            line += f"  memory: {values['memory']}"
        return values, line


def peak_resident_mb() -> int:
    """The largest resident set of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage's would begin with that of the process which has started this one.
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) // 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 2**20 if sys.platform == "darwin" else peak // 1024
