"""Measure how much padding changes detections: each image alone, then beside a larger one.

python studies/padding.py CONFIG CHECKPOINT FOLDER --size 96 96 --beside 160 128

Each detection of the image alone is paired with the nearest one of its class in the padded image, if no side
is more than 8 pixels away. ``--without`` takes causes away: "conv" keeps the padding at zero behind every
layer of the backbone, "norm" leaves it out of the neck's group norms, "queries" lets no proposal lie on it.
"""

import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmcv
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn
from tqdm import tqdm

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.media import find_media
from projects.reliable_runner.inference import init_detector
from projects.reliable_runner.launcher import config_parser, run_tool

_CAUSES = ("conv", "norm", "queries")
_SCORE_ALONE, _SCORE_PADDED, _REACH = 0.3, 0.1, 8.0


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Measure how much padding changes detections.")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("folder", type=Path, help="folder with images")
    size = dict(nargs=2, type=int, metavar=("H", "W"), required=True)
    parser.add_argument("--size", help="size that the images are brought to", **size)
    parser.add_argument("--beside", help="size of the larger image beside each", **size)
    parser.add_argument("--divisor", type=int, default=1, help="pad_size_divisor (1)")
    parser.add_argument("--num", type=int, default=20, help="number of images (20)")
    parser.add_argument("--without", nargs="+", choices=_CAUSES, default=[], help="causes to take away")
    args = parser.parse_args(argv)

    model = init_detector(args.config, args.checkpoint, "cpu", args.cfg_options)
    model.data_preprocessor.pad_size_divisor = args.divisor
    paths = find_media([args.folder])[: args.num]
    if len(paths) < 2:
        raise InputError(f"{args.folder}: two images are needed, one to stand beside the other")
    images = [mmcv.imread(path) for path in paths]

    differences, num_lost = [], 0
    for i, image in enumerate(tqdm(images, unit="image")):
        small = mmcv.imresize(image, tuple(args.size[::-1]))
        large = mmcv.imresize(images[i - 1], tuple(args.beside[::-1]))
        alone, padded = (detect(model, batch, args.without) for batch in ([small], [small, large]))
        found, lost = pair(alone, padded)
        differences += found
        num_lost += lost
    if not differences:
        raise InputError(f"{args.checkpoint}: nothing is detected in {args.folder}")
    boxes, scores = torch.tensor(differences).T
    print(
        f"{len(boxes)} detections, {num_lost} not found again; boxes differ by {boxes.mean():.4f} px, at "
        f"most {boxes.max():.4f}; scores by {scores.mean():.4f}, at most {scores.max():.4f}"
    )


@torch.no_grad()
def detect(model: nn.Module, images: list, without: Sequence[str]) -> InstanceData:
    """Detections in the first of ``images``, (h, w, 3) each, BGR, in its pixels."""
    shapes = [image.shape[:2] for image in images]
    samples = [DetDataSample(metainfo=dict(img_shape=s, ori_shape=s)) for s in shapes]
    inputs = [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images]
    batch = model.data_preprocessor(dict(inputs=inputs, data_samples=samples))
    width = batch["inputs"].shape[-1]
    with ExitStack() as hooks:
        for module in (*model.backbone.modules(), *model.neck.modules()):
            for cause, kinds, hook in _HOOKS:
                if cause in without and isinstance(module, kinds):
                    hooks.enter_context(module.register_forward_hook(partial(hook, shapes, width)))
        if "queries" in without:
            hooks.enter_context(model.queries.register_forward_pre_hook(never_on_padding))
        return model.predict(batch["inputs"], batch["data_samples"])[0].pred_instances


def valid_part(shape: tuple[int, int], width: int, level: Tensor) -> tuple[int, int]:
    """Rows and columns of a level (..., h, w) that see an image of ``shape`` in a batch of ``width``."""
    stride = 2 ** round(math.log2(width / level.shape[-1]))
    return math.ceil(shape[0] / stride), math.ceil(shape[1] / stride)


def zero_padding(shapes: list, width: int, _: nn.Module, __: tuple, output: Tensor) -> Tensor:
    """A hook that empties what is padding."""
    kept = torch.zeros_like(output)
    for i, shape in enumerate(shapes):
        h, w = valid_part(shape, width, output)
        kept[i, :, :h, :w] = output[i, :, :h, :w]
    return kept


def norm_of_image(shapes: list, width: int, norm: nn.GroupNorm, inputs: tuple, _: Tensor) -> Tensor:
    """A hook for statistics of the image alone."""
    (x,) = inputs
    output = torch.zeros_like(x)
    for i, shape in enumerate(shapes):
        h, w = valid_part(shape, width, x)
        part = x[i : i + 1, :, :h, :w]
        output[i : i + 1, :, :h, :w] = F.group_norm(part, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return output


def never_on_padding(_: nn.Module, inputs: tuple) -> tuple:
    """A hook that gives tokens on padding the lowest score."""
    memory, levels, cls_branch, reg_branch = inputs
    padding = torch.cat([mask.flatten(1) for mask in levels.masks], 1)[..., None]
    return memory, levels, lambda x: cls_branch(x).masked_fill(padding, -1e4), reg_branch


_HOOKS = (
    ("conv", (nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d), zero_padding),
    ("norm", nn.GroupNorm, norm_of_image),
)


def pair(alone: InstanceData, padded: InstanceData) -> tuple[list[tuple[float, float]], int]:
    """Differences of box (the largest side, in pixels) and score, and how many found no partner."""
    alone, padded = alone[alone.scores > _SCORE_ALONE], padded[padded.scores > _SCORE_PADDED]
    differences = []
    for box, score, label in zip(alone.bboxes, alone.scores, alone.labels, strict=True):
        same = padded[padded.labels == label]
        distances = (same.bboxes - box).abs().amax(-1)
        if len(distances) and distances.min() <= _REACH:
            nearest = distances.argmin()
            difference = (same.scores[nearest] - score).abs()
            differences.append((distances[nearest].item(), difference.item()))
    return differences, len(alone) - len(differences)


if __name__ == "__main__":
    sys.exit(run_tool(main))
