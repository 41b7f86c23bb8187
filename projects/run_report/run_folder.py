"""What tools/train.py leaves in a work_dir: logs, config, checkpoints."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from projects.reliable_runner.errors import InputError

Curve = list[tuple[float, float]]  # (epoch, value) pairs


@dataclass
class RunFolder:
    path: Path
    config: Path  # of its last training
    log: dict[str, Curve]  # of all its trainings, see `join_logs`

    @classmethod
    def of(cls, path: Path) -> "RunFolder":
        """Read a work_dir; `InputError` if it is none, or a log in it is damaged."""
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder")
        read = {file: read_log(file) for file in sorted(path.glob("*/vis_data/scalars.json"))}
        logs = {file: log for file, log in read.items() if "iter" in log}  # the others are of tests
        if not logs:
            raise InputError(
                f"{path}: no training has logged in it (TIME/vis_data/scalars.json); give the "
                "--work-dir of a tools/train.py"
            )
        config = [*logs][-1].with_name("config.py")
        if not config.is_file():
            raise InputError(f"{config}: the training has left no config beside its log")
        return cls(path, config, join_logs([*logs.values()]))

    def checkpoint(self) -> Path:
        """The best checkpoint; of a run without one the last."""

        def newest(pattern: str) -> list[Path]:
            return sorted(self.path.glob(pattern), key=lambda file: file.stat().st_mtime)[-1:]

        note = self.path / "last_checkpoint"
        # By its name, for the folder may have been moved.
        noted = [self.path / Path(note.read_text("utf-8").strip()).name] if note.is_file() else []
        last = [file for file in noted if file.is_file()] or newest("*.pth")
        if not (found := newest("best_*.pth") or last):
            raise InputError(f"{self.path}: it has no checkpoint; name one with --checkpoint")
        return found[0]


def read_log(path: Path) -> dict[str, Curve]:
    """Read ``vis_data/scalars.json``, which mmengine's visualizer has written, one JSON object a line.

    A last line without its end is left out: the training was killed as it wrote it, or is writing it.

    Returns:
        For each value its (epoch, value) pairs; metrics of the test set without their ``coco/``, times those
        of training alone. In the log of a training that counts iterations alone their number is the epoch.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such log")
    curves = defaultdict(list)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        try:
            entry = json.loads(line)
            step = entry["step"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            if isinstance(error, json.JSONDecodeError) and number > 1 and not line.endswith("\n"):
                break
            raise InputError(
                f"{path}: line {number} is no entry of a vis_data/scalars.json ({error!r})"
            ) from error
        for key, value in entry.items():
            of_test = key in ("time", "data_time") and "iter" not in entry
            if isinstance(value, (int, float)) and not of_test:
                curves[key.removeprefix("coco/")].append((entry.get("epoch", step), value))
    return curves


def join_logs(logs: Sequence[dict[str, Curve]]) -> dict[str, Curve]:
    """The log of a resumed training from all its logs, in order; from its first epoch on each counts."""
    joined = defaultdict(list)
    for log in logs:
        start = log["iter"][0][0]
        for key in joined:
            joined[key] = [(epoch, value) for epoch, value in joined[key] if epoch < start]
        for key, curve in log.items():
            joined[key] += curve
    return joined


def by_epoch(curve: Curve) -> dict[float, list[float]]:
    values = defaultdict(list)
    for epoch, value in curve:
        values[epoch].append(value)
    return values
