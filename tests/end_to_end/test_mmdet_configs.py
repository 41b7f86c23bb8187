"""mmdet's own configs with ``custom_imports=dict(imports=["projects.reliable_runner"])`` and no other change.

Tiny widths and the drawings take the place of ResNet-50 and COCO. The model package is never imported.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

CONFIGS = {  # and widths
    "detr": ("detr/detr_r50_8xb2-150e_coco.py", 32),
    "conditional": ("conditional_detr/conditional-detr_r50_8xb2-50e_coco.py", 256),  # is in its code
    "dab": ("dab_detr/dab-detr_r50_8xb2-50e_coco.py", 32),
}
RUN = """
import os, sys
sys.stdout = sys.stderr = open(work_dir + ".log", "a")
import mmengine.runner.runner
import torch
from mmengine.config import Config
from mmengine.runner import Runner

Config.pretty_text = ""  # this and the next take seconds
mmengine.runner.runner.collect_env = dict
torch.set_num_threads(1)
cfg = Config.fromfile(work_dir + ".py")
cfg.work_dir = work_dir
cfg.merge_from_dict(options)
runner = Runner.from_cfg(cfg)
if "accumulate" in work_dir:  # dropout draws anew for each batch
    for module in runner.model.modules():
        name = "p" if isinstance(module, torch.nn.Dropout) else "dropout"
        if isinstance(getattr(module, name, None), float):
            setattr(module, name, 0.0)
def kill(*args):
    if runner.iter == kill_at:
        os.kill(os.getpid(), 9)
def spoil(module, args, output):
    output[1] = float("nan")
if kill_at:
    runner.model.backbone.register_forward_pre_hook(kill)
if nan_at:
    runner.model.get_submodule(nan_at).register_forward_hook(spoil)
runner.train()
assert "projects.deformable_detr" not in sys.modules
"""


def sizes(width: int) -> dict:
    """Options for a tiny model with random weights."""
    attention, ffn = dict(embed_dims=width, num_heads=4), dict(embed_dims=width, feedforward_channels=64)
    layer = dict(self_attn_cfg=attention, ffn_cfg=ffn)
    return dict(
        num_queries=10,
        backbone=dict(depth=18, base_channels=8, init_cfg=None),
        neck=dict(in_channels=[64], out_channels=width),
        positional_encoding=dict(num_feats=width // 2),
        encoder=dict(num_layers=1, layer_cfg=layer),
        decoder=dict(num_layers=2, layer_cfg=dict(layer, cross_attn_cfg=attention)),
        bbox_head=dict(embed_dims=width, num_classes=3),
        test_cfg=dict(max_per_img=10),
    )


@pytest.fixture
def train(tmp_path, shapes_root, forkserver) -> Callable[..., tuple[Path, str]]:
    """Trains a config of mmdet's in a process of its own; returns its work_dir and what it printed."""

    def run(model: str, name: str, exitcode: int = 0, kill_at: int = 0, nan_at: str = "", **options):
        work_dir, (config, width) = tmp_path / name, CONFIGS[model]
        loaders = {
            "batch_size": 2,
            "num_workers": 0,
            "persistent_workers": False,
            "dataset.data_root": f"{shapes_root}/",
            "dataset.metainfo": dict(classes=("circle", "square", "triangle")),
        }
        options = {
            "model": sizes(width),
            **{f"{part}_dataloader.{key}": v for part in ("train", "val") for key, v in loaders.items()},
            "train_dataloader.batch_sampler": None,
            "train_dataloader.dataset.ann_file": "annotations/train.json",
            "train_dataloader.dataset.data_prefix.img": "train/",
            "train_dataloader.dataset.pipeline": [
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations", with_bbox=True),
                dict(type="RandomFlip", prob=0.5),
                dict(type="PackDetInputs"),
            ],
            "val_dataloader.dataset.ann_file": "annotations/val.json",
            "val_dataloader.dataset.data_prefix.img": "val/",
            "val_dataloader.dataset.pipeline.1.scale": (64, 64),
            "val_evaluator.ann_file": f"{shapes_root}/annotations/val.json",
            "train_cfg.max_epochs": 2,
            "randomness.seed": 0,
            "default_hooks.logger.interval": 1,
            **options,
        }
        Path(f"{work_dir}.py").write_text(
            f'_base_ = "mmdet::{config}"\ncustom_imports = dict(imports=["projects.reliable_runner"])\n'
        )
        names = dict(work_dir=str(work_dir), options=options, kill_at=kill_at, nan_at=nan_at)
        process = forkserver.Process(target=exec, args=(RUN, names))
        process.start()
        process.join()
        printed = Path(f"{work_dir}.log").read_text()
        assert process.exitcode == exitcode, printed[-3000:]
        return work_dir, printed

    return run


def weights(work_dir: Path, epoch: int = 2) -> dict:
    return torch.load(work_dir / f"epoch_{epoch}.pth", weights_only=False)


@pytest.mark.slow
@pytest.mark.parametrize("model", CONFIGS)
def test_a_killed_run_resumes_to_the_bit(train, model):
    straight, printed = train(model, "straight")
    assert re.search(r"Epoch\(val\) \[2\]\[2/2\] +coco/bbox_mAP", printed)

    killed, _ = train(model, "killed", exitcode=-9, kill_at=6)  # of eight iterations
    train(model, "killed", resume=True, load_from=str(killed / "epoch_1.pth"))
    expected, found = weights(straight), weights(killed)
    for key in ("state_dict", "optimizer"):
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)


@pytest.mark.parametrize(
    "model", ["dab", *(pytest.param(name, marks=pytest.mark.slow) for name in ("detr", "conditional"))]
)
def test_accumulated_gradients_are_those_of_one_batch(train, shapes_root, tmp_path, model):
    """Without dropout; the second batch has no object, the third has more than the fourth."""
    annotations = json.loads((shapes_root / "annotations/train.json").read_text())
    images = [image["id"] for image in annotations["images"]]
    for image in images[2:4], images[7:]:
        annotations["annotations"] = [x for x in annotations["annotations"] if x["image_id"] not in image]
    (tmp_path / "sparse.json").write_text(json.dumps(annotations))
    options = {
        "train_dataloader.sampler.shuffle": False,
        "train_dataloader.dataset.filter_cfg.filter_empty_gt": False,
        "train_dataloader.dataset.ann_file": str(tmp_path / "sparse.json"),
        "optim_wrapper.optimizer": dict(type="SGD", lr=0.01),
        "optim_wrapper.clip_grad": None,
        "train_cfg.max_epochs": 1,
        **dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator")),
    }
    found = []
    for size in (4, 2):
        counts = {"train_dataloader.batch_size": size, "optim_wrapper.accumulative_counts": 4 // size}
        work_dir, _ = train(model, f"accumulate{4 // size}", **options, **counts)
        found.append(weights(work_dir, 1)["state_dict"])
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


def test_a_nan_is_reported_with_its_image_and_module(train):
    layer = "decoder.layers.1.cross_attn"
    work_dir, printed = train("detr", "run", exitcode=1, nan_at=layer)
    error = printed.partition("NonFiniteError: ")[2]
    (saved,) = work_dir.glob("nonfinite_iter_1.pth")
    (batch,) = torch.load(saved, weights_only=True)["batches"]
    paths = [sample["contents"]["metainfo"]["img_path"] for sample in batch["data_samples"]]
    assert f"images: {paths[1]}\n" in error
    assert f"the output of {layer} (" in error
