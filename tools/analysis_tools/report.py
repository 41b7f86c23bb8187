"""Write one HTML page of a run: config, data, curves, precision, the images with most errors by kind.

python tools/analysis_tools/report.py work_dirs/mine

It reads the predictions in work_dirs/mine/results.pkl. Where there are none the best checkpoint (of a run
without one the last) is tested, and they are saved there. The page is one file, which fetches nothing.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, init_default_scope
from tqdm import tqdm

from projects.attention_viewer.page import image_names, write_html
from projects.dataset_report.check import check_datasets
from projects.reliable_runner.data.image_arrays import as_shown
from projects.reliable_runner.data.image_loading import image_loader
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.disk_space import check_writable
from projects.reliable_runner.launcher import (
    add_cfg_options,
    build_runner,
    load_from,
    parse_config,
    positive_int,
    run_tool,
)
from projects.reliable_runner.log import quiet
from projects.reliable_runner.metric.confusion import confusion_matrix
from projects.reliable_runner.metric.saved_results import read_results, true_objects
from projects.reliable_runner.progress import progress
from projects.reliable_runner.run_state import leaf_datasets
from projects.run_report.curves import recall_section, training_section
from projects.run_report.data import data_section
from projects.run_report.error_kinds import Judged, judge
from projects.run_report.page import config_section, render, summary_section
from projects.run_report.pictures import Shown, picture_section, worst
from projects.run_report.precision import evaluate
from projects.run_report.run_folder import RunFolder
from projects.run_report.tables import confusion_section, kind_section, precision_section


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Write one HTML page of a run.")
    parser.add_argument("work_dir", type=Path, help="folder of a training")
    parser.add_argument("--out", type=Path, help="page to write (WORK_DIR/report.html)")
    what = "what tools/test.py --out has written (WORK_DIR/results.pkl); made here where there is none"
    parser.add_argument("--results", type=Path, help=what)
    parser.add_argument("--checkpoint", help="what to test then (the best one, or the last)")
    what = "data set of the predictions (test, as for tools/test.py)"
    parser.add_argument("--split", choices=["val", "test"], default="test", help=what)
    parser.add_argument("--num", type=positive_int, default=20, help="images with most errors to show (20)")
    parser.add_argument("--score-thr", type=float, default=0.3, help="least score of a detection (0.3)")
    what = "page of visualize_attention.py --html, which images in it are linked to"
    parser.add_argument("--viewer", type=Path, metavar="PAGE", help=what)
    add_cfg_options(parser)
    args = parser.parse_args(argv)

    run = RunFolder.of(args.work_dir)
    args.config = run.config
    args.out = args.out or run.path / "report.html"
    args.results = args.results or run.path / "results.pkl"
    check_writable(args.out.parent, "folder of the page", "--out")
    viewed = image_names(args.viewer) if args.viewer else []
    cfg = parse_config(args)
    init_default_scope(cfg.get("default_scope") or "mmdet")
    if not cfg.get(f"{args.split}_dataloader"):
        raise InputError(f"{cfg.filename}: it has no {args.split}_dataloader; choose another with --split")
    report = check_datasets(cfg, quick=True)
    if args.results.is_file():
        tested = str(args.results)
        print(f"predictions: {args.results}; remove it to test anew")
    else:
        checkpoint = args.checkpoint or run.checkpoint()
        tested = str(checkpoint)
        print(f"predictions: of {checkpoint}, saved in {args.results}")
        predict(cfg.copy(), args, checkpoint)
    results = read_results(args.results)
    with quiet():
        dataset = DATASETS.build(cfg[f"{args.split}_dataloader"].dataset)
    classes = dataset.metainfo["classes"]
    truth = true_objects(dataset, results)
    pairs = [*zip(results, truth, strict=True)]
    judged = [judge(found["pred_instances"], objects) for found, objects in tqdm(pairs, "errors")]
    sure = [judge(found["pred_instances"], objects, args.score_thr) for found, objects in pairs]
    matrix = confusion_matrix(results, truth, len(classes), args.score_thr)
    precision = evaluate(cfg, args.split, dataset, results)
    images = show(dataset, results, sure, args, viewed)
    num_objects = [sum(int((image.true_labels == i).sum()) for image in sure) for i in range(len(classes))]

    sections = [
        summary_section(facts(run, cfg, tested, len(results), args.split)),
        precision_section(precision, classes, num_objects),
        kind_section(sure, judged, len(classes), args.score_thr),
        picture_section(images, classes, args.score_thr),
        confusion_section(matrix, classes, args.score_thr),
        recall_section(precision, classes),
        training_section(run.log),
        data_section(report, (cfg.get("model") or {}).get("num_queries")),
        config_section(run.config.read_text("utf-8")),
    ]
    write_html(render(f"Run report: {run.path.resolve().name}", sections), args.out, "--out")
    print(f"saved {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")


class _Bar(Hook):
    """Moves a progress bar with each batch of a test."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    def after_test_iter(self, *args, **kwargs) -> None:
        self.bar.update()


def predict(cfg: Config, args: Namespace, checkpoint: str | Path) -> None:
    """Test a checkpoint as tools/test.py does, and save the predictions in ``args.results``."""
    check_writable(args.results.parent, "folder of the predictions", "--results")
    with quiet():
        load_from(cfg, str(checkpoint), args.cfg_options)
    cfg.resume, cfg.launcher = False, "none"
    cfg.test_dataloader, cfg.test_cfg = cfg[f"{args.split}_dataloader"], dict(type="TestLoop")
    cfg.test_evaluator = dict(type="mmdet.DumpDetResults", out_file_path=str(args.results))
    with TemporaryDirectory() as cfg.work_dir:
        with quiet():
            runner = build_runner(cfg)
        with progress(len(runner.test_dataloader), "batch", desc="test") as bar, quiet():
            runner.register_hook(_Bar(bar))
            runner.test()


def show(
    dataset: BaseDataset,
    results: Sequence[dict],
    judged: Sequence[Judged],
    args: Namespace,
    viewed: Sequence[str],
) -> list[Shown]:
    """Read the images with most errors; those in the page of where attention looks are linked to it."""
    infos = {info["img_id"]: info for info in map(dataset.get_data_info, range(len(dataset)))}
    read = image_loader(next(leaf_datasets(dataset)))
    shown = []
    for i in tqdm(worst(judged, args.num), "images"):
        path = infos[results[i]["img_id"]]["img_path"]
        name, link = Path(path).name, None
        if name in viewed:
            page = Path(os.path.relpath(args.viewer, args.out.parent)).as_posix()
            link = f"{quote(os.fsencode(page))}#{viewed.index(name)}"
        image = as_shown(read(dict(img_path=path))["img"])[..., ::-1]
        shown.append(Shown(name, image, judged[i], link))
    if viewed and not any(one.link for one in shown):
        print(f"{args.viewer} shows none of these images, so there is no link to it")
    return shown


def facts(run: RunFolder, cfg: Config, tested: str, num_images: int, split: str) -> dict[str, str]:
    """What the page is of, as far as the run has left it."""
    iterations = run.log["iter"][-1][1]
    trained = []
    if "epoch" in run.log:
        epochs = run.log["epoch"][-1][1]
        trained.append(f"{epochs:g} epoch{'s' if epochs != 1 else ''}")
    trained.append(f"{iterations:g} iterations")
    if "time" in run.log:
        seconds = median(seconds for _, seconds in run.log["time"])
        trained.append(f"{iterations * seconds / 60:.0f} minutes")
    model = cfg.get("model") or {}
    parts = [part.get("type") for part in (model, model.get("backbone") or {})]
    return {
        "Folder": run.path,
        "Model": " with ".join(filter(None, parts)) or "not in the config",
        "Trained for": ", ".join(trained),
        "Predictions": tested,
        "Tested on": f"{num_images} images of the {split} set",
    }


if __name__ == "__main__":
    sys.exit(run_tool(main))
