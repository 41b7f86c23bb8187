"""Times whole models of mmdet and transformers, as they are and with our op.

python benchmarks/models.py --models "mmdet DINO" "RT-DETR" --threads 1

Each model has random weights; its outputs on one random image must be equal before it is timed. A training
step is losses (transformers: the mean square of all outputs), backward and AdamW at a learning rate of
zero, which keeps the weights. Times are medians over rounds in which both take turns.
"""

import importlib
import statistics
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(sys.prefix) / "transformers"))  # where `make test` installs it

import torch
from torch import Tensor, nn

from benchmarks.timing import add_arguments, milliseconds, use_threads
from ms_deform_attn.compat.huggingface import accelerate
from ms_deform_attn.compat.mmcv_ops import are_missing, use_in_mmcv

TOLERANCE = 1e-3  # of any output, relative to the largest
MMDET = {
    "mmdet Deformable DETR": "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "mmdet Deformable DETR++": "deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py",
    "mmdet DINO": "dino/dino-4scale_r50_8xb2-12e_coco.py",
    "mmdet DDQ": "ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py",
    "mmdet Mask2Former": "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
}
TRANSFORMERS = {
    "Deformable DETR": ("DeformableDetr", "ForObjectDetection"),
    "RT-DETR": ("RTDetr", "ForObjectDetection"),
    "RT-DETR v2": ("RTDetrV2", "ForObjectDetection"),
    "D-FINE": ("DFine", "ForObjectDetection"),
    "Mask2Former": ("Mask2Former", "ForUniversalSegmentation"),
    "Grounding DINO": ("GroundingDino", "ForObjectDetection"),
}
SQUARE = ("RT-DETR", "RT-DETR v2", "D-FINE")  # which take 640 x 640


@dataclass
class Candidate:
    """A model on a device, what it infers and trains on, and the switch between its own sampling and ours."""

    model: nn.Module
    infer: Callable[[], list[Tensor] | Tensor]
    loss: Callable[[], Tensor]
    use_ours: Callable[[bool], object] | None = None

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0, weight_decay=0)

    def inference(self) -> list[Tensor] | Tensor:
        self.model.eval()
        with torch.no_grad():
            return self.infer()

    def train_step(self) -> None:
        self.model.train()
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


def of_mmdet(name: str, shape: tuple[int, int], device: str) -> Candidate:
    """A model of mmdet's own config, and a random image with eight objects."""
    import projects.reliable_runner  # noqa: F401, with which mmdet can be imported without mmcv's ops

    from mmdet.structures.mask import BitmapMasks  # isort: skip
    from mmengine.config import Config
    from mmengine.hub import get_config
    from mmengine.registry import MODELS, DefaultScope

    from benchmarks.random_batch import random_batch
    from projects.reliable_runner.log import quiet

    cfg = Config(dict(model=get_config(f"mmdet::{MMDET[name]}").model)).model
    cfg.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope("mmdet"), quiet():
        model = MODELS.build(cfg)
        model.init_weights()
    batch = random_batch(1, *shape, num_classes=80)
    objects = batch["data_samples"][0].gt_instances
    masks = torch.zeros(len(objects), *shape, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, objects.bboxes.int().tolist(), strict=True):
        mask[y1 : y2 + 1, x1 : x2 + 1] = 1
    objects.masks = BitmapMasks(masks.numpy(), *shape)
    batch["data_samples"][0].set_metainfo(dict(scale_factor=(1, 1)))
    model = model.to(device)
    data = model.data_preprocessor(batch, training=False)

    def infer() -> list[Tensor]:
        features = model.extract_feat(data["inputs"])
        if hasattr(model, "panoptic_head"):
            classes, masks = model.panoptic_head(features, data["data_samples"])
            return [classes[-1], masks[-1]]
        found = model.forward_transformer(features, data["data_samples"])
        return list(model.bbox_head(**{k: found[k] for k in ("hidden_states", "references")}))

    def loss() -> Tensor:
        torch.manual_seed(0)
        return model.parse_losses(model(**data, mode="loss"))[0]

    return Candidate(model, infer, loss, partial(use_ours_in_mmcv, device=device))


def use_ours_in_mmcv(ours: bool, device: str) -> None:
    """Switch between our op and mmcv's own; on a GPU without its compiled op, its PyTorch function."""
    use_in_mmcv(ours)
    if not ours and device != "cpu" and are_missing():
        theirs = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
        sample = theirs.multi_scale_deformable_attn_pytorch
        theirs.MultiScaleDeformableAttnFunction = SimpleNamespace(
            apply=lambda value, shapes, starts, locations, weights, step: sample(
                value, shapes, locations, weights
            )
        )


def of_transformers(name: str, shape: tuple[int, int], device: str) -> Candidate:
    """A model of the default config of its kind, with a ResNet-50 where that would come from timm."""
    import transformers

    kind, task = TRANSFORMERS[name]
    options = {}
    if kind == "DeformableDetr":
        stages = ["stage2", "stage3", "stage4"]
        options = dict(backbone_config=transformers.ResNetConfig(out_features=stages))
    model = getattr(transformers, kind + task)(getattr(transformers, f"{kind}Config")(**options)).to(device)
    inputs = dict(pixel_values=torch.rand(1, 3, *shape, device=device))
    if kind == "GroundingDino":
        ids = torch.tensor([[101, 4937, 1012, 3899, 1012, 102]], device=device)  # cat. dog.
        inputs |= dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    accelerated = False

    def use_ours(ours: bool) -> None:
        nonlocal accelerated
        if ours != accelerated:
            accelerate(model)
            accelerated = ours

    def outputs() -> list[Tensor]:
        values = [value for value in model(**inputs).values() if isinstance(value, Tensor)]
        return [value.nan_to_num(0, 0, 0) for value in values if value.is_floating_point()]

    def loss() -> Tensor:
        torch.manual_seed(0)
        return sum(value.square().mean() for value in outputs() if value.requires_grad)

    return Candidate(model, outputs, loss, use_ours)


def check(candidate: Candidate) -> float:
    """The largest difference of outputs, relative to the largest number of each."""
    found = []  # sorted: rounding decides how two-stage models order proposals of nearly the same score
    for ours in (False, True):
        candidate.use_ours(ours)
        found.append([output.flatten().sort().values for output in candidate.inference()])
    return max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-9)) for a, b in zip(*found, strict=True)
    )


def bench(candidate: Candidate, rounds: int, device: str) -> dict[str, dict[bool, float]]:
    """Milliseconds of an inference and of a training step, with our op and without."""
    times = {}
    for what in ("inference", "train_step"):
        taken = {False: [], True: []}
        for _ in range(rounds + 1):  # the first warms up
            for ours, list_ in taken.items():
                candidate.use_ours(ours)
                list_.append(milliseconds(getattr(candidate, what), device))
        times[what] = {ours: statistics.median(list_[1:]) for ours, list_ in taken.items()}
    return times


def main() -> None:
    builders = dict.fromkeys(MMDET, of_mmdet) | dict.fromkeys(TRANSFORMERS, of_transformers)
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=builders, default=list(builders), metavar="NAME")
    parser.add_argument("--shape", nargs=2, type=int, default=[800, 1333], metavar=("H", "W"))
    add_arguments(parser, rounds=3)
    args = parser.parse_args()
    use_threads(args.threads)
    print("| model | image | inference, s | with our op | | training step, s | with our op | | error |")
    print("| --- " * 9 + "|", flush=True)
    for name in args.models:
        torch.manual_seed(0)
        side = min(640, *args.shape)
        shape = (side, side) if name in SQUARE else tuple(args.shape)
        candidate = builders[name](name, shape, args.device)
        error = check(candidate)
        if not error < TOLERANCE:
            raise SystemExit(f"{name} gives other outputs with our op: error {error:.1e}")
        times = bench(candidate, args.rounds, args.device)
        cells = [
            f"{t[False] / 1e3:.2f} | {t[True] / 1e3:.2f} | {t[False] / t[True]:.2f}x" for t in times.values()
        ]
        print(f"| {name} | {shape[0]} x {shape[1]} | {' | '.join(cells)} | {error:.0e} |", flush=True)


if __name__ == "__main__":
    main()
