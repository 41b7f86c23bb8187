"""Train DETR, the variants of Deformable DETR and DINO alike, and compare how fast they converge.

    python tools/dataset_converters/draw_shapes.py data/shapes
    python studies/convergence.py --out work_dirs/convergence

The paper's Figure 3 in small: convergence.png, table.md, results.json and curves.csv in the folder --out. The
same command again resumes an interrupted study; runs that have finished are skipped.
"""

import json
import os
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from multiprocessing.pool import ThreadPool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import run_tool
from studies.convergence_results import Run, read_run, write_results

REPO = Path(__file__).resolve().parents[1]
CONFIGS = {
    "detr": "detr_r18_shapes",
    "detr_long": "detr_r18_shapes",
    "single_scale": "ddetr_r18_shapes_single_scale",
    "multi_scale": "ddetr_r18_shapes_multi_scale",
    "refine": "ddetr_r18_shapes_refine",
    "two_stage": "ddetr_r18_shapes",
    "encoder_only": "ddetr_r18_shapes_encoder_only",
    "dn": "ddetr_r18_shapes_dn",
    "mixed": "ddetr_r18_shapes_mixed",
    "dino": "dino_r18_shapes",
}

TIMES_AS_LONG = {"detr_long": 10}  # as the paper trains DETR for 500 epochs and the others for 50


def main(argv: list[str] | None = None) -> None:
    """Train and compare as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description="Train the variants alike and compare how fast they converge.")
    what = f"which of {', '.join(CONFIGS)}"
    parser.add_argument("--rows", nargs="+", choices=CONFIGS, default=list(CONFIGS), metavar="ROW", help=what)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="a run for each")
    what = "of a row; DETR's long one has ten times as many"
    parser.add_argument("--epochs", type=int, default=16, help=what)
    what = "of tools/dataset_converters/draw_shapes.py"
    parser.add_argument("--data-root", default="data/shapes/", help=what)
    parser.add_argument("--train-images", type=int, help="train on the first ones alone")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/convergence"), help="folder")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; on one GPU 1")
    what = "more settings, the same for every run"
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help=what)
    parser.add_argument("--dry-run", action="store_true", help="print the commands alone")
    args = parser.parse_args(argv)

    options = study_options(args)
    wanted = [(row, seed) for seed in args.seeds for row in args.rows]
    if args.dry_run:
        for row, seed in wanted:
            print(shlex.join(map(str, train_command(args.out, row, seed, args.epochs, options))))
        return
    claim_folder(args.out, [f"--epochs={args.epochs}", *options])

    def run(row_and_seed: tuple[str, int]) -> Run:
        return train(args.out, *row_and_seed, args.epochs, options, one_thread=args.jobs > 1)

    runs = []
    with ThreadPool(args.jobs) as pool:
        for done in pool.imap_unordered(run, wanted):
            runs.append(done)
            progress = f"[{len(runs)}/{len(wanted)}] {done.row}, seed {done.seed}"
            print(f"{progress}: AP {done.curves['AP'][-1]:.3f}", flush=True)
    runs.sort(key=lambda run: (list(CONFIGS).index(run.row), run.seed))
    write_results(args.out, runs)


def study_options(args: Namespace) -> list[str]:
    """The ``--cfg-options`` that all runs of a study share."""
    images = [f"train_dataloader.dataset.indices={args.train_images}"] if args.train_images else []
    return [
        f"data_root={args.data_root}",
        "default_hooks.logger.ignore_last=False",
        "default_hooks.checkpoint.max_keep_ckpts=1",
        "default_hooks.checkpoint.save_best=None",
        *images,
        *args.cfg_options,
    ]


def claim_folder(out: Path, options: list[str]) -> None:
    """Note the settings of the study in its folder.

    Raises:
        InputError: the folder holds a study with other settings.
    """
    note = out / "options.json"
    if note.is_file() and json.loads(note.read_text()) != options:
        raise InputError(
            f"{note}: this study was begun with {' '.join(json.loads(note.read_text()))}, not with "
            f"{' '.join(options)}; choose another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(options))


def train_command(out: Path, row: str, seed: int, epochs: int, options: list[str]) -> list[str | Path]:
    """How tools/train.py is called; with ``--resume``, so that an interrupted run resumes."""
    config = REPO / "configs" / "shapes" / f"{CONFIGS[row]}.py"
    times = TIMES_AS_LONG.get(row, 1)
    return [
        *(sys.executable, REPO / "tools" / "train.py", config, "--resume"),
        *("--work-dir", run_folder(out, row, seed)),
        *("--cfg-options", f"randomness.seed={seed}"),
        f"train_cfg.max_epochs={times * epochs}",
        f"train_cfg.val_interval={times}",
        f"param_scheduler.1.T_max={times * epochs}",
        *options,
    ]


def run_folder(out: Path, row: str, seed: int) -> Path:
    """Where a run of the study ``out`` has its checkpoints and logs."""
    return out / f"{row}_seed{seed}"


def train(out: Path, row: str, seed: int, epochs: int, options: list[str], one_thread: bool) -> Run:
    """Train one run unless it has finished, and read its logs.

    Raises:
        InputError: the training failed; the message names its output.
    """
    folder = run_folder(out, row, seed)
    folder.mkdir(exist_ok=True)
    finished = folder / "finished.json"
    if not finished.is_file():
        env = {**os.environ, "OMP_NUM_THREADS": "1"} if one_thread else None
        printed = folder / "train.log"
        with printed.open("a") as log:
            command = train_command(out, row, seed, epochs, options)
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise InputError(f"the run {row}, seed {seed}, has failed; {printed} tells why")
        finished.write_text(json.dumps(dict(max_rss_mb=usage.ru_maxrss / 1024)))
    return read_run(row, seed, folder, json.loads(finished.read_text())["max_rss_mb"])


if __name__ == "__main__":
    sys.exit(run_tool(main))
