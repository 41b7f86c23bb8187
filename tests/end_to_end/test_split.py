"""The same images give the same losses and weights, however they are split over processes and batches.

In float64, so that the order of a sum hardly matters, without dropout and with the statistics of BatchNorm
fixed; each image is padded to 64 pixels, whichever images it shares a batch with.
"""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch._dynamo  # here once, not in each process
import torch.multiprocessing as mp
from mmdet.models import DetDataPreprocessor
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner

from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.launcher import build_runner
from projects.reliable_runner.run_state import bare_model

from ..deformable_detr.conftest import SINGLE_SCALE, VARIANTS

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
FSDP = Config.fromfile(REPO / "configs" / "_base_" / "fsdp.py").to_dict()
AUGMENTATION = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomCrop", crop_type="absolute_range", crop_size=(40, 60)),
    dict(type="RandomChoiceResize", scales=[(48, 48), (56, 56), (64, 64)], keep_ratio=True),
    dict(type="PackDetInputs"),
]
NOISE = dict(type="ContrastiveDenoising", num_dn_queries=20)
VARIANTS = VARIANTS | {
    "dino": {**VARIANTS["dino"], "denoising": NOISE, "decoder.num_layers": 2},
    "checkpointed": {"backbone.with_cp": True, "encoder.num_cp": 1, "decoder.num_cp": 1},
    "single_scale": SINGLE_SCALE,
}
ONE_BATCH = (1, 8, 1)  # processes, images of a batch, batches of an optimizer step


@MODELS.register_module()
class Float64Preprocessor(DetDataPreprocessor):
    """The images in float64."""

    def forward(self, data: dict, training: bool = False) -> dict:
        data = super().forward(data, training)
        return {**data, "inputs": data["inputs"].double()}


class Recorder(Hook):
    """Keeps the losses of each epoch's iterations, and the weights, in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.losses = path, []

    def before_train_epoch(self, runner: Runner) -> None:
        self.losses.append([])

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch, outputs: dict) -> None:
        self.losses[-1].append({name: value.item() for name, value in outputs.items()})

    def after_train(self, runner: Runner) -> None:
        if isinstance(runner, FlexibleRunner):
            weights = runner.strategy.model_state_dict()
        else:
            weights = bare_model(runner).state_dict()
        torch.save((self.losses, weights), self.path)


def run_process(rank: int, world_size: int, port: int, cfg: Config) -> None:
    """Train in one of ``world_size`` processes."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    cfg.launcher = "pytorch" if world_size > 1 else "none"
    runner = build_runner(cfg)
    runner.register_hook(Recorder(Path(cfg.work_dir, f"rank{rank}.pth")))
    runner.train()


@pytest.fixture
def train(tmp_path, small_run):
    """Trains with a split and returns the losses of each optimizer step and the weights at the end."""

    def run(split: tuple[int, int, int], variant: str = "base", **options) -> tuple[list[dict], dict]:
        world_size, batch_size, counts = split
        work_dir = Path(options.get("work_dir", tmp_path / f"run{len(list(tmp_path.iterdir()))}"))
        work_dir.mkdir()
        cfg = Config.fromfile(CONFIG)
        for layer in cfg.model.encoder.layer_cfg, cfg.model.decoder.layer_cfg:
            layer.self_attn_cfg.dropout = layer.ffn_cfg.ffn_drop = 0.0
        cfg.model.decoder.layer_cfg.cross_attn_cfg.dropout = 0.0
        cfg.merge_from_dict(
            {
                "work_dir": str(work_dir),
                "randomness.seed": 1,
                "model.data_preprocessor.type": "Float64Preprocessor",
                "model.data_preprocessor.pad_size_divisor": 64,
                "train_dataloader.batch_size": batch_size,
                "train_dataloader.dataset.pipeline": AUGMENTATION,
                "optim_wrapper.accumulative_counts": counts,
                **dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator")),
                "log_level": "ERROR",
                "default_hooks.checkpoint": None,
                "default_hooks.logger": None,
                **{f"model.{key}": value for key, value in VARIANTS[variant].items()},
                **options,
            }
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        args = (world_size, port, cfg)
        mp.start_processes(run_process, args, nprocs=world_size, start_method="fork")
        ranks = [torch.load(work_dir / f"rank{rank}.pth", weights_only=True) for rank in range(world_size)]
        for _, weights in ranks:
            torch.testing.assert_close(weights, ranks[0][1], rtol=0, atol=0)
        return list(steps([losses for losses, _ in ranks], counts)), ranks[0][1]

    return run


def steps(losses: list[list[list[dict]]], counts: int) -> Iterator[dict]:
    """The means over processes and over the ``counts`` batches of a step, from what each process logged."""
    for epoch in zip(*losses, strict=True):
        for start in range(0, len(epoch[0]), counts):
            batches = [batch for rank in epoch for batch in rank[start : start + counts]]
            yield {
                name: sum(batch[name] for batch in batches) / len(batches)
                for name in batches[0]
                if name != "grad_norm"
            }


def assert_same(got: tuple | dict, expected: tuple | dict) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("variant", "splits"),
    [
        ("base", [(2, 2, 2)]),
        pytest.param("base", [(2, 4, 1), (4, 2, 1), (1, 2, 4)], marks=pytest.mark.slow),
        *(pytest.param(name, [(2, 2, 2)], marks=pytest.mark.slow) for name in VARIANTS if name != "base"),
    ],
)
def test_splits_give_the_same_losses_and_weights(train, variant, splits):
    expected = train(ONE_BATCH, variant)
    for split in splits:
        assert_same(train(split, variant), expected)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["two_stage", "dino"])
@pytest.mark.parametrize("num_objects", [0, 1])
def test_splits_without_objects_give_the_same(train, shapes_root, tmp_path, variant, num_objects):
    """A process may have none while another has some, or all have none; one run with workers for its data."""
    path = tmp_path / "few.json"
    annotations = json.loads((shapes_root / "annotations/train.json").read_text())
    annotations["annotations"] = annotations["annotations"][:num_objects]
    path.write_text(json.dumps(annotations))
    options = {
        "default_hooks.rehearsal": None,  # it refuses a training without objects
        "train_dataloader.dataset.ann_file": str(path),
        "train_dataloader.dataset.pipeline": [step for step in AUGMENTATION if step["type"] != "RandomCrop"],
    }
    expected = train(ONE_BATCH, variant, **options)
    assert (expected[0][0]["loss_bbox"] > 0) == bool(num_objects)
    workers = {"train_dataloader.num_workers": 2, "train_dataloader.persistent_workers": True}
    assert_same(train((4, 2, 1), variant, **options), expected)
    assert_same(train((2, 2, 2), variant, **options, **workers), expected)


def test_the_last_step_of_an_epoch_may_be_smaller(train):
    options = {"train_dataloader.dataset.indices": 7}
    expected = train((1, 4, 1), **options)
    assert len(expected[0]) == 2 * 3
    assert_same(train((1, 2, 2), **options), expected)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["DefaultSampler", "InfiniteSampler"])
def test_a_loop_over_iterations_splits_too(train, sampler):
    """The last step is of half the images: one batch of four or two of two."""
    options = {"train_dataloader.sampler.type": sampler, "param_scheduler": None}
    loop = dict(type="IterBasedTrainLoop", _delete_=True)
    expected = train((1, 4, 2), train_cfg=dict(loop, max_iters=5), **options)
    assert len(expected[0]) == 3
    assert_same(train((1, 2, 4), train_cfg=dict(loop, max_iters=10), **options), expected)


@pytest.mark.slow
def test_shards_give_the_same_and_checkpoints_of_any_run(train, tmp_path):
    expected = train(ONE_BATCH)
    sharded = {"default_hooks.checkpoint": dict(type="CheckpointHook"), **FSDP}
    assert_same(train((2, 4, 1), work_dir=str(tmp_path / "sharded"), **sharded), expected)
    checkpoint = tmp_path / "sharded" / "epoch_2.pth"
    weights = torch.load(tmp_path / "sharded" / "epoch_3.pth", weights_only=False)["state_dict"]
    assert_same(weights, expected[1])

    # Sharded or not, the run resumes from it.
    for options in (FSDP, {}):
        resumed = train((2, 2, 2), resume=True, load_from=str(checkpoint), **options)
        assert_same(resumed[1], expected[1])
