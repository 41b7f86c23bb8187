"""Look at the data before training: what is wrong with it, and what is in it.

    python tools/check_dataset.py CONFIG

reads the annotation files that CONFIG names and opens every image, prints a report, and writes
``report.json`` (every finding with all its ids) and ``statistics.png``. The exit status is 0 if a training
can start, 1 if something would stop it or silently spoil it; the last line says so. Warnings do not count.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from projects.dataset_report.check import check_datasets
from projects.dataset_report.figure import draw_statistics
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import config_parser, parse_config, run_tool


def main(argv: list[str] | None = None) -> None:
    """Check as ``argv`` (by default the command line) says; exit with status 1 if a training cannot start."""
    parser = config_parser("Check the data sets of a config before training on them.")
    what = "which data sets (those that the config has; test only if it is not val's)"
    parser.add_argument("--split", nargs="+", choices=["train", "val", "test"], help=what)
    what = "folder for report.json and statistics.png (work_dirs/<config name>/check_dataset)"
    parser.add_argument("--out-dir", type=Path, help=what)
    parser.add_argument("--quick", action="store_true", help="do not open the images")
    args = parser.parse_args(argv)

    cfg = parse_config(args)
    report = check_datasets(cfg, args.split, args.quick)
    out_dir = args.out_dir or Path("work_dirs", Path(args.config).stem, "check_dataset")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / "report.json").write_text(json.dumps(report.to_dict(), indent=1))
        draw_statistics(report.checked, cfg.get("model", {}).get("num_queries"), out_dir / "statistics.png")
    except OSError as error:
        raise InputError(f"--out-dir {out_dir}: can't be written ({error.strerror})") from error
    print(f"report.json and statistics.png are in {out_dir}\n{report}")
    if report.errors:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(run_tool(main))
