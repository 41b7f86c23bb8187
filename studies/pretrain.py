"""Pretrain the small ResNet-18 of configs/shapes on the drawings: which classes of shapes does an image hold?

    python studies/pretrain.py --data-root data/shapes/ --out work_dirs/backbone.pth

It stands for ImageNet's classes, so that all rows of studies/convergence.py start from the same features.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn import functional

from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.launcher import parse_config, positive_int, run_tool

REPO = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> None:
    """Pretrain as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="data/shapes/", help="of draw_shapes.py")
    parser.add_argument("--epochs", type=positive_int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("work_dirs/backbone.pth"), help="weights to write")
    args = parser.parse_args(argv)

    options = {"data_root": args.data_root, "train_dataloader.batch_size": 32}
    config = REPO / "configs" / "shapes" / "ddetr_r18_shapes.py"
    cfg = parse_config(Namespace(config=config, cfg_options=options))
    init_default_scope(cfg.default_scope)
    torch.manual_seed(args.seed)
    model = Classifier(cfg)
    model.backbone.init_weights()
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=args.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    steps = args.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for epoch in range(1, args.epochs + 1):
        losses, right = [], []
        for batch in loader:
            data = model.preprocessor(batch, training=True)
            logits = model(data["inputs"])
            present = torch.stack([classes_of(sample, logits.shape[1]) for sample in data["data_samples"]])
            loss = functional.binary_cross_entropy_with_logits(logits, present)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            right += ((logits > 0) == present.bool()).flatten().tolist()
        print(
            f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}, {sum(right) / len(right):.1%} right",
            flush=True,
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=model.backbone.state_dict()), args.out)
    print(f"saved {args.out}")


class Classifier(nn.Module):
    """The backbone of a config, pooled, and a linear layer with an output for each class."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.preprocessor = MODELS.build(cfg.model.data_preprocessor)
        self.backbone = MODELS.build(cfg.model.backbone)
        self.classify = nn.Linear(cfg.model.neck.in_channels[-1], cfg.model.bbox_head.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(bs, 3, h, w) to logits (bs, num_classes)."""
        return self.classify(self.backbone(images)[-1].mean((2, 3)))


def classes_of(sample, num_classes: int) -> Tensor:
    """(num_classes,), 1 where the image holds one of the class."""
    present = torch.zeros(num_classes)
    present[sample.gt_instances.labels] = 1
    return present


if __name__ == "__main__":
    sys.exit(run_tool(main))
