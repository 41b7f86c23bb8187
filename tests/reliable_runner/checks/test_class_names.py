"""Model, data and metric that do not fit: the run stops or warns before its first iteration."""

from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from projects.reliable_runner.checks.class_names import ClassCheckHook
from projects.reliable_runner.errors import InputError


class Data(BaseDataset):
    """Two images of two classes; ``max_instances`` as our data set records it."""

    def __init__(self, most: int = 3, classes: tuple[str, str] = ("circle", "square")) -> None:
        self.max_instances = most, "images/crowded.jpg"
        super().__init__("annotations/some.json", metainfo=dict(classes=classes))

    def load_data_list(self) -> list[dict]:
        return [{}, {}]


def check(
    data=None, num_classes: int = 2, max_per_img: int = 2, wrap=lambda x: x, metric=None, **loader
) -> None:
    """Call the hook as the runner of a model with five queries does."""
    model = nn.Module()
    model.num_queries, model.bbox_head = 5, nn.Module()
    model.bbox_head.num_classes, model.bbox_head.max_per_img = num_classes, max_per_img
    loop = BaseLoop.__new__(type("Loop", (BaseLoop,), {"run": None}))
    loop.dataloader = DataLoader(data or Data(), **loader)
    loop.evaluator = SimpleNamespace(metrics=[metric])
    ClassCheckHook().before_run(
        SimpleNamespace(model=wrap(model), _train_loop={}, _test_loop=loop, _val_loop={})
    )


@pytest.mark.parametrize("data", [Data(), ConcatDataset([Data(), Data()]), RepeatDataset(Data(), 2)])
@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_another_number_of_classes_is_refused(data, wrap):
    with pytest.raises(InputError) as error:
        check(data, num_classes=3, wrap=wrap)
    for part in ("num_classes is 3", "some.json", "2 classes: ['circle', 'square']"):
        assert part in str(error.value)


def test_a_class_has_one_label_in_all_data_sets():
    with pytest.raises(InputError, match="2 classes of .* have another label than in .*: square, circle\n"):
        check(Data() + Data(classes=("square", "circle")))
    with pytest.raises(InputError, match="1 classes of .*: square\n"):
        check(Data() + Data(classes=("square", "star")))


def test_another_spelling_is_a_warning(warnings):
    check(Data() + Data(classes=("Circle", "square")))
    (warning,) = warnings
    assert "['Circle', 'square'], those of" in warning


def test_a_data_set_without_a_batch():
    with pytest.raises(InputError, match="no batch: the data set has 2 images, batch_size is 3"):
        check(batch_size=3, drop_last=True)


@pytest.mark.parametrize("ann_file", ["annotations/other.json", "annotations/../annotations/some.json"])
def test_metric_of_another_file_is_a_warning(warnings, ann_file):
    check(metric=SimpleNamespace(ann_file=ann_file))
    expected = ["the data set reads annotations/some.json, its evaluator annotations/other.json"]
    assert [w.partition(":")[0] for w in warnings] == expected * ("other" in ann_file)


def test_more_objects_than_queries_is_one_warning(warnings):
    check(ConcatDataset([Data(most=9), Data(most=8)]))
    (warning,) = warnings
    assert "images/crowded.jpg has 9 objects, but the model has 5 queries" in warning


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (10, []),
        (11, ["num_queries * num_classes is 10"]),
        (40, ["proposal_nums[-1] is 30", "num_queries * num_classes is 10"]),
    ],
)
def test_detections_that_do_not_count_are_one_warning_each(warnings, wanted, expected):
    check(max_per_img=wanted, metric=SimpleNamespace(proposal_nums=[1, 10, 30]))
    assert len(warnings) == len(expected)
    for part, message in zip(expected, warnings, strict=True):
        assert f"model.test_cfg.max_per_img is {wanted}, but " in message and part in message
