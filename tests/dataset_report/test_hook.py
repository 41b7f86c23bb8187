"""A training says what its data hold, and does not start without its image files."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop

from projects.dataset_report.hook import DatasetReportHook
from projects.deformable_detr.registry import DATASETS, SCOPE
from projects.reliable_runner.data.finding import Finding
from projects.reliable_runner.errors import InputError


class Loop(BaseLoop):
    def run(self) -> None: ...


@pytest.fixture
def log(monkeypatch) -> list[tuple[int, str]]:
    """What is logged: (level, message)."""
    records = []
    monkeypatch.setattr(
        MMLogger, "handle", lambda _, record: records.append((record.levelno, record.getMessage()))
    )
    MMLogger.get_current_instance()
    return records


@pytest.fixture
def runner():
    """What the hook sees of a runner that trains on one data set and validates on another."""

    def build(train: BaseDataset, val: BaseDataset) -> SimpleNamespace:
        loops = [Loop(None, SimpleNamespace(dataset=dataset)) for dataset in (train, val)]
        return SimpleNamespace(_train_loop=loops[0], _val_loop=loops[1], _test_loop=None)

    return build


@pytest.fixture
def load(shapes_root):
    """Load the drawings of a split."""

    def load_(split: str, classes=("circle", "square", "triangle"), **kwargs) -> BaseDataset:
        return DATASETS.build(
            dict(
                type="CocoDataset",
                _scope_=SCOPE,
                data_root=str(shapes_root),
                ann_file=f"annotations/{split}.json",
                data_prefix=dict(img=f"{split}/"),
                metainfo=dict(classes=classes),
                **kwargs,
            )
        )

    return load_


def test_a_few_lines_for_each_data_set(load, runner, log):
    train, val = load("train"), load("val", test_mode=True)
    log.clear()
    DatasetReportHook().before_run(runner(ConcatDataset([train, train]), val))
    assert [level for level, _ in log] == [logging.INFO] * 3
    text = log[0][1]
    count = sum(len(train[i]["instances"]) for i in range(8))
    assert f"train.json:\n  8 images (0 without objects), {count} objects and 0 crowds" in text
    assert "100% of the boxes are below 32 px" in text and "objects a class: " in text
    assert "val.json:\n  4 images" in log[2][1]
    assert all(message.count("\n") == 3 for _, message in log)


def test_missing_images_stop_the_run(load, runner):
    train = load("train")
    val = load("val")
    val.missing_images = ["val/1.png", "val/2.png", "val/3.png"]
    with pytest.raises(InputError) as error:
        DatasetReportHook().before_run(runner(train, val))
    assert str(error.value).startswith("image val/1.png does not exist; check data_root")
    assert str(error.value).endswith("3 of 4 images are missing: val/2.png, val/3.png")


def test_suspicions_are_for_the_training_set(load, runner, log):
    train, val = load("train"), load("val")
    train.suspicions = val.suspicions = [Finding("key", "rotten boxes", [7])]
    log.clear()
    DatasetReportHook().before_run(runner(train, val))
    (warning,) = [message for level, message in log if level == logging.WARNING]
    assert warning.endswith("train.json: 1 rotten boxes: 7")


def test_other_data_sets_are_left_alone(runner, log):
    class Other(BaseDataset):
        def load_data_list(self) -> list[dict]:
            return [{}]

    log.clear()
    DatasetReportHook().before_run(runner(Other(), Other()))
    assert not log
