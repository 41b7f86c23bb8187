"""Draw what the training pipeline feeds the model: images after augmentation, true boxes with names.

python tools/analysis_tools/browse_dataset.py CONFIG --output-dir work_dirs/browse --num 20
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from tqdm import tqdm

from projects.deformable_detr.registry import DATASETS, SCOPE
from projects.reliable_runner.checks.class_names import class_names
from projects.reliable_runner.data.image_loading import image_loader
from projects.reliable_runner.drawing import build_visualizer, draw_sample
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.media import MediaWriter
from projects.reliable_runner.launcher import config_parser, parse_config, run_tool
from projects.reliable_runner.run_state import leaf_datasets


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Draw what the training pipeline feeds the model.")
    parser.add_argument("--output-dir", type=Path, default="work_dirs/browse_dataset", help="of the pictures")
    parser.add_argument("--num", type=int, help="only so many images, the first ones of the data set")
    parser.add_argument("--show", action="store_true", help="show them in a window too")
    parser.add_argument("--not-show", dest="show", action="store_false", help="the default (MMDetection's)")
    parser.add_argument("--show-interval", type=float, default=2, help="seconds between shown ones (2)")
    args = parser.parse_args(argv)

    cfg = parse_config(args)
    dataset = training_set(cfg)
    is_deep = has_deep_images(dataset)
    visualizer = build_visualizer(cfg, class_names(dataset.metainfo))
    num = len(dataset) if args.num is None else min(args.num, len(dataset))
    with MediaWriter(args.output_dir) as pictures:
        for index in tqdm(range(num), unit="image"):
            picture, sample = picture_of(visualizer, dataset[index], is_deep)
            name = f"{index:06d}_{Path(sample.get('img_path', 'image.png')).name}"
            pictures.write(name, picture)
            if args.show:
                visualizer.show(picture[..., ::-1], name, wait_time=args.show_interval)
    print(f"{num} of {len(dataset)} images drawn in {args.output_dir}")


def training_set(cfg: Config) -> BaseDataset:
    """Build the data set of ``train_dataloader``; `InputError` if the config has none."""
    if not cfg.get("train_dataloader"):
        raise InputError(f"{cfg.filename}: it has no train_dataloader, whose dataset is to be drawn")
    init_default_scope(cfg.get("default_scope") or SCOPE)
    return DATASETS.build(cfg.train_dataloader.dataset)


def has_deep_images(dataset: BaseDataset) -> bool:
    """Whether the images may have more than 8 bits."""
    return image_loader(next(leaf_datasets(dataset))).color_type == "unchanged"


def picture_of(visualizer: Visualizer, item: dict, is_deep: bool) -> tuple[np.ndarray, BaseDataElement]:
    """An item of the data set with its boxes drawn, (h, w, 3; BGR), and its sample."""
    sample = item["data_samples"]
    boxes = sample.gt_instances.bboxes
    sample.gt_instances.bboxes = getattr(boxes, "tensor", boxes)
    image = item["inputs"].permute(1, 2, 0).numpy()
    if not is_deep:  # a distortion leaves floats
        image = image.clip(0, 255).astype(np.uint8)
    return draw_sample(visualizer, image, sample, draw_gt=True), sample


if __name__ == "__main__":
    sys.exit(run_tool(main))
