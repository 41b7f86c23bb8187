"""Count the parameters and the multiply-adds of a model, stage by stage.

python tools/analysis_tools/get_flops.py configs/ddetr_r50_50e.py --shape 800 1333

"FLOPs" are multiply-adds, as in the paper and in MMDetection; see docs/model_zoo.md.
"""

import sys
from collections import Counter
from math import prod
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmcv.image import rescale_size
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ms_deform_attn.compat.mmcv_ops import callers_of_ops
from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import CocoFile
from projects.reliable_runner.launcher import config_parser, parse_config, positive_int, run_tool
from projects.reliable_runner.log import quiet
from projects.reliable_runner.run_state import input_channels

Shape = tuple[int, int]


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Count parameters and multiply-adds of a detector.")
    parser.add_argument("--shape", nargs="+", type=positive_int, default=[800, 1333], help="h w, or the side")
    parser.add_argument("--ann-file", type=Path, help="average over images of this COCO file instead")
    parser.add_argument("--num-images", type=positive_int, default=100, help="the first of --ann-file, by id")
    args = parser.parse_args(argv)
    if len(args.shape) > 2:
        parser.error(f"--shape takes one or two numbers, got {len(args.shape)}")

    cfg = parse_config(args)
    if args.ann_file:
        shapes = read_shapes(args.ann_file, args.num_images)
        images = f"mean of {shapes.total()} images of {args.ann_file}"
    else:
        shapes = Counter([(args.shape[0], args.shape[-1])])
        images = f"{args.shape[0]} x {args.shape[-1]}"
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    for name, module in callers_of_ops(model):
        raise InputError(
            f"{name} is a {type(module).__name__}, whose compiled op cannot be counted; where it is a "
            "convolution of the backbone, --cfg-options model.backbone.dcn=None counts a plain one instead"
        )
    print(f"{args.config}, {images}")
    print(table(count_parameters(model), count_mean(model, shapes)))


def read_shapes(ann_file: Path, num_images: int) -> Counter[Shape]:
    """Sizes of the first images, by id, as the paper resizes them: shorter side 800, longer at most 1333."""
    with quiet():
        images = CocoFile(str(ann_file), folder="").imgs
    if not images:
        raise InputError(f"--ann-file {ann_file}: has no images")
    sizes = [(images[i]["width"], images[i]["height"]) for i in sorted(images)[:num_images]]
    return Counter(rescale_size(size, (1333, 800))[::-1] for size in sizes)


def count_parameters(model: nn.Module) -> Counter[str]:
    """Parameters of each direct child of ``model``; those of none are under ``""``."""
    counts = Counter()
    for name, parameter in model.named_parameters():
        counts[name.rpartition(".")[0].partition(".")[0]] += parameter.numel()
    return counts


def count_mean(model: nn.Module, shapes: Counter[Shape]) -> Counter[str]:
    """`count_flops` averaged over images, ``shapes`` of which say how many there are."""
    mean = Counter()
    for shape, number in shapes.items():
        for name, flops in count_flops(model, shape).items():
            mean[name] += flops * number / shapes.total()
    return mean


def count_flops(model: nn.Module, shape: Shape) -> Counter[str]:
    """Multiply-adds of one image, by direct child of ``model``; under ``""`` what none of them does.

    What a child calls counts as the child's, so that box branches which refine between two decoder layers
    are the decoder's. Nothing is computed: the tensors have shapes but no numbers. ``shape`` is the image's
    height and width in pixels.
    """
    sample = DetDataSample(metainfo=dict(img_shape=shape, batch_input_shape=shape))
    counter = FlopCounterMode(display=False, depth=1, custom_mapping=op_formulas())
    # PyTorch's counter knows the plain products of an attention, not its fused CPU kernel.
    plain = sdpa_kernel(SDPBackend.MATH)
    with FakeTensorMode(allow_non_fake_inputs=True), plain, counter:
        model(torch.zeros(1, input_channels(model) or 3, *shape), [sample], mode="tensor")
    counts = Counter()
    for name, flops in counter.get_flop_counts().items():
        if name.count(".") == 1:  # a child
            counts[name.partition(".")[2]] = sum(flops.values()) / 2  # PyTorch counts a multiply-add as two
    counts[""] = counter.get_total_flops() / 2 - counts.total()
    return counts


def op_formulas() -> dict:
    """What PyTorch's counter does not know: 5 multiply-adds a sample and channel (paper, section A.1).

    Four are for the bilinear interpolation, one for the weighted sum. The same is said of ``grid_sample``,
    which serves where the extension is not built.
    """

    def sampled(value, spatial_shapes, level_start_index, *sampling, **_) -> int:
        head_dims, weights = value[-1], sampling[-1]
        return 2 * 5 * prod(weights) * head_dims

    def grid_sampled(*_, out_shape, **__) -> int:
        return 2 * 5 * prod(out_shape)

    formulas = {torch.ops.aten.grid_sampler_2d: grid_sampled}
    for name in ("forward", "fused_forward"):
        if hasattr(torch.ops.ms_deform_attn, name):
            formulas[getattr(torch.ops.ms_deform_attn, name)] = sampled
    return formulas


def table(parameters: Counter[str], flops: Counter[str]) -> str:
    rows = {stage or "rest": (parameters[stage], flops[stage]) for stage in parameters | flops}
    rows["total"] = parameters.total(), flops.total()
    lines = [f"{'':20}{'params (M)':>12}{'FLOPs (G)':>12}"]
    lines += [f"{stage:20}{left / 1e6:12.2f}{right / 1e9:12.2f}" for stage, (left, right) in rows.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_tool(main))
