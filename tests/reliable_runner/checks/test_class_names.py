"""Model, data and checkpoint of other classes: the runner stops, warns or re-initialises."""

import logging

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from projects.reliable_runner.errors import InputError

ONE, TWO, OTHER = ("circle",), ("circle", "square"), ("cat", "dog")


class Data(BaseDataset):
    """Two samples; ``max_instances`` as our data set records it."""

    def __init__(self, classes=TWO, most: int = 3) -> None:
        self.max_instances = most, "images/crowded.jpg"
        super().__init__(
            "annotations/some.json",
            metainfo={"classes": classes},
            pipeline=[lambda _: {"inputs": torch.ones(4)}],
        )

    def load_data_list(self) -> list[dict]:
        return [{}, {}]


class Detector(BaseModel):
    """The names of a detector around its class branches."""

    def __init__(self, num_classes: int = 2, num_queries: int = 5) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.bbox_head = nn.Module()
        self.bbox_head.num_classes = num_classes
        self.bbox_head.cls_branches = nn.ModuleList(nn.Linear(4, num_classes) for _ in range(2))
        self.bbox_head.fc_cls = nn.Linear(4, num_classes)  # mmdet's DETR calls it so
        self.bbox_head.reg_branches = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, inputs, mode: str):
        scores = sum(branch(torch.stack(inputs)).sum() for branch in self.bbox_head.cls_branches)
        return {"loss": scores} if mode == "loss" else [scores]


class NoMetric(BaseMetric):
    default_prefix = "none"

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results) -> dict:
        return {}


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """The warnings that are logged."""
    messages = []
    handle = MMLogger.handle

    def keep(logger, record) -> None:
        if record.levelno >= logging.WARNING:
            messages.append(record.getMessage())
        handle(logger, record)

    monkeypatch.setattr(MMLogger, "handle", keep)
    return messages


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build a runner that trains one epoch of two iterations and can test."""
    # Looking for compilers takes longer than all the rest.
    monkeypatch.setattr("mmengine.runner.runner.collect_env", dict)

    def build_(data=None, model=None, test=None, evaluator=None, loader=None, **kwargs) -> Runner:
        test = test or data or Data()
        model = model or Detector(len(TWO))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(1.0)
        return Runner(
            model=model,
            work_dir=str(tmp_path),
            train_dataloader={"dataset": data or Data(), "sampler": SAMPLER, "batch_size": 1}
            | (loader or {}),
            test_dataloader={"dataset": test, "sampler": SAMPLER, "batch_size": 1},
            train_cfg={"by_epoch": True, "max_epochs": 1},
            test_cfg={},
            test_evaluator=evaluator or NoMetric(),
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.0}},
            experiment_name=f"{tmp_path.name}-{next(NUMBERS)}",
            **kwargs,
        )

    return build_


SAMPLER = {"type": "DefaultSampler", "shuffle": False}
NUMBERS = iter(range(1000))


@pytest.fixture
def checkpoint(tmp_path):
    """Write a checkpoint whose every weight is 2, as a run with ``classes`` would."""

    def write(classes, num_classes: int = 2, key: str = "classes") -> str:
        path, weights = tmp_path / "other.pth", Detector(num_classes).state_dict()
        twos = {name: torch.full_like(value, 2.0) for name, value in weights.items()}
        torch.save({"meta": {"dataset_meta": {key: classes} if classes else {}}, "state_dict": twos}, path)
        return str(path)

    return write


def loaded(runner: Runner) -> dict[str, set[float]]:
    """The values of class and of regression branches."""
    head = runner.model.bbox_head
    return {
        name: {value for p in getattr(head, name).parameters() for value in p.unique().tolist()}
        for name in ("cls_branches", "fc_cls", "reg_branches")
    }


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: data,
        lambda data: ConcatDataset([data, Data(TWO)]),
        lambda data: RepeatDataset(data, 2),
    ],
)
@pytest.mark.parametrize("method", ["train", "test"])
def test_number_of_classes_stops_the_run_before_it_starts(build, wrap, method):
    model = Detector(3)
    runner = build(wrap(Data(TWO)), model)
    model.forward = None  # not reached
    with pytest.raises(InputError) as error:
        getattr(runner, method)()
    for part in ("num_classes is 3", "some.json", "2 classes: ['circle', 'square']"):
        assert part in str(error.value)


def test_wrapped_model(build):
    runner = build(model=Detector(3))
    runner.model = nn.DataParallel(runner.model)
    with pytest.raises(InputError, match="num_classes is 3"):
        runner.test()


def test_nothing_to_say_about_a_good_run(build, warnings):
    build().train()
    build().test()
    assert not [message for message in warnings if "classes" in message or "queries" in message]


def test_a_data_set_without_a_batch(build):
    runner = build(loader={"batch_size": 3, "drop_last": True})
    with pytest.raises(InputError, match="no batch: the data set has 2 images, batch_size is 3"):
        runner.train()


@pytest.mark.parametrize("ann_file", ["annotations/other.json", "annotations/../annotations/some.json"])
def test_metric_of_another_file_is_a_warning(build, warnings, ann_file):
    metric = NoMetric()
    metric.ann_file = ann_file
    build(evaluator=[metric]).test()
    expected = ["the data set reads annotations/some.json, its evaluator annotations/other.json"]
    assert [w.partition(":")[0] for w in warnings] == expected * ("other" in ann_file)


def test_more_objects_than_queries_is_one_warning(build, warnings):
    build(ConcatDataset([Data(most=9), Data(most=8)])).train()
    (warning,) = [message for message in warnings if "queries" in message]
    assert "images/crowded.jpg has 9 objects, but the model has 5 queries" in warning


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (10, []),
        (11, ["num_queries * num_classes is 10"]),
        (40, ["proposal_nums[-1] is 30", "num_queries * num_classes is 10"]),
    ],
)
def test_detections_that_do_not_count_are_one_warning_each(build, warnings, wanted, expected):
    metric, model = NoMetric(), Detector(len(TWO))
    metric.proposal_nums, model.bbox_head.max_per_img = [1, 10, 30], wanted
    build(model=model, evaluator=[metric]).test()
    found = [message for message in warnings if "max_per_img" in message]
    assert len(found) == len(expected)
    for part, message in zip(expected, found, strict=True):
        assert f"model.test_cfg.max_per_img is {wanted}, but " in message and part in message


@pytest.mark.parametrize(("classes", "key"), [(TWO, "classes"), (list(TWO), "CLASSES"), (None, "classes")])
def test_start_from_the_same_classes(build, checkpoint, warnings, classes, key):
    runner = build(load_from=checkpoint(classes, key=key))
    runner.train()
    assert loaded(runner) == {"cls_branches": {2.0}, "fc_cls": {2.0}, "reg_branches": {2.0}}
    assert not [message for message in warnings if "re-initialised" in message]


@pytest.mark.parametrize(("classes", "number"), [(OTHER, 2), (ONE, 1)])
def test_start_from_other_classes(build, checkpoint, warnings, classes, number):
    """All class branches are renewed, DETR's as well, and what the log names."""
    runner = build(load_from=checkpoint(classes, number))
    runner.train()
    assert loaded(runner) == {"cls_branches": {1.0}, "fc_cls": {1.0}, "reg_branches": {2.0}}
    (warning,) = [message for message in warnings if "re-initialised" in message]
    for part in (
        "bbox_head.cls_branches.0.weight",
        "bbox_head.fc_cls.bias",
        str(list(classes)),
        str(list(TWO)),
    ):
        assert part in warning


@pytest.mark.parametrize("method", ["train", "test"])
def test_resume_and_test_refuse_other_classes(build, checkpoint, method):
    path = checkpoint(OTHER)
    runner = build(load_from=path, resume=method == "train")
    with pytest.raises(InputError, match=f"checkpoint {path} was trained on other classes") as error:
        getattr(runner, method)()
    assert str(list(OTHER)) in str(error.value) and str(list(TWO)) in str(error.value)


def test_classes_are_those_of_the_data_that_is_run(build, checkpoint):
    runner = build(Data(TWO), test=Data(OTHER), load_from=checkpoint(OTHER))
    runner.test()
    assert loaded(runner)["cls_branches"] == {2.0}
