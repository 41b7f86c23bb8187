"""Log lines with the memory in use, without a GPU too."""

from pathlib import Path

from mmengine.runner import LogProcessor as _LogProcessor
from mmengine.runner import Runner

_STATUS = Path("/proc/self/status")  # Linux alone has it


class LogProcessor(_LogProcessor):
    """mmengine's, which logs ``memory`` in MB on a CPU too (Linux): the most that this process has held."""

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """The values of an iteration by name, and its line."""
        values, line = super().get_log_after_iter(runner, batch_idx, mode)
        if "memory" not in values and _STATUS.exists():
            values["memory"] = peak_resident_mb()
            line += f"  memory: {values['memory']}"
        return values, line


def peak_resident_mb() -> int:
    """The largest resident set of this process so far, in MB."""
    # getrusage's would begin with that of the process which has started this one.
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024
