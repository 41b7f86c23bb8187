"""What keeps a model from learning is named; the parts one by one, and the tool as a whole."""

import copy
import json
import re
import runpy
from pathlib import Path

import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

from projects.reliable_runner.sanity import (
    images_with_objects,
    look_at_boxes,
    look_at_model,
    remedies,
    shrunk,
)

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
main = runpy.run_path(str(REPO / "tools/analysis_tools/sanity_check.py"))["main"]


@TRANSFORMS.register_module()
class ShiftBoxes(BaseTransform):
    def transform(self, results: dict) -> dict:
        results["gt_bboxes"].translate_((20, 15))
        return results


@TRANSFORMS.register_module()
class ShiftLabels(BaseTransform):
    def __init__(self, modulo: int) -> None:
        self.modulo = modulo

    def transform(self, results: dict) -> dict:
        results["gt_bboxes_labels"] = (results["gt_bboxes_labels"] + 1) % self.modulo
        return results


@pytest.fixture
def cfg(small_run) -> Config:
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    return cfg


def faults_of_boxes(cfg: Config, *steps: dict) -> list[str]:
    pipeline = cfg.train_dataloader.dataset.pipeline
    dataset = DATASETS.build(
        dict(cfg.train_dataloader.dataset, pipeline=[*pipeline[:-1], *steps, pipeline[-1]])
    )
    return list(look_at_boxes(dataset, images_with_objects(dataset, 8)))


def test_flips_and_resizes_are_no_fault(cfg):
    assert faults_of_boxes(cfg) == []


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (dict(type="ShiftBoxes"), "the training pipeline: .* boxes are not where"),
        (dict(type="ShiftLabels", modulo=3), "labels: .* with another one"),
        (dict(type="ShiftLabels", modulo=99), "labels: .* has the label 3 of 3 classes"),
    ],
)
def test_a_step_that_moves_boxes_or_labels(cfg, step, fault):
    (found,) = faults_of_boxes(cfg, step)
    assert re.match(fault, found)


def batch(cfg: Config) -> dict:
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return pseudo_collate([shrunk(dataset[i], None) for i in range(4)])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, None),
        ({"model.backbone.init_cfg": [dict(type="Kaiming", layer="Conv2d")]}, None),
        ({"model.num_queries": 1}, "model.num_queries: 1 queries"),
        ({"optim_wrapper.optimizer.lr": 0}, "optim_wrapper.optimizer.lr: it is 0"),
        ({"model.bbox_head.num_classes": 1}, "labels: an object has the label 2"),
        ({"model.backbone.frozen_stages": 1}, "model.backbone: stages are frozen"),
        (
            {"model.data_preprocessor.mean": [0.5] * 3, "model.data_preprocessor.std": [0.25] * 3},
            "model.data_preprocessor: ",
        ),
        ({"train_dataloader.batch_size": 16}, "optim_wrapper.optimizer.lr: a step has 16 images"),
    ],
)
def test_a_model_that_does_not_fit_the_data(cfg, options, fault):
    cfg.train_dataloader.batch_size = 4
    data = batch(cfg)
    cfg.merge_from_dict(options)
    found = list(look_at_model(cfg, data))
    assert (not found) if fault is None else (len(found) == 1 and found[0].startswith(fault))


@pytest.mark.parametrize("frozen_stages", [1, -1])
def test_each_remedy_changes_one_part(cfg, frozen_stages):
    cfg.model.backbone.frozen_stages = frozen_stages  # norm_eval alone freezes batch norms
    before = copy.deepcopy(cfg.to_dict())
    parts = [part for part, *_ in remedies(cfg, batch(cfg))]
    assert parts[0] == "model.backbone"
    assert parts[-1] == "model.data_preprocessor"
    assert parts[1:-1] == ["optim_wrapper.optimizer.lr"] * 2  # 1e-3 is the config's own, 1e-4 a tenth
    assert cfg.to_dict() == before
    del cfg.optim_wrapper.optimizer.lr  # that of the optimizer's own
    assert [how for part, _, how in remedies(cfg, batch(cfg)) if "lr" in part] == [
        "with a learning rate of 0.0001",
        "with a learning rate of 0.001",
    ]


def test_a_smaller_image_has_smaller_boxes(cfg):
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    item = dataset[0]
    small = shrunk(item, 24)
    assert (
        max(small["inputs"].shape[1:]) == 24 and small["data_samples"].img_shape == small["inputs"].shape[1:]
    )
    factor = 24 / max(item["inputs"].shape[1:])
    boxes = item["data_samples"].gt_instances.bboxes.tensor
    torch.testing.assert_close(small["data_samples"].gt_instances.bboxes, boxes * factor, rtol=0.03, atol=0.5)


def test_labels_without_a_class_end_the_tool(tmp_path, small_run, one_line_error):
    config = tmp_path / "shifted.py"
    config.write_text(
        f"_base_ = {str(CONFIG)!r}\n"
        "pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),\n"
        "    dict(type='ShiftLabels', modulo=99), dict(type='PackDetInputs')]\n"
        "train_dataloader = dict(dataset=dict(pipeline=pipeline))\n"
    )
    error = one_line_error(main, config, "--out-dir", tmp_path, "--device", "cpu")
    assert "the labels are at fault" in error and "has the label 3 of 3 classes" in error


def spoil(coco: dict, how: str) -> None:
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        if how == "corners":
            annotation["bbox"] = [x, y, x + w, y + h]
        elif how == "ids":
            annotation["category_id"] -= 1


@pytest.mark.parametrize(
    ("how", "named"), [("corners", "x1, y1, x2, y2"), ("ids", "off by one"), ("weights", "0 of the model's")]
)
def test_what_is_seen_before_a_training(tmp_path, shapes_root, small_run, one_line_error, how, named):
    coco = json.loads((shapes_root / "annotations" / "train.json").read_text())
    spoil(coco, how)
    (tmp_path / "train.json").write_text(json.dumps(coco))
    torch.save(dict(state_dict=dict(foreign=torch.ones(1))), tmp_path / "foreign.pth")
    options = [f"train_dataloader.dataset.ann_file={tmp_path / 'train.json'}"]
    options += [f"load_from={tmp_path / 'foreign.pth'}"] * (how == "weights")
    error = one_line_error(main, CONFIG, "--out-dir", tmp_path, "--device", "cpu", "--cfg-options", *options)
    assert named in error


@pytest.mark.slow
@pytest.mark.parametrize("lr", [1e-3, 1e-7])
def test_the_tool(tmp_path, shapes_root, capsys, one_line_error, lr):
    config = REPO / "configs" / "shapes" / "ddetr_r18_shapes.py"
    options = [f"data_root={shapes_root}/", f"lr={lr}"]
    args = [config, "--num", "3", "--iterations", "150", "--out-dir", tmp_path, "--device", "cpu"]
    if lr == 1e-3:
        main([*map(str, args), "--cfg-options", *options])
        assert "learnt by heart" in capsys.readouterr().out
    else:
        error = one_line_error(main, *args, "--cfg-options", *options)
        assert "optim_wrapper.optimizer.lr is at fault: with a learning rate of 0.0001" in error
    assert len(list(tmp_path.glob("*.png"))) == 3
