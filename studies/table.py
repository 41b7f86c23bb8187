"""A table as a CSV file."""

import csv
import io
from pathlib import Path

from projects.reliable_runner.files.atomic_file import write_atomically


def write_rows(path: Path, rows: list[dict], append: bool = False) -> None:
    """Write rows below a head, or add them to what is there already."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    before = path.read_bytes() if append and path.exists() else b""
    if not before:
        writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, before + text.getvalue().encode())
