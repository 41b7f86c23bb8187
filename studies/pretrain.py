"""Pretrain the small ResNet-18 of configs/shapes on shapes cut out of the drawings: of which class is each?

python studies/pretrain.py --data-root data/shapes/ --out work_dirs/backbone.pth

It stands for ImageNet's classes, so that all rows of studies/convergence.py start from the same features.
"""

import io
import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.files.atomic_file import write_atomically
from projects.reliable_runner.launcher import parse_config, positive_int, run_tool

REPO = Path(__file__).resolve().parents[1]
SIDE = 64  # of a window, in pixels


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="data/shapes/", help="of draw_shapes.py")
    parser.add_argument("--epochs", type=positive_int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("work_dirs/backbone.pth"), help="weights to write")
    args = parser.parse_args(argv)

    config = REPO / "configs" / "shapes" / "ddetr_r18_shapes.py"
    cfg = parse_config(Namespace(config=config, cfg_options={}))
    init_default_scope(cfg.default_scope)
    torch.manual_seed(args.seed)
    images, labels = cut_out(Path(args.data_root))
    model = Classifier(cfg)
    model.backbone.init_weights()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    for epoch in range(1, args.epochs + 1):
        right = 0
        for batch in torch.randperm(len(labels)).split(32):
            logits = model(images[batch])
            optimizer.zero_grad()
            functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            right += (logits.argmax(1) == labels[batch]).sum().item()
        print(f"epoch {epoch}: {right / len(labels):.1%} right", flush=True)
    weights = io.BytesIO()
    torch.save(dict(state_dict=model.backbone.state_dict()), weights)
    write_atomically(args.out, weights.getvalue())
    print(f"saved {args.out}")


class Classifier(nn.Module):
    """The backbone of a config, pooled, and a linear layer with an output for each class."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.preprocessor = MODELS.build(cfg.model.data_preprocessor)
        self.backbone = MODELS.build(cfg.model.backbone)
        self.classify = nn.Linear(cfg.model.neck.in_channels[-1], cfg.model.bbox_head.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(bs, 3, h, w), uint8, to logits (bs, num_classes)."""
        inputs = self.preprocessor(dict(inputs=list(images)), training=True)["inputs"]
        return self.classify(self.backbone(inputs)[-1].mean((2, 3)))


def cut_out(data_root: Path) -> tuple[Tensor, Tensor]:
    """The shapes of the training images, each in a window of one and a half times its side.

    Returns:
        Images (n, 3, SIDE, SIDE), BGR, uint8, and labels (n,) from 0.
    """
    coco = json.loads((data_root / "annotations" / "train.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    windows, labels = [], []
    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        window = (x - width / 4, y - height / 4, x + 1.25 * width, y + 1.25 * height)
        with Image.open(data_root / "train" / names[annotation["image_id"]]) as image:
            cut = image.transform((SIDE, SIDE), Image.Transform.EXTENT, window, Image.Resampling.BILINEAR)
        windows.append(np.asarray(cut)[..., ::-1].transpose(2, 0, 1))
        labels.append(annotation["category_id"] - 1)
    return torch.from_numpy(np.stack(windows)), torch.tensor(labels)


if __name__ == "__main__":
    sys.exit(run_tool(main))
