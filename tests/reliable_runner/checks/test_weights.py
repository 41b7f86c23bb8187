"""Weights of another model are only good to start from; a run resumes from a state that fits it."""

import copy
from functools import partial
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, MultiStepLR, OptimWrapper
from mmengine.runner import BaseLoop
from torch import nn, optim

from projects.reliable_runner.checks.weights import CheckpointCheckHook, check_state
from projects.reliable_runner.errors import InputError

RESUME, TEST = dict(resume=True), dict(train=False)


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
        self.bbox_head.fc_cls = nn.Linear(width, classes)  # mmdet's DETR calls it so
        self.dn_query_generator = nn.Module()
        self.dn_query_generator.label_embedding = nn.Embedding(classes, width)


def load(model: nn.Module, weights: dict, meta=MappingProxyType({}), resume=False, train=True) -> nn.Module:
    """Call the hook as a runner of ``model`` and the classes a, b and c does, and load what it leaves."""
    loop = BaseLoop.__new__(type("Loop", (BaseLoop,), {"run": None}))
    loop.dataloader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=("a", "b", "c"))))
    loops = dict(_train_loop=loop if train else {}, _test_loop=loop, _val_loop={})
    state = dict(_resume=resume, _load_from="a.pth", optim_wrapper=None, param_schedulers=None)
    contents = dict(meta=meta, message_hub={}, optimizer={}, state_dict=copy.deepcopy(weights))
    CheckpointCheckHook().after_load_checkpoint(SimpleNamespace(model=model, **state, **loops), contents)
    if train and not resume:
        model.load_state_dict(contents["state_dict"], strict=True)
    return model


@pytest.mark.parametrize("kwargs", [RESUME, TEST])
@pytest.mark.parametrize(
    ("theirs", "added", "named"),
    [
        (Detector(width=3), {}, r"encoder.weight is \(3, 3\) instead of \(4, 4\)"),
        (Detector(), {"module.neck.weight": torch.ones(2)}, "neck.weight is unknown to the model"),
    ],
)
def test_weights_of_another_model_are_refused(kwargs, theirs, added, named):
    with pytest.raises(InputError, match=f"a.pth: its weights are of another model: {named}"):
        load(Detector(), theirs.state_dict() | added, **kwargs)


@pytest.mark.parametrize("kwargs", [RESUME, TEST])
def test_weights_that_fit_are_taken(kwargs):
    weights = {f"module.{key}": value for key, value in Detector().state_dict().items()}
    weights["module.encoder.bias"] *= torch.nan  # the image that they spoil is named later
    del weights["module.backbone.1.num_batches_tracked"]
    load(Detector(), weights, **kwargs)


def branches(new: int) -> set[str]:
    """All that has a row a class, as the report names it."""
    names = ("cls_branches.0", "cls_branches.1", "fc_cls")
    shapes = (f"weight (3, 4) -> ({new}, 4)", f"bias (3,) -> ({new},)")
    labels = f"dn_query_generator.label_embedding.{shapes[0]}"
    return {labels, *(f"bbox_head.{name}.{shape}" for name in names for shape in shapes)}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("sizes", "meta", "renewed"),
    [
        ({}, {}, set()),
        ({}, {"dataset_meta": {"CLASSES": ("a", "b", "c")}}, set()),
        ({"queries": 7}, {}, {"query_embedding.weight (5, 8) -> (7, 8)"}),
        ({"classes": 2}, {}, branches(2)),
        (
            {},
            {"dataset_meta": {"classes": ("x", "y", "z")}},
            branches(3)
            | {"classes of the checkpoint: ['x', 'y', 'z']", "classes of this run: ['a', 'b', 'c']"},
        ),
    ],
)
def test_a_start_renews_what_other_classes_and_queries_ask_for(warnings, prefix, sizes, meta, renewed):
    weights = Detector().state_dict()
    fresh = Detector(**sizes)
    before = copy.deepcopy(fresh.state_dict())
    after = load(fresh, {prefix + key: value for key, value in weights.items()}, meta).state_dict()
    names = {line.split()[0] for line in renewed}
    for key, value in after.items():
        assert torch.equal(value, before[key] if key in names else weights[key]), key
    assert {line.strip() for text in warnings for line in text.splitlines()[1:]} == renewed


@pytest.mark.parametrize("kwargs", [RESUME, TEST])
def test_resume_and_test_refuse_other_classes(kwargs):
    with pytest.raises(InputError, match="checkpoint a.pth was trained on other classes") as error:
        load(Detector(), Detector().state_dict(), dict(classes=("x", "y", "z")), **kwargs)
    assert "['x', 'y', 'z']" in str(error.value) and "['a', 'b', 'c']" in str(error.value)


def test_a_start_tells_what_another_model_leaves(warnings):
    weights = Detector().state_dict() | {"neck.weight": torch.ones(2)}
    del weights["encoder.bias"]
    weights["bbox_head.cls_branches.0.weight"] = torch.ones(3, 5)  # another width
    load(Detector(), weights)
    title, *lines = warnings[0].splitlines()
    assert "2 of the model's 17 tensors are re-initialised" in title
    assert lines == [
        "    encoder.bias not there -> (4,)",
        "    bbox_head.cls_branches.0.weight (3, 5) -> (3, 4)",
        "  passed over, the model does not have them: neck.weight",
    ]


def test_branches_of_their_own_need_a_model_that_has_them(warnings):
    """Names and shapes are the same with and without box refinement."""
    shared, refined = Detector(), Detector(refine=True)
    for model in (shared, refined):
        load(refined, model.state_dict(), **TEST)
    load(shared, shared.state_dict(), **TEST)
    with pytest.raises(InputError, match="cls_branches.1.weight differs from .*with_box_refine"):
        load(shared, refined.state_dict(), **TEST)
    load(shared, refined.state_dict())
    assert "cls_branches.1.weight differs from" in warnings[0]
    assert torch.equal(shared.bbox_head.cls_branches[0].bias, refined.bbox_head.cls_branches[1].bias)


@pytest.mark.parametrize("kwargs", [{}, RESUME, TEST])
def test_weights_of_a_backbone_alone_are_refused(kwargs):
    half = {key: value for key, value in Detector().state_dict().items() if key.startswith("backbone.")}
    with pytest.raises(InputError) as error:
        load(Detector(), half, **kwargs)
    for part in (
        "a.pth: 6 of the model's 16 tensors fit, none beside the backbone",
        "encoder.weight is not there instead of (4, 4)",
        "it holds backbone.0.weight, backbone.0.bias",
        'init_cfg=dict(type="Pretrained", checkpoint="a.pth", prefix="backbone.")',
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("kwargs", [{}, RESUME, TEST])
def test_weights_of_other_families_are_refused(kwargs):
    key = "transformer.encoder.layers.0.self_attn.sampling_offsets.weight"
    with pytest.raises(InputError, match=f"a.pth: its weights are those of the official code.*{key}"):
        load(Detector(), Detector().state_dict() | {key: torch.ones(2)}, **kwargs)


KINDS = {
    kind.__name__: kind
    for kind in vars(optim).values()
    if isinstance(kind, type) and kind.__name__ not in ("Optimizer", "SparseAdam", "LBFGS", "Muon")
}
MULTI_STEP, COSINE = partial(MultiStepLR, milestones=[2]), partial(CosineAnnealingLR, T_max=3)


def run(kind=optim.AdamW, schedule=MULTI_STEP, groups=1, width=2) -> SimpleNamespace:
    """Optimizer and schedule of a small model, after a step."""
    model = nn.Linear(3, width)
    parameters = list(model.parameters())
    optimizer = kind([dict(params=part) for part in ([parameters], parameters)[groups - 1]], lr=0.1)
    schedulers = [schedule(optimizer)]
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    return SimpleNamespace(optim_wrapper=OptimWrapper(optimizer), param_schedulers=schedulers)


def checkpoint(runner: SimpleNamespace) -> dict:
    """What the runner would save."""
    return dict(
        meta=dict(epoch=1, iter=4),
        message_hub={},
        optimizer=runner.optim_wrapper.state_dict(),
        param_schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_every_optimizer_is_taken(kind):
    check_state("a.pth", checkpoint(run(KINDS[kind])), run(KINDS[kind]))


@pytest.mark.parametrize(
    "kind", ["SGD", "Adamax", "NAdam", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop"]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_state_of_another_optimizer_is_refused(kind, reverse):
    theirs, ours = [run(), run(KINDS[kind])][:: -1 if reverse else 1]
    with pytest.raises(InputError, match="^a.pth: .* its optimizer has groups .*another optimizer"):
        check_state("a.pth", checkpoint(theirs), ours)


@pytest.mark.parametrize(
    ("ours", "named"),
    [
        (dict(groups=2), r"\[\(2, .*\[\(1, .*paramwise_cfg"),
        (dict(width=4), r"optimizer.state\[0\] .* of a parameter of \(4, 3\)"),
        (dict(schedule=COSINE), r"param_scheduler is another schedule; --resume-schedule config"),
    ],
)
def test_another_state_is_refused(ours, named):
    with pytest.raises(InputError, match=f"^a.pth: a run can't be resumed from this checkpoint: .*{named}"):
        check_state("a.pth", checkpoint(run()), run(**ours))


def test_weights_alone_are_refused():
    with pytest.raises(InputError, match="^a.pth: .* lacks message_hub, optimizer.*load_from=a.pth"):
        check_state("a.pth", dict(meta={}, state_dict={}), run())
