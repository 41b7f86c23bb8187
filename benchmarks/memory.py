"""Measure what a training step saves for its backward pass, and how long it computes.

python benchmarks/memory.py configs/ddetr_r50_50e.py --shape 480 640 \\
    --cfg-options model.encoder.num_cp=6
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.model import BaseModel
from torch import Tensor

from benchmarks.random_batch import random_batch
from projects.reliable_runner.inference import init_detector
from projects.reliable_runner.launcher import config_parser, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = config_parser(__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs=2, type=int, default=[800, 1333], metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="of which the last is timed")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    model = init_detector(args.config, None, "cpu", args.cfg_options).train()
    batch = random_batch(args.batch_size, *args.shape, model.bbox_head.num_classes)
    batch = model.data_preprocessor(batch, training=True)
    print(f"saved for the backward pass: {saved_mb(model, batch):.0f} MB")
    for _ in range(args.steps):
        start = time.process_time()
        total_loss(model, batch).backward()
        seconds = time.process_time() - start
    print(f"forward and backward: {seconds:.1f} s of a CPU's time")


def total_loss(model: BaseModel, batch: dict) -> Tensor:
    """The sum of all losses on a batch that is preprocessed."""
    return model.parse_losses(model(**batch, mode="loss"))[0]


def saved_mb(model: BaseModel, batch: dict) -> float:
    """Memory of all that the forward pass saves for the backward pass, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def save(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        loss = total_loss(model, batch)
    loss.backward()
    model.zero_grad()
    return sum(size for at, size in storages.items() if at not in parameters) / 2**20


if __name__ == "__main__":
    sys.exit(run_tool(main))
