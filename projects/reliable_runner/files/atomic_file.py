"""Files that are complete or not there, whenever the process is killed."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend

from ..errors import InputError

_SUFFIX = ".unfinished"


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path`` and, once it is on the disk, rename it.

    The folder is made. A link stays, and the file that it names is written. `InputError` if it can't be
    written; what was there before is still there.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f"{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name != "nt":  # Windows opens no folders
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the renaming outlives a loss of power
            finally:
                os.close(folder)
    except OSError as error:
        raise InputError(
            f"{path}: {len(data)} bytes can't be written ({error.strerror}); what was there before is as it "
            "was. Free space in its folder, or choose another"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: str | Path) -> list[Path]:
    """Remove what killed runs have left half written in ``folder``; returns what was removed."""
    unfinished = sorted(Path(folder).glob(f"*{_SUFFIX}"))
    for path in unfinished:
        path.unlink(missing_ok=True)
    return unfinished


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, written by `write_atomically`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomically(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        self.put(obj.encode(encoding), filepath)
