"""Weights of another model are only good to start from, and then the log tells what does not fit."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import BaseLoop
from torch import nn

from projects.reliable_runner.checks import weights as checkpoint
from projects.reliable_runner.checks.weights import CheckpointCheckHook
from projects.reliable_runner.errors import InputError


def load(checkpoint: dict, resume: bool = False, train: bool = True) -> None:
    """Call the hook as a runner does whose model is a small normalised layer."""
    load_into(model(), checkpoint, resume, train)


def load_into(model: nn.Module, checkpoint: dict, resume: bool = False, train: bool = True) -> nn.Module:
    """Call the hook as a runner with ``model`` does, and load what it leaves."""
    loop = BaseLoop.__new__(type("Loop", (BaseLoop,), {"run": None}))
    loop.dataloader = SimpleNamespace(dataset=None)
    loops = dict(_train_loop=loop if train else {}, _test_loop=loop, _val_loop={})
    runner = SimpleNamespace(_resume=resume, _load_from="a.pth", model=model, **loops)
    checkpoint = copy.deepcopy(checkpoint)
    CheckpointCheckHook().after_load_checkpoint(runner, checkpoint)
    weights = checkpoint.get("state_dict", checkpoint)
    if train and not resume:
        model.load_state_dict(weights, strict=True)
    return model


def model(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


RUN = {"meta": {}, "message_hub": {}, "optimizer": {}}


def test_weights_alone_are_refused_when_resuming():
    weights_alone = {"state_dict": model().state_dict()}
    load(weights_alone)
    load(RUN | weights_alone, resume=True)
    with pytest.raises(InputError, match="a.pth: .* lacks message_hub, meta, optimizer"):
        load(weights_alone, resume=True)


def test_weights_of_another_model_can_only_be_started_from():
    state_dict = {f"module.{key}": value for key, value in model(width=4).state_dict().items()}
    state_dict["module.1.bias"] = torch.zeros(3)
    del state_dict["module.1.num_batches_tracked"]
    checkpoint = RUN | {"state_dict": state_dict}
    load(checkpoint)
    for kwargs in {"resume": True}, {"train": False}:
        with pytest.raises(InputError, match=r"of another model: 0.weight is \(4, 3\) instead of"):
            load(checkpoint, **kwargs)
    del state_dict["module.1.bias"]
    with pytest.raises(InputError, match="none of its weights fits the model: .* 1.bias is not there"):
        load(checkpoint)


def test_weights_that_fit_are_taken():
    state_dict = model().state_dict()
    del state_dict["1.num_batches_tracked"]
    load(state_dict, train=False)
    load(RUN | {"state_dict": state_dict}, resume=True)


class Detector(nn.Module):
    """The names of a detector's parts; with ``refine`` each layer has branches of its own."""

    def __init__(self, classes: int = 3, queries: int = 5, width: int = 4, refine: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        self.encoder = nn.Linear(width, width)
        self.query_embedding = nn.Embedding(queries, 2 * width)
        self.bbox_head = nn.Module()
        branches = [nn.Linear(width, classes) for _ in range(2)]
        self.bbox_head.cls_branches = nn.ModuleList(branches if refine else branches[:1] * 2)


@pytest.fixture
def report(monkeypatch) -> list[str]:
    """What the hook logs."""
    lines: list[str] = []
    monkeypatch.setattr(checkpoint, "print_log", lambda message, **_: lines.extend(message.splitlines()))
    return lines


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("sizes", "renewed"),
    [
        ({}, {}),
        ({"queries": 7}, {"query_embedding.weight (5, 8) -> (7, 8)": "another number of queries"}),
        (
            {"classes": 2},
            {
                f"bbox_head.cls_branches.{i}.{shapes}": "other classes"
                for i in (0, 1)
                for shapes in ("weight (3, 4) -> (2, 4)", "bias (3,) -> (2,)")
            },
        ),
    ],
)
def test_a_start_renews_what_other_classes_and_queries_ask_for(report, prefix, sizes, renewed):
    weights = Detector().state_dict()
    fresh = Detector(**sizes)
    before = copy.deepcopy(fresh.state_dict())
    model = load_into(fresh, {"state_dict": {prefix + k: v for k, v in weights.items()}})
    names = {line.split()[0] for line in renewed}
    after = model.state_dict()
    for key, value in after.items():
        assert torch.equal(value, before[key] if key in names else weights[key]), key
    assert {line.strip() for line in report if " -> (" in line and "tensors" not in line} == {*renewed}
    for title in renewed.values():
        assert any(title in line for line in report)
    if not renewed:
        assert not report


def test_a_start_renews_the_class_branch_of_detr(report):
    """mmdet's DETR calls it ``fc_cls``, and has one class more in it."""
    models = [Detector(), Detector()]
    for model, rows in zip(models, (4, 3), strict=True):
        model.bbox_head.fc_cls = nn.Linear(4, rows)
    before = copy.deepcopy(models[1].bbox_head.fc_cls.weight)
    after = load_into(models[1], {"state_dict": models[0].state_dict()})
    assert torch.equal(after.bbox_head.fc_cls.weight, before)
    assert any("other classes" in line for line in report)


def test_a_start_tells_what_another_model_leaves(report):
    weights = Detector().state_dict() | {"neck.weight": torch.ones(2)}
    del weights["encoder.bias"]
    weights["bbox_head.cls_branches.0.weight"] = torch.ones(3, 5)  # another width
    load_into(Detector(), {"state_dict": weights})
    assert "2 of the model's 14 tensors are re-initialised" in report[0]
    title = next(i for i, line in enumerate(report) if "another model" in line)
    assert "    encoder.bias not there -> (4,)" in report[title:]
    assert "    bbox_head.cls_branches.0.weight (3, 5) -> (3, 4)" in report[title:]
    assert "  passed over, the model does not have them: neck.weight" in report


@pytest.mark.parametrize("kwargs", [{"resume": True}, {"train": False}])
def test_unknown_weights_are_refused(kwargs):
    weights = Detector().state_dict() | {"neck.weight": torch.ones(2)}
    with pytest.raises(InputError, match="another model: neck.weight is unknown to the model"):
        load_into(Detector(), RUN | {"state_dict": weights}, **kwargs)


def test_branches_of_their_own_need_a_model_that_has_them(report):
    """Names and shapes are the same with and without box refinement."""
    shared, refined = Detector(), Detector(refine=True)
    for model in (shared, refined):
        load_into(refined, model.state_dict(), train=False)
    load_into(shared, shared.state_dict(), train=False)
    with pytest.raises(InputError, match="cls_branches.1.weight differs from .*with_box_refine"):
        load_into(shared, refined.state_dict(), train=False)
    load_into(shared, refined.state_dict())
    assert any("cls_branches.1.weight differs from" in line for line in report)
    assert torch.equal(shared.bbox_head.cls_branches[0].bias, refined.bbox_head.cls_branches[1].bias)


@pytest.mark.parametrize("kwargs", [{}, {"resume": True}, {"train": False}])
def test_weights_of_a_backbone_alone_are_refused(kwargs):
    half = {k: v for k, v in Detector().state_dict().items() if k.startswith("backbone.")}
    with pytest.raises(InputError) as error:
        load_into(Detector(), RUN | {"state_dict": half}, **kwargs)
    for part in (
        "a.pth: only weights of the backbone fit, 6 of the model's 13: this is half a checkpoint",
        "encoder.weight is not there instead of (4, 4)",
        "it holds backbone.0.weight, backbone.0.bias",
        'init_cfg=dict(type="Pretrained", checkpoint="a.pth", prefix="backbone.")',
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("kwargs", [{}, {"resume": True}, {"train": False}])
@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("transformer.encoder.layers.0.self_attn.sampling_offsets.weight", "the official code"),
        ("model.decoder.layers.0.encoder_attn.sampling_offsets.weight", "Hugging Face"),
        ("encoder.layers.0.self_attn.attn.in_proj_weight", "a DETR without deformable attention"),
        ("layer1.0.conv1.weight", "a ResNet alone"),
    ],
)
def test_weights_of_other_families_are_refused(kwargs, key, family):
    weights = Detector().state_dict() | {key: torch.ones(2)}
    with pytest.raises(InputError, match=f"a.pth: its weights are those of {family}.*{key}"):
        load_into(Detector(), RUN | {"state_dict": weights}, **kwargs)
