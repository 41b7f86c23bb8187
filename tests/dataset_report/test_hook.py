"""A run logs what its data hold, and does not start without its image files."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from mmengine.runner import BaseLoop

from projects.dataset_report.hook import DatasetReportHook
from projects.reliable_runner.data.finding import Finding
from projects.reliable_runner.errors import InputError


class Loop(BaseLoop):
    def run(self) -> None: ...


class Other(BaseDataset):
    """A data set that is not COCO's."""

    def load_data_list(self) -> list[dict]:
        return [{}]


@pytest.fixture
def log(monkeypatch) -> list[tuple[int, str]]:
    """What is logged: (level, message)."""
    records = []
    monkeypatch.setattr(
        MMLogger, "handle", lambda _, record: records.append((record.levelno, record.getMessage()))
    )
    MMLogger.get_current_instance()
    return records


def before_run(train: BaseDataset, val: BaseDataset) -> None:
    """Call the hook as a runner does that trains on one data set and validates on another."""
    loops = [Loop(None, SimpleNamespace(dataset=dataset)) for dataset in (train, val)]
    DatasetReportHook().before_run(SimpleNamespace(_train_loop=loops[0], _val_loop=loops[1], _test_loop=None))


@pytest.fixture
def load(data, leaf):
    """Load the drawings of a split."""

    def load(split: str, **kwargs) -> BaseDataset:
        files = dict(ann_file=f"annotations/{split}.json", data_prefix=dict(img=f"{split}/"))
        return DATASETS.build({**leaf, **files, "pipeline": [], **kwargs})

    return load


def test_a_few_lines_for_each_data_set(load, log):
    train, val = load("train"), load("val", test_mode=True)
    log.clear()
    before_run(ConcatDataset([train, train]), val)
    assert [level for level, _ in log] == [logging.INFO] * 3
    text = log[0][1]
    count = sum(len(train[i]["instances"]) for i in range(8))
    assert f"train.json:\n  8 images (0 without objects), {count} objects and 0 crowds" in text
    assert "100% of the boxes are below 32 px" in text and "objects a class: " in text
    assert "val.json:\n  4 images" in log[2][1]
    assert all(message.count("\n") == 3 for _, message in log)


def test_missing_images_stop_the_run(load):
    val = load("val")
    val.missing_images = ["val/1.png", "val/2.png", "val/3.png"]
    with pytest.raises(InputError, match="^image val/1.png .* 3 of 4 images .*: val/2.png, val/3.png$"):
        before_run(load("train"), val)


def test_suspicions_are_for_the_training_set_and_other_sets_are_left_alone(load, log):
    train, val = load("train"), load("val")
    train.suspicions = val.suspicions = [Finding("key", "rotten boxes", [7])]
    log.clear()
    before_run(train, val)
    (warning,) = [message for level, message in log if level == logging.WARNING]
    assert warning.endswith("train.json: 1 rotten boxes: 7")
    log.clear()
    before_run(Other(), Other())
    assert not log
