"""Which checkpoint a training resumes from."""

from pathlib import Path

from mmengine.config import Config

from ..errors import InputError
from ..files.checkpoint_file import read_checkpoint
from ..run_state import missing_state


def choose_start(cfg: Config, resume: str | None) -> str:
    """Set ``resume`` and ``load_from`` of a config whose ``work_dir`` is set; return what to log of it.

    ``resume`` is a path; "auto" for the latest checkpoint of the work_dir, if there is one; or None.
    `InputError` if "auto" finds checkpoints but none that a run can resume from.
    """
    out_dir = cfg.get("default_hooks", {}).get("checkpoint", {}).get("out_dir")  # of mmengine's hook
    folder = Path(out_dir, Path(cfg.work_dir).name) if out_dir else Path(cfg.work_dir)
    if resume is None and cfg.get("resume") and not cfg.get("load_from"):
        resume = "auto"
    if resume is None and not cfg.get("resume"):
        if not (earlier := _newest_first(folder)):
            return ""
        return (
            f"{folder} has checkpoints of an earlier run, {earlier[0].name} is the newest. This run starts "
            "anew and overwrites those of the same name; --resume would resume the earlier run"
        )
    path, message = latest_checkpoint(cfg.work_dir, folder) if resume == "auto" else (resume, "")
    if path:
        cfg.resume, cfg.load_from = True, path
    return message


def latest_checkpoint(work_dir: str | Path, folder: Path) -> tuple[str | None, str]:
    """Find the checkpoint that a run resumes from, also if its folder was moved since.

    It is the one that ``last_checkpoint`` in ``work_dir`` names, else the newest in ``folder`` that can be
    resumed; None if there is none at all. Beside it stands what to log. `InputError`, which tells of each, if
    there are checkpoints but none that a run can resume from.
    """
    note = Path(work_dir, "last_checkpoint")
    noted = note.read_text(encoding="utf-8", errors="replace").strip() if note.is_file() else ""
    here = Path(folder, Path(noted).name)
    first = [here if here.is_file() else Path(noted)] if noted else []
    candidates = [*first, *(path for path in _newest_first(folder) if path not in first)]
    problems = [] if noted else [f"{note} is {'empty' if note.is_file() else 'not there'}"]
    for path in candidates:
        if not (problem := _problem(path)):
            newest = f"{'; '.join(problems)}. The run resumes from the newest other checkpoint, {path}"
            return str(path), newest if problems else ""
        problems.append(problem)
    if not candidates:
        return None, f"{folder} has no checkpoint to resume: the run starts from the beginning"
    lines = [f"{folder}: no checkpoint that is there can be resumed:", *(f"  {text}" for text in problems)]
    raise InputError("\n".join([*lines, "To start anew, leave --resume out or choose another --work-dir"]))


def _newest_first(folder: Path) -> list[Path]:
    files = filter(Path.is_file, folder.glob("*.pth"))
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _problem(path: Path) -> str:
    """Say why a run can't resume from ``path``, or ""."""
    try:
        missing = missing_state(read_checkpoint(path))
    except InputError as error:
        return str(error)
    return f"{path}: it lacks {', '.join(missing)}" if missing else ""
