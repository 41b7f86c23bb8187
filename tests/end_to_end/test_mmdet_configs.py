"""mmdet's own configs with ``custom_imports=dict(imports=["projects.reliable_runner"])`` and no other change.

Tiny widths and the drawings take the place of ResNet-50 and COCO. The model package is never imported.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

CONFIGS = {
    "detr": "detr/detr_r50_8xb2-150e_coco.py",
    "conditional": "conditional_detr/conditional-detr_r50_8xb2-50e_coco.py",
    "dab": "dab_detr/dab-detr_r50_8xb2-50e_coco.py",
}
ATTENTION = "model.{}.layer_cfg.{}_attn_cfg."
WIDTHS = {"embed_dims": 32, "num_heads": 4}
SIZES = {
    "model.num_queries": 10,
    "model.backbone.depth": 18,
    "model.backbone.base_channels": 8,
    "model.backbone.init_cfg": None,
    "model.neck.in_channels": [64],
    "model.neck.out_channels": 32,
    "model.positional_encoding.num_feats": 16,
    "model.encoder.num_layers": 1,
    "model.decoder.num_layers": 2,
    **{f"model.{part}.layer_cfg.ffn_cfg.embed_dims": 32 for part in ("encoder", "decoder")},
    **{f"model.{part}.layer_cfg.ffn_cfg.feedforward_channels": 64 for part in ("encoder", "decoder")},
    **{
        ATTENTION.format(part, kind) + key: value
        for part, kind in (("encoder", "self"), ("decoder", "self"), ("decoder", "cross"))
        for key, value in WIDTHS.items()
    },
    "model.bbox_head.embed_dims": 32,
    "model.bbox_head.num_classes": 3,
    "model.test_cfg.max_per_img": 10,
}
RUN = """
import os, sys
sys.stdout = sys.stderr = open(work_dir + ".log", "a")
import torch
from mmengine.config import Config
from mmengine.runner import Runner

torch.set_num_threads(1)
cfg = Config.fromfile(work_dir + ".py")
cfg.work_dir = work_dir
cfg.merge_from_dict(options)
runner = Runner.from_cfg(cfg)
if "accumulate" in work_dir:  # dropout draws anew for each batch
    for module in runner.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
if kill_at:
    wrapper = runner.model.train_step
    def train_step(*args, **kwargs):
        if runner.iter == kill_at:
            os.kill(os.getpid(), 9)
        return wrapper(*args, **kwargs)
    runner.model.train_step = train_step
if nan_at:
    def spoil(module, args, output):
        output[1] = float("nan")
        return output
    runner.model.get_submodule(nan_at).register_forward_hook(spoil)
runner.train()
assert "projects.deformable_detr" not in sys.modules
"""


@pytest.fixture
def train(tmp_path, shapes_root, forkserver) -> Callable[..., tuple[int, Path]]:
    """Trains a config of mmdet's in a process of its own; returns its exit code and work_dir."""

    def run(model: str, name: str, kill_at: int = 0, nan_at: str = "", **options):
        work_dir = tmp_path / name
        loader = {"batch_size": 2, "num_workers": 0, "persistent_workers": False}
        data = {"data_root": f"{shapes_root}/", "metainfo": dict(classes=("circle", "square", "triangle"))}
        options = {
            **SIZES,
            **{f"{part}_dataloader.{key}": v for part in ("train", "val", "test") for key, v in loader.items()},
            **{f"{part}_dataloader.dataset.{key}": v for part in ("train", "val") for key, v in data.items()},
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
            f'_base_ = "mmdet::{CONFIGS[model]}"\n'
            'custom_imports = dict(imports=["projects.reliable_runner"])\n'
        )
        names = dict(work_dir=str(work_dir), options=options, kill_at=kill_at, nan_at=nan_at)
        process = forkserver.Process(target=exec, args=(RUN, names))
        process.start()
        process.join()
        return process.exitcode, work_dir

    return run


def log(work_dir: Path) -> str:
    return Path(f"{work_dir}.log").read_text()


def weights(work_dir: Path, epoch: int = 2) -> dict:
    return torch.load(work_dir / f"epoch_{epoch}.pth", weights_only=False)


@pytest.mark.parametrize("model", CONFIGS)
def test_a_killed_run_resumes_to_the_bit(train, model):
    status, straight = train(model, "straight")
    assert status == 0, log(straight)[-3000:]
    assert re.search(r"Epoch\(val\) \[2\]\[2/2\] +coco/bbox_mAP", log(straight))

    status, killed = train(model, "killed", kill_at=6)  # of eight iterations
    assert status == -9, log(killed)[-3000:]
    status, _ = train(model, "killed", resume=True, load_from=str(killed / "epoch_1.pth"))
    assert status == 0, log(killed)[-3000:]
    expected, found = weights(straight), weights(killed)
    for key in ("state_dict", "optimizer"):
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)


@pytest.mark.parametrize("model", CONFIGS)
def test_accumulated_gradients_are_those_of_one_batch(train, shapes_root, model):
    """Without dropout; the second batch has no object, the third has more than the fourth."""
    annotations = json.loads((shapes_root / "annotations/train.json").read_text())
    images = [image["id"] for image in annotations["images"]]
    for image in images[2:4], images[7:]:
        annotations["annotations"] = [x for x in annotations["annotations"] if x["image_id"] not in image]
    (shapes_root / "annotations/sparse.json").write_text(json.dumps(annotations))
    options = {
        "train_dataloader.sampler.shuffle": False,
        "train_dataloader.dataset.filter_cfg.filter_empty_gt": False,
        "train_dataloader.dataset.ann_file": "annotations/sparse.json",
        "optim_wrapper.optimizer": dict(type="SGD", lr=0.01),
        "optim_wrapper.clip_grad": None,
        "train_cfg.max_epochs": 1,
        **dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator")),
    }
    found = []
    for size in (4, 2, 1):
        counts = {"train_dataloader.batch_size": size, "optim_wrapper.accumulative_counts": 4 // size}
        status, work_dir = train(model, f"accumulate{4 // size}", **options, **counts)
        assert status == 0, log(work_dir)[-3000:]
        found.append(weights(work_dir, 1)["state_dict"])
    for accumulated in found[1:]:
        for key, value in accumulated.items():
            print(key, (value - found[0][key]).abs().max())
        torch.testing.assert_close(accumulated, found[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", CONFIGS)
def test_a_nan_is_reported_with_its_image_and_module(train, model):
    layer = "decoder.layers.1.cross_attn"
    status, work_dir = train(model, "run", nan_at=layer)
    assert status == 1
    error = log(work_dir).partition("NonFiniteError: ")[2]
    (saved,) = work_dir.glob("nonfinite_iter_1.pth")
    (batch,) = torch.load(saved, weights_only=True)["batches"]
    paths = [sample["contents"]["metainfo"]["img_path"] for sample in batch["data_samples"]]
    assert f"images: {paths[1]}\n" in error
    assert f"the output of {layer} (" in error
