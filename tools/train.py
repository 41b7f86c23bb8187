"""Train a detector from a config.

python tools/train.py configs/ddetr_r50_50e.py --work-dir work_dirs/first
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config

import projects.dataset_report  # noqa: F401, whose hook configs name
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import (
    add_common_arguments,
    build_runner,
    load_from,
    read_config,
    run_tool,
)
from projects.reliable_runner.training.start import choose_start


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Train a detector.")
    parser.add_argument("config", help="config file")
    what = "resume from PATH, or from the latest checkpoint in the work_dir if there is one"
    parser.add_argument("--resume", nargs="?", const="auto", metavar="auto|PATH", help=what)
    what = "where a resumed run has learning rate and schedule from (checkpoint)"
    sources = ["checkpoint", "config"]
    parser.add_argument("--resume-schedule", choices=sources, default="checkpoint", help=what)
    what = "mixed precision; alone it means float16, which needs a GPU"
    parser.add_argument("--amp", nargs="?", const="float16", choices=["float16", "bfloat16"], help=what)
    what = "scale the learning rate by total batch size / auto_scale_lr.base_batch_size"
    parser.add_argument("--auto-scale-lr", action="store_true", help=what)
    add_common_arguments(parser)
    args = parser.parse_args(argv)

    cfg = read_config(args)
    message = choose_start(cfg, args.resume)
    if cfg.get("load_from"):
        load_from(cfg, cfg.load_from, args.cfg_options)
    if args.amp:
        cfg.optim_wrapper.update(type="AmpOptimWrapper", dtype=args.amp)
    if args.auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if args.resume_schedule == "config":
        hook = dict(type="ResumedSettingsHook", schedule="config")
        cfg.default_hooks = dict(cfg.get("default_hooks", {}), resumed_settings=hook)
    runner = build_runner(cfg, args.local_rank)
    if message:
        runner.logger.warning(message)
    runner.train()


def enable_auto_scale_lr(cfg: Config) -> None:
    """Switch ``auto_scale_lr`` on; `InputError` if the config does not say for which batch its rate is."""
    if not cfg.get("auto_scale_lr", {}).get("base_batch_size"):
        raise InputError(
            f"{cfg.filename}: --auto-scale-lr wants auto_scale_lr = dict(enable=False, base_batch_size=N), "
            "where N is the total batch size that the learning rate was chosen for"
        )
    cfg.auto_scale_lr.enable = True


if __name__ == "__main__":
    sys.exit(run_tool(main))
