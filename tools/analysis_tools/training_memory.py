"""Measure what a training step remembers for its backward pass, and how long it computes.

python tools/analysis_tools/training_memory.py configs/ddetr_r50_50e.py --shape 480 640 \\
    --cfg-options model.encoder.num_cp=6
"""

import sys
import time
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from projects.deformable_detr.launcher import add_cfg_options, parse_config, run_tool
from projects.deformable_detr.registry import MODELS

NUM_OBJECTS = 8  # of each random image


def main(argv: list[str] | None = None) -> None:
    """Measure as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file")
    parser.add_argument("--shape", nargs=2, type=int, default=[800, 1333], metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="of which the last is timed")
    add_cfg_options(parser)
    args = parser.parse_args(argv)

    cfg = parse_config(args)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()  # what is remembered does not depend on the weights
    batch = random_batch(args.batch_size, *args.shape, cfg.model.bbox_head.num_classes)
    print(f"remembered for the backward pass: {remembered_mb(model, *batch):.0f} MB")
    for _ in range(args.steps):
        start = time.process_time()
        sum(model.loss(*batch).values()).backward()
        seconds = time.process_time() - start
    print(f"forward and backward: {seconds:.1f} s of a CPU's time")


def random_batch(bs: int, h: int, w: int, num_classes: int) -> tuple[Tensor, list[DetDataSample]]:
    """Noise with random objects."""
    samples = []
    for _ in range(bs):
        corners = torch.rand(NUM_OBJECTS, 2, 2).sort(1).values.flatten(1)
        objects = InstanceData(
            bboxes=corners * torch.tensor([w, h, w, h]),
            labels=torch.randint(num_classes, (NUM_OBJECTS,)),
        )
        meta = dict(img_shape=(h, w), batch_input_shape=(h, w))
        samples.append(DetDataSample(metainfo=meta, gt_instances=objects))
    return torch.randn(bs, 3, h, w), samples


def remembered_mb(model: nn.Module, inputs: Tensor, samples: list[DetDataSample]) -> float:
    """Memory of all that the forward pass saves for the backward pass, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def save(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        losses = model.loss(inputs, samples)
    sum(losses.values()).backward()
    model.zero_grad()
    return sum(size for at, size in storages.items() if at not in parameters) / 2**20


if __name__ == "__main__":
    sys.exit(run_tool(main))
