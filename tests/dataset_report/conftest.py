import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from projects.dataset_report.check import check_datasets
from projects.dataset_report.report import Report

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"


@pytest.fixture
def change(data) -> Callable[..., dict]:
    """Applies an edit to an annotation file."""

    def change_(edit: Callable[[dict], object], split: str = "train") -> dict:
        path = data / "annotations" / f"{split}.json"
        coco = json.loads(path.read_text())
        edit(coco)
        path.write_text(json.dumps(coco))
        return coco

    return change_


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Of tests/tiny_ddetr.py; parsing it takes longer than a check."""
    return Config.fromfile(CONFIG)


@pytest.fixture
def leaf(data, tiny_config) -> dict:
    """Config of the training data set."""
    return dict(copy.deepcopy(tiny_config.train_dataloader.dataset), data_root=str(data))


@pytest.fixture
def check(data, tiny_config) -> Callable[..., Report]:
    """Checks the drawings."""

    def check_(splits=None, quick: bool = True, **options) -> Report:
        cfg = copy.deepcopy(tiny_config)
        for split in "train", "val", "test":
            cfg[f"{split}_dataloader"].dataset.data_root = str(data)
        cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
        return check_datasets(cfg, splits, quick)

    return check_


@pytest.fixture
def found(check) -> Callable[..., dict]:
    """Checks the drawings and returns the findings by (split, key)."""
    return lambda *args, **kwargs: {(f.where, f.key): f for f in check(*args, **kwargs).findings}
