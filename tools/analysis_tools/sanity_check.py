"""Learn a few training images by heart; if that fails, say which part is at fault.

python tools/analysis_tools/sanity_check.py configs/mine.py

See docs/custom_data.md.
"""

import copy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate

from projects.dataset_report.check import check_datasets
from projects.reliable_runner import sanity
from projects.reliable_runner.data.seeded_items import seed_generators
from projects.reliable_runner.drawing import build_visualizer
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.media import MediaWriter
from projects.reliable_runner.launcher import config_parser, parse_config, positive_int, run_tool
from tools.analysis_tools.browse_dataset import has_deep_images, picture_of, training_set


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Learn a few training images by heart, or say what keeps from it.")
    parser.add_argument("--num", type=positive_int, default=8, help="images (8)")
    parser.add_argument("--iterations", type=positive_int, default=300, help="at most so many (300)")
    parser.add_argument("--max-side", type=positive_int, help="to which images are shrunk (224 on a CPU)")
    parser.add_argument("--out-dir", type=Path, default="work_dirs/sanity_check", help="for the pictures")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    if args.max_side is None and args.device == "cpu":
        args.max_side = 224

    cfg = parse_config(args)
    look_at_data(cfg)
    dataset = training_set(cfg)
    indices = sanity.images_with_objects(dataset, args.num)
    seed_generators(0)
    faults = list(sanity.look_at_boxes(dataset, indices))
    items = [dataset[index] for index in indices]
    if not any(len(item["data_samples"].gt_instances) for item in items):
        raise InputError(
            f"{cfg.filename}: the training pipeline leaves no object in the first {len(items)} images"
        )
    batch = pseudo_collate([sanity.shrunk(item, args.max_side) for item in items])
    faults += sanity.look_at_model(cfg, batch)
    for fault in faults:
        print(f"to look at: {fault}")
    if any(fault.startswith("labels: ") for fault in faults):
        raise InputError(f"{cfg.filename}: the labels are at fault: {'; '.join(faults)}")
    draw(cfg, dataset, items, args.out_dir)
    print(f"the boxes as they are trained on: {args.out_dir}")

    found, losses = sanity.learn(cfg, batch, args.device, args.iterations, "as configured")
    if found >= sanity.LEARNT:
        known = f"; but look at: {'; '.join(faults)}" if faults else ""
        print(f"learnt by heart: {found:.0%} of the objects of {len(items)} images are found{known}")
        return
    # First what was seen without training: a remedy may also hide the fault of another part.
    suspects = {fault.partition(":")[0] for fault in faults}
    remedies = sorted(sanity.remedies(cfg, batch), key=lambda remedy: remedy[0] not in suspects)
    for part, change, how in remedies:
        better, _ = sanity.learn(change, batch, args.device, args.iterations, how)
        if better >= sanity.LEARNT:
            text = f"{part} is at fault: {how} {better:.0%} is learnt, as configured {found:.0%}"
            raise InputError(f"{cfg.filename}: {text}")
    text = "; ".join([*faults, *(f"{name} {value:.3g}" for name, value in losses.items())])
    raise InputError(f"{cfg.filename}: only {found:.0%} of the objects are learnt; {text}")


def look_at_data(cfg: Config) -> None:
    """What `check_dataset.py` finds in the annotations of the training set; an error ends the check."""
    report = check_datasets(cfg, ["train"], quick=True)
    for finding in report.findings:
        print(f"to look at: {finding}")
    if report.errors:
        raise InputError(f"{cfg.filename}: the data are at fault: {' '.join(str(report.errors[0]).split())}")


def draw(cfg: Config, dataset: BaseDataset, items: list[dict], folder: Path) -> None:
    """A picture of each item with its boxes."""
    visualizer = build_visualizer(cfg, dataset.metainfo["classes"])
    with MediaWriter(folder) as pictures:
        for item in copy.deepcopy(items):
            picture, sample = picture_of(visualizer, item, has_deep_images(dataset))
            pictures.write(Path(sample.get("img_path", "image")).with_suffix(".png").name, picture)


if __name__ == "__main__":
    sys.exit(run_tool(main))
