"""What would fail at the first validation fails before the first iteration; a rehearsal changes nothing."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.checkpoint_file import read_checkpoint


@METRICS.register_module()
class OtherMetric(BaseMetric):
    """A metric with a name of its own; or one that fails."""

    def __init__(self, fails: bool = False, fails_at: int = 0) -> None:
        super().__init__(prefix="other")
        self.fails, self.fails_at, self.calls = fails, fails_at, 0

    def process(self, data_batch, data_samples) -> None:
        self.results += data_samples

    def compute_metrics(self, results) -> dict:
        self.calls += 1
        if self.fails or self.calls == self.fails_at:
            raise OSError("annotations of the evaluator are not there")
        return dict(score=len(results))


@pytest.fixture
def train(tool, heir, tmp_path):
    def train(name: str, text: str = "", **options) -> Path:
        options = {"train_cfg.max_epochs": 1, "randomness.seed": 0} | options
        tool("train", heir(text, name), "--work-dir", tmp_path / name, **options)
        return tmp_path / name

    return train


OTHER = "val_evaluator = dict(_delete_=True, type='OtherMetric')\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))", "save_best='coco/bbox_mAP'"),
        ("custom_hooks = [dict(type='EarlyStoppingHook', monitor='mAP')]", "monitor='mAP'"),
        ("param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='mAP')]", "monitor='mAP'"),
    ],
)
def test_a_metric_that_the_validation_lacks_is_named(train, tmp_path, text, message):
    with pytest.raises(InputError, match=f"{message}.*other/score"):
        train("run", OTHER + text)
    assert not list(tmp_path.glob("run/*.pth"))


def test_the_best_metric_may_be_chosen_automatically(train):
    folder = train("run", "default_hooks = dict(checkpoint=dict(save_best='auto'))")
    assert list(folder.glob("best_coco_bbox_mAP_epoch_1.pth"))


def test_a_metric_that_fails_does_so_before_the_first_iteration(train, tmp_path):
    with pytest.raises(OSError, match="evaluator"):
        train("run", OTHER, **{"val_evaluator.fails": True})
    assert not list(tmp_path.glob("run/*.pth"))


def test_the_training_is_the_same_to_the_bit(train):
    folders = train("with"), train("without", **{"default_hooks.rehearsal": None})
    weights, expected = (read_checkpoint(folder / "epoch_1.pth")["state_dict"] for folder in folders)
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_a_validation_that_fails_later_loses_nothing(train, tmp_path):
    hooks = "default_hooks = dict(checkpoint=dict(interval=5))\n"
    with pytest.raises(OSError, match="evaluator"):
        train("run", OTHER + hooks, **{"val_evaluator.fails_at": 2})
    assert read_checkpoint(tmp_path / "run" / "epoch_1.pth")["meta"]["epoch"] == 1


@pytest.mark.parametrize("split", ["train", "val"])
def test_data_without_an_object(train, shapes_root, tmp_path, split):
    coco = json.loads((shapes_root / "annotations" / f"{split}.json").read_text())
    path = tmp_path / "none.json"
    path.write_text(json.dumps(dict(coco, annotations=[])))
    options = {f"{split}_dataloader.dataset.ann_file": str(path)}
    if split == "train":
        with pytest.raises(InputError, match="none.json: no image has an object to train on"):
            train("run", **options)
    else:
        folder = train("run", **options, **{"val_evaluator.ann_file": str(path)})
        (log,) = folder.glob("*/*.log")
        assert "none.json: no image has an object: AP will be -1" in log.read_text()


def test_hints_are_given_once(train):
    """Nothing is found in two validations after the warm-up."""
    text = "param_scheduler = [dict(type='LinearLR', by_epoch=False, start_factor=0.1, begin=0, end=2)]\n"
    text += "optim_wrapper = dict(optimizer=dict(lr=0.0))\nauto_scale_lr = dict(base_batch_size=16)\n"
    folder = train("run", text, **{"train_cfg.max_epochs": 2})
    (log,) = folder.glob("*/*.log")
    log = log.read_text()
    assert log.count("the validation has found nothing") == 1 and "sanity_check.py" in log
    log = train("other", text.replace("lr=0.0", "lr=1e-3")).glob("*/*.log")
    assert next(log).read_text().count("a step has 2 images, but the learning rate 0.001 is for 16") == 1
