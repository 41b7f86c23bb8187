"""Test a checkpoint: the metrics of the config's test set, and if wanted predictions and pictures.

python tools/test.py configs/ddetr_r50_50e.py work_dirs/first/epoch_50.pth
python tools/test.py configs/ddetr_r50_50e.py work_dirs/first/epoch_50.onnx
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, init_default_scope

import projects.dataset_report  # noqa: F401, whose hook configs name
from projects.deployment.exported_detector import ExportedDetector
from projects.deployment.targets import is_exported
from projects.reliable_runner.checks.class_names import class_names
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import (
    add_common_arguments,
    build_runner,
    load_from,
    read_config,
    run_tool,
)
from projects.reliable_runner.run_state import bare_model
from projects.reliable_runner.training.compilation import FOR_INFERENCE, compile_networks


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Test a detector.")
    parser.add_argument("config", help="config file")
    what = "checkpoint: a file, an address or the name of a published model; or an exported file"
    parser.add_argument("checkpoint", help=what)
    parser.add_argument("--out", help="save the predictions in this file, which must end with .pkl")
    parser.add_argument("--compile", action="store_true", help="torch.compile: pays from some 100 images on")
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    what = "save pictures of predictions in this folder (under the work_dir's folder of the run)"
    parser.add_argument("--show-dir", help=what)
    parser.add_argument("--wait-time", type=float, default=2, help="seconds between shown pictures")
    add_common_arguments(parser)
    args = parser.parse_args(argv)

    if args.out and not args.out.endswith((".pkl", ".pickle")):
        raise InputError(f"--out {args.out}: the file is a pickle, its name must end with .pkl")
    if is_exported(args.checkpoint):
        check_options(args)
    cfg = read_config(args)
    cfg.resume = False
    if is_exported(args.checkpoint):
        use_exported(cfg, args.checkpoint)
    else:
        load_from(cfg, args.checkpoint, args.cfg_options)
    if args.show or args.show_dir:
        enable_drawing(cfg, args)
    runner = build_runner(cfg, args.local_rank)
    if args.compile:
        compile_networks(bare_model(runner), **FOR_INFERENCE)
    if args.out:
        dump = METRICS.build(dict(type="mmdet.DumpDetResults", out_file_path=args.out))
        runner.test_evaluator.metrics.append(dump)
    runner.test()


def check_options(args: Namespace) -> None:
    """Raise `InputError` for what an exported file can't follow."""
    if args.compile:
        raise InputError(f"--compile: {args.checkpoint} is compiled by what runs it")
    if keys := [key for key in args.cfg_options if f"{key}.".startswith("model.")]:
        raise InputError(f"{args.checkpoint} has its model inside; give {', '.join(keys)} to export.py")


def use_exported(cfg: Config, path: str) -> None:
    """Let an exported file take the model's place; `InputError` if its classes are not the test data's."""
    init_default_scope(cfg.get("default_scope") or "mmdet")
    classes = class_names(DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True)).metainfo)
    ExportedDetector(path).check_classes(classes, f"the test_dataloader of {cfg.filename}")
    cfg.model, cfg.load_from = dict(type="mmengine.ExportedDetector", path=path), None


def enable_drawing(cfg: Config, args: Namespace) -> None:
    """Let the visualization hook draw; `InputError` if the config has none."""
    hook = cfg.get("default_hooks", {}).get("visualization")
    if hook is None:
        raise InputError(
            f"{cfg.filename}: --show and --show-dir want "
            'default_hooks.visualization = dict(type="DetVisualizationHook")'
        )
    hook.update(draw=True, show=args.show, wait_time=args.wait_time, test_out_dir=args.show_dir)


if __name__ == "__main__":
    sys.exit(run_tool(main))
