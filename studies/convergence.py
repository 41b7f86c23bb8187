"""Train DETR, the variants of Deformable DETR and DINO alike, and compare how fast they converge.

python studies/convergence.py --out work_dirs/convergence

The paper's Figure 3 in small (``--study table_2``: its table 2), on drawings of its own, from a backbone
that has learnt to classify them. The folder --out gets data, checkpoints and logs; --results the numbers of
each run in a CSV file, and tables and pictures of all that are there. The same command again resumes an
interrupted study; runs that have their numbers in --results are skipped. See docs/convergence.md.
"""

import json
import os
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from itertools import product
from multiprocessing.pool import ThreadPool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.atomic_file import write_atomically
from projects.reliable_runner.files.disk_space import check_writable
from projects.reliable_runner.launcher import positive_int, run_tool
from studies.figures import write_results
from studies.pretrain import main as pretrain
from studies.results import Run, collect, read_study, run_path, write_run
from studies.rows import ROWS, STUDIES
from tools.dataset_converters.draw_shapes import draw_split

REPO = Path(__file__).resolve().parents[1]

# What a run adds to the config of its row; learning rates are the configs' own.
RUN = """\
_base_ = {base!r}
custom_imports = dict(imports=["projects.reliable_runner", "studies.observe", "studies.size_metric"])
custom_hooks = [dict(type="ObserveHook")]
data_root = {data_root!r}
batch_size = 8
max_epochs = {max_epochs}
val_interval = {val_interval}
warmup_iters = {warmup_iters}
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PackDetInputs"),
]
model = dict(
    num_queries=12,  # the images hold three objects at most
    backbone=dict(init_cfg=dict(_delete_=True, type="Pretrained", checkpoint={backbone!r})),
    test_cfg=dict(max_per_img=12),
)
# As published.
optim_wrapper = dict(
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1), sampling_offsets=dict(lr_mult=0.1), reference_points=dict(lr_mult=0.1)
        )
    ),
)
val_evaluator = dict(type="SizeMetric", sides={sides})
default_hooks = dict(
    logger=dict(ignore_last=False),
    checkpoint=dict(max_keep_ckpts=1, save_best=None),
    visualization=dict(draw=False),
)
randomness = dict(seed={seed})
"""
DRAWINGS = dict(size=96, max_shapes=3, sides=(20, 80))
SIDES = [20, 24, 32, 48, 64, 81]  # between which AP is measured; together all of DRAWINGS


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Train the variants alike and compare how fast they converge.")
    what = "figure_3: DETR against the variants; table_2: points, levels and heads of the multi-scale one; "
    what += "search: each variant with other learning rates, too"
    parser.add_argument("--study", choices=STUDIES, default="figure_3", help=what)
    what = f"to train, which of {', '.join(ROWS)}; all of the study by default"
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=what)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="a run for each")
    what = "of a row; DETR has ten times as many"
    parser.add_argument("--epochs", type=positive_int, default=10, help=what)
    what = "to train on; a quarter to validate"
    parser.add_argument("--images", type=positive_int, default=1500, help=what)
    parser.add_argument("--pretrain-epochs", type=positive_int, default=3, help="of the backbone")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/convergence"), help="folder")
    what = "folder of the runs' numbers, of tables and pictures (OUT/results)"
    parser.add_argument("--results", type=Path, help=what)
    parser.add_argument("--jobs", type=positive_int, default=1, help="trainings at a time; on one GPU 1")
    what = "seed 0, 160 images, one epoch, DETR two: shows in minutes that all works"
    parser.add_argument("--quick", action="store_true", help=what)
    what = "more settings, the same for every run"
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help=what)
    parser.add_argument("--dry-run", action="store_true", help="print the commands of all runs alone")
    args = parser.parse_args(argv)
    rows = STUDIES[args.study]
    if unknown := [row for row in args.rows or () if row not in rows]:
        raise InputError(f"--rows {' '.join(unknown)}: the rows of {args.study} are {', '.join(rows)}")
    if args.quick:
        args.seeds, args.images, args.epochs, args.pretrain_epochs = [0], 160, 1, 1
    results = args.results or args.out / "results"

    wanted = [(row, seed) for seed, row in dict.fromkeys(product(args.seeds, args.rows or rows))]
    if args.dry_run:
        for row, seed in wanted:
            print(shlex.join(map(str, train_command(args, row, seed))))
        return
    missing = [run for run in wanted if not run_path(results, *run).is_file()]
    claim_folders([results, args.out] if missing else [results], study_settings(args))
    if missing:
        read_study(results, rows)  # a spoilt file is named before hours of training
        prepare(args)
    failures = []
    with ThreadPool(args.jobs) as pool:
        for number, done in enumerate(pool.imap_unordered(lambda run: attempt(args, *run), missing), 1):
            if isinstance(done, InputError):
                failures.append(str(done))
                told = failures[-1]
            else:
                write_run(results, done)
                told = f"{done.row}, seed {done.seed}: AP {done.last('AP'):.3f}"
            print(f"[{number}/{len(missing)}] {told}", flush=True)
    if runs := read_study(results, rows):
        write_results(results, args.study, runs)
    if failures:
        raise InputError("; ".join(failures))


def study_settings(args: Namespace) -> list[str]:
    """What all runs of a study share."""
    names = ("epochs", "images", "pretrain_epochs")
    settings = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in names]
    return [*settings, *(["--quick"] if args.quick else []), *args.cfg_options]


def claim_folders(folders: list[Path], options: list[str]) -> None:
    """Note the settings of the study in its folders; `InputError` if one holds a study with others."""
    notes = [folder / "options.json" for folder in folders]
    for note in notes:
        check_writable(note.parent, "folder of the study", "--out and --results")
        if note.is_file() and json.loads(note.read_text()) != options:
            raise InputError(
                f"{note}: this study was begun with {' '.join(json.loads(note.read_text()))}, not with "
                f"{' '.join(options)}; choose other folders with --out and --results"
            )
    for note in notes:
        write_atomically(note, json.dumps(options).encode())


def prepare(args: Namespace) -> None:
    """Draw the images and pretrain the backbone, unless it is done."""
    data, backbone = args.out / "data", args.out / "backbone.pth"
    if not backbone.is_file():
        for seed, (split, number) in enumerate((("train", args.images), ("val", args.images // 4))):
            draw_split(data, split, number, seed=seed, **DRAWINGS)
        pretrain([f"--data-root={data}/", f"--epochs={args.pretrain_epochs}", f"--out={backbone}"])


def run_config(args: Namespace, row: str, seed: int) -> str:
    times = ROWS[row].times_as_long
    if args.quick:
        times = min(times, 2)
    return RUN.format(
        base=str(REPO / "configs" / "shapes" / f"{ROWS[row].config}.py"),
        data_root=f"{(args.out / 'data').resolve()}/",
        backbone=str((args.out / "backbone.pth").resolve()),
        max_epochs=times * args.epochs,
        val_interval=times,
        warmup_iters=50 * times,
        sides=SIDES,
        seed=seed,
    )


def train_command(args: Namespace, row: str, seed: int) -> list[str | Path]:
    """How tools/train.py is called; with ``--resume``, so that an interrupted run resumes."""
    folder = args.out / f"{row}_seed{seed}"
    options = [*(f"{key}={value}" for key, value in ROWS[row].options.items()), *args.cfg_options]
    train = REPO / "tools" / "train.py"
    command = [sys.executable, train, folder / "run.py", "--resume", "--work-dir", folder]
    return [*command, "--cfg-options", *options] if options else command


def attempt(args: Namespace, row: str, seed: int) -> Run | InputError:
    """`train`, or why it has failed: the others go on."""
    try:
        return train(args, row, seed)
    except InputError as error:
        return error


def train(args: Namespace, row: str, seed: int) -> Run:
    """Train one run unless it has finished, and read its logs; `InputError` if it fails names its output."""
    folder = args.out / f"{row}_seed{seed}"
    folder.mkdir(exist_ok=True)
    (folder / "run.py").write_text(run_config(args, row, seed))
    finished = folder / "finished.json"
    if not finished.is_file():
        env = {**os.environ, "OMP_NUM_THREADS": "1"} if args.jobs > 1 else None
        printed = folder / "train.log"
        with printed.open("a") as log:
            command = train_command(args, row, seed)
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise InputError(f"the run {row}, seed {seed}, has failed; {printed} tells why")
        finished.write_text(json.dumps(dict(max_rss_mb=usage.ru_maxrss / 1024)))
    return collect(row, seed, folder, json.loads(finished.read_text())["max_rss_mb"])


if __name__ == "__main__":
    sys.exit(run_tool(main))
