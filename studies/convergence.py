"""Train DETR, the variants of Deformable DETR and DINO alike, and compare how fast they converge.

    python studies/convergence.py --out work_dirs/convergence

The paper's Figure 3 in small, on drawings of its own, from a backbone that has learnt to classify them. The
folder --out gets convergence.png, table.md, results.json and curves.csv. The same command again resumes an
interrupted study; runs that have finished are skipped.
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
from projects.reliable_runner.launcher import positive_int, run_tool
from studies.convergence_results import Run, read_run, write_results
from studies.pretrain import main as pretrain
from tools.dataset_converters.draw_shapes import draw_split

REPO = Path(__file__).resolve().parents[1]
CONFIGS = {
    "detr": "detr_r18_shapes_c5",
    "detr_dc5": "detr_r18_shapes",
    "single_scale": "ddetr_r18_shapes_single_scale",
    "multi_scale": "ddetr_r18_shapes_multi_scale",
    "refine": "ddetr_r18_shapes_refine",
    "two_stage": "ddetr_r18_shapes",
    "encoder_only": "ddetr_r18_shapes_encoder_only",
    "dn": "ddetr_r18_shapes_dn",
    "mixed": "ddetr_r18_shapes_mixed",
    "dino": "dino_r18_shapes",
}
TIMES_AS_LONG = {"detr": 10, "detr_dc5": 10}  # as the paper trains DETR for 500 epochs and the others for 50

# What a run adds to the config of its row; learning rates are the configs' own.
RUN = """\
_base_ = {base!r}
custom_imports = dict(imports=["projects.reliable_runner", "studies.observe"])
custom_hooks = [dict(type="ObserveHook")]
data_root = {data_root!r}
batch_size = 16
max_epochs = {max_epochs}
val_interval = {val_interval}
model = dict(
    num_queries=12,  # the images hold three objects at most
    backbone=dict(init_cfg=dict(_delete_=True, type="Pretrained", checkpoint={backbone!r})),
    test_cfg=dict(max_per_img=12),
)
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))  # as published
default_hooks = dict(
    logger=dict(ignore_last=False),
    checkpoint=dict(max_keep_ckpts=1, save_best=None),
    visualization=dict(draw=False),
)
randomness = dict(seed={seed})
"""
DRAWINGS = dict(size=96, max_shapes=3, sides=(8, 56))


def main(argv: list[str] | None = None) -> None:
    """Train and compare as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description="Train the variants alike and compare how fast they converge.")
    what = f"which of {', '.join(CONFIGS)}"
    parser.add_argument("--rows", nargs="+", choices=CONFIGS, default=list(CONFIGS), metavar="ROW", help=what)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="a run for each")
    what = "of a row; DETR has ten times as many"
    parser.add_argument("--epochs", type=positive_int, default=12, help=what)
    parser.add_argument("--images", type=positive_int, default=4000, help="to train on; a tenth to validate")
    parser.add_argument("--pretrain-epochs", type=positive_int, default=3, help="of the backbone")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/convergence"), help="folder")
    parser.add_argument("--jobs", type=positive_int, default=1, help="trainings at a time; on one GPU 1")
    what = "seed 0, 160 images, one epoch, DETR two: shows in minutes that all works"
    parser.add_argument("--quick", action="store_true", help=what)
    what = "more settings, the same for every run"
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help=what)
    parser.add_argument("--dry-run", action="store_true", help="print the commands alone")
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.images, args.epochs, args.pretrain_epochs = [0], 160, 1, 1

    wanted = [(row, seed) for seed in args.seeds for row in args.rows]
    if args.dry_run:
        for row, seed in wanted:
            print(shlex.join(map(str, train_command(args, row, seed))))
        return
    settings = [
        f"--{key.replace('_', '-')}={getattr(args, key)}" for key in ("epochs", "images", "pretrain_epochs")
    ]
    claim_folder(args.out, [*settings, *args.cfg_options])
    prepare(args)

    runs = []
    with ThreadPool(args.jobs) as pool:
        for done in pool.imap_unordered(lambda run: train(args, *run), wanted):
            runs.append(done)
            progress = f"[{len(runs)}/{len(wanted)}] {done.row}, seed {done.seed}"
            print(f"{progress}: AP {done.curves['AP'][-1]:.3f}", flush=True)
    runs.sort(key=lambda run: (list(CONFIGS).index(run.row), run.seed))
    write_results(args.out, runs)


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


def prepare(args: Namespace) -> None:
    """Draw the images and pretrain the backbone, unless it is done."""
    data, backbone = args.out / "data", args.out / "backbone.pth"
    if not backbone.is_file():
        for seed, (split, number) in enumerate((("train", args.images), ("val", args.images // 10))):
            draw_split(data, split, number, seed=seed, **DRAWINGS)
        pretrain([f"--data-root={data}/", f"--epochs={args.pretrain_epochs}", f"--out={backbone}"])


def run_config(args: Namespace, row: str, seed: int) -> str:
    """The text of a run's config."""
    times = TIMES_AS_LONG.get(row, 1)
    if args.quick:
        times = min(times, 2)
    return RUN.format(
        base=str(REPO / "configs" / "shapes" / f"{CONFIGS[row]}.py"),
        data_root=f"{(args.out / 'data').resolve()}/",
        backbone=str((args.out / "backbone.pth").resolve()),
        max_epochs=times * args.epochs,
        val_interval=times,
        seed=seed,
    )


def train_command(args: Namespace, row: str, seed: int) -> list[str | Path]:
    """How tools/train.py is called; with ``--resume``, so that an interrupted run resumes."""
    folder = run_folder(args.out, row, seed)
    options = ["--cfg-options", *args.cfg_options] if args.cfg_options else []
    train = REPO / "tools" / "train.py"
    return [sys.executable, train, folder / "run.py", "--resume", "--work-dir", folder, *options]


def run_folder(out: Path, row: str, seed: int) -> Path:
    """Where a run of the study ``out`` has its checkpoints and logs."""
    return out / f"{row}_seed{seed}"


def train(args: Namespace, row: str, seed: int) -> Run:
    """Train one run unless it has finished, and read its logs.

    Raises:
        InputError: the training failed; the message names its output.
    """
    folder = run_folder(args.out, row, seed)
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
    return read_run(row, seed, folder, json.loads(finished.read_text())["max_rss_mb"])


if __name__ == "__main__":
    sys.exit(run_tool(main))
