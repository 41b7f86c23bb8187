"""What tools/train.py leaves in a work_dir."""

from dataclasses import dataclass
from pathlib import Path

from projects.reliable_runner.errors import InputError

from .training_log import Curve, join_logs, read_log


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
