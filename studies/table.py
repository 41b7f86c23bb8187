"""A table as a CSV file."""

import csv
from pathlib import Path


def write_rows(path: Path, rows: list[dict], append: bool = False) -> None:
    """Write rows below a head, or add them to what is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    has_head = append and path.exists()
    with path.open("a" if append else "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        if not has_head:
            writer.writeheader()
        writer.writerows(rows)
