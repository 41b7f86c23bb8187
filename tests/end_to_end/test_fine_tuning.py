"""Starting from, and testing, what other trainings and mmdet have saved."""

import json
import pickle
import runpy
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed

from projects.deformable_detr.registry import DATASETS, MODELS

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
TOOLS = {name: runpy.run_path(str(REPO / "tools" / f"{name}.py"))["main"] for name in ("train", "test")}
VARIANTS = {
    "base": {},
    "refine": {"model.with_box_refine": True},
    "two_stage": {"model.with_box_refine": True, "model.as_two_stage": True},
}

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def run(tmp_path, monkeypatch) -> Callable[..., tuple[Path, str]]:
    """Runs a tool with options, training for an epoch, and returns the work_dir and the log."""
    # Formatting the config four times and looking for compilers take longer than the run.
    monkeypatch.setattr(Config, "pretty_text", "")
    monkeypatch.setattr("mmengine.runner.runner.collect_env", dict)

    def run_(tool: str, *args, config: Path = CONFIG, **options) -> tuple[Path, str]:
        work_dir = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        name = str(work_dir).replace("/", "_")
        options = {
            "experiment_name": name,
            "visualizer.name": name,
            "train_dataloader.batch_size": 8,
            "train_cfg.max_epochs": 1,
            "train_cfg.val_interval": 2,
            **options,
        }
        pairs = [f"{key}={value}" for key, value in options.items()]
        argv = [config, *args, "--work-dir", work_dir, "--cfg-options", *pairs]
        TOOLS[tool](list(map(str, argv)))
        return work_dir, "".join(path.read_text() for path in work_dir.glob("*/*.log"))

    return run_


def start(run, config: Path = CONFIG, **options) -> tuple[dict, str]:
    """The weights that a training starts from, as it saves them after an epoch with learning rate 0."""
    options = {"optim_wrapper.optimizer.lr": 0, "randomness.seed": 7, **options}
    work_dir, log = run("train", config=config, **options)
    return torch.load(work_dir / "epoch_1.pth", weights_only=False)["state_dict"], log


def classes(names: Sequence[str]) -> dict:
    """Options for a run on these classes alone."""
    listed = "[" + ",".join(names) + "]"
    loaders = ("train_dataloader", "val_dataloader", "test_dataloader")
    data = {f"{loader}.dataset.metainfo.classes": listed for loader in loaders}
    return {"model.bbox_head.num_classes": len(names), **data}


@pytest.mark.parametrize("variant", ["base", "two_stage"])
def test_other_classes_and_queries(run, variant):
    """What depends on them is as without ``load_from``, all else is as in the file, bit by bit."""
    options = {**VARIANTS[variant], "model.decoder.num_layers": 2}
    first, _ = run("train", **options)
    path = first / "epoch_1.pth"
    file = torch.load(path, weights_only=False)["state_dict"]
    options |= {**classes(("circle", "square")), "model.num_queries": 7}
    fresh, _ = start(run, **options)
    adapted, log = start(run, **options, load_from=path)

    others = {key for key in file if ".cls_branches." in key}
    assert len(others) == {"base": 4, "two_stage": 6}[variant]
    if variant != "two_stage":
        others.add("query_embedding.weight")
    assert adapted.keys() == file.keys()
    for key, value in adapted.items():
        source = fresh if key in others else file
        assert torch.equal(value, source[key]), key
    assert any(not torch.equal(fresh[key], file[key]) for key in file.keys() - others)

    report = log[log.index(f"{path}: ") :]
    assert f"{len(others)} of the model's {len(file)} tensors are re-initialised" in report
    assert "all others are loaded exactly" in report
    assert "classes of the checkpoint: ['circle', 'square', 'triangle']" in report
    assert "classes of this run: ['circle', 'square']" in report
    for key in others:
        assert f"    {key} {tuple(file[key].shape)} -> {tuple(adapted[key].shape)}\n" in report
    assert "do not match" not in log  # mmengine has nothing left to complain about


def test_weights_of_a_run_with_averaging_and_optimizer(run, tmp_path):
    """Training starts from the averaged weights, which EMAHook saves as the weights, and nothing else."""
    heir = tmp_path / "heir.py"
    heir.write_text(f"_base_ = '{CONFIG}'\ncustom_hooks = [dict(type='EMAHook', priority=49)]\n")
    first, _ = run("train", config=heir)
    path = first / "epoch_1.pth"
    contents = torch.load(path, weights_only=False)
    assert contents["ema_state_dict"] and contents["optimizer"]["state"]

    options = {"load_from": path, "model.num_queries": 7}
    adapted, log = start(run, config=heir, **options)
    for key, value in adapted.items():
        assert torch.equal(value, contents["state_dict"][key]) == (key != "query_embedding.weight")
    assert "query_embedding.weight (10, 64) -> (7, 64)" in log
    assert "do not match" not in log


# --- files of mmdet ---


@pytest.fixture
def wide(tmp_path) -> Path:
    """The small config at the only width at which mmdet's two-stage model runs."""
    path = tmp_path / "wide.py"
    attention, ffn = "dict(embed_dims=256)", "dict(embed_dims=256)"
    layer = f"self_attn_cfg={attention}, ffn_cfg={ffn}"
    path.write_text(
        f"_base_ = {str(CONFIG)!r}\n"
        "model = dict(\n"
        "    neck=dict(out_channels=256),\n"
        "    positional_encoding=dict(num_feats=128, offset=-0.5),\n"
        f"    encoder=dict(layer_cfg=dict({layer})),\n"
        f"    decoder=dict(layer_cfg=dict({layer}, cross_attn_cfg={attention})),\n"
        "    bbox_head=dict(embed_dims=256, sync_cls_avg_factor=True),\n"
        ")\n"
    )
    return path


def mmdets_model(cfg: Config, num_classes: int) -> torch.nn.Module:
    """mmdet's own detector of the same sizes, with random weights."""

    def without_our_types(node: dict) -> dict:
        return {
            key: without_our_types(value) if isinstance(value, dict) else value
            for key, value in node.items()
            if key != "type"
        }

    model = cfg.model.to_dict()
    for part in ("encoder", "decoder", "positional_encoding"):
        model[part] = without_our_types(model[part])
    model["decoder"].update(return_intermediate=True, post_norm_cfg=None)
    for layer in (model["encoder"]["layer_cfg"], model["decoder"]["layer_cfg"]):
        for name in layer.keys() & {"self_attn_cfg", "cross_attn_cfg"}:
            layer[name]["batch_first"] = True
    model["bbox_head"]["num_classes"] = num_classes
    set_random_seed(3)
    with DefaultScope.overwrite_default_scope("mmdet"):
        built = MODELS.build(ConfigDict(model))
        built.init_weights()
    assert type(built).__module__.startswith("mmdet.")
    for parameter in built.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return built.eval()


def save_as_mmdet(model: torch.nn.Module, path: Path, names: list[str]) -> Path:
    """Save ``model`` with all that mmengine's Runner, a published file and an older mmdet put into a file."""
    history = HistoryBuffer()
    history.update(np.float64(0.5))
    weights = OrderedDict(model.state_dict())
    weights["data_preprocessor.mean"] = torch.zeros(3, 1, 1)
    weights["data_preprocessor.std"] = torch.ones(3, 1, 1)
    parameters = list(model.parameters())
    contents = dict(
        meta=dict(
            epoch=50,
            iter=366500,
            cfg="model = dict()",
            seed=1,
            experiment_name="deformable-detr",
            time="20221029_210934",
            mmengine_version="0.1.0",
            dataset_meta=dict(CLASSES=tuple(names), PALETTE=[(220, 20, 60)] * len(names)),
        ),
        state_dict=weights,
        message_hub=dict(
            log_scalars={"train/loss": history},
            runtime_info={"coco/bbox_mAP": np.float64(0.44)},
            resumed_keys={"train/loss": True},
        ),
        optimizer=torch.optim.AdamW(parameters).state_dict(),
        param_schedulers=[dict(last_step=50, milestones=[40])],
    )
    torch.save(contents, path)
    return path


@pytest.fixture
def eighty(tmp_path, shapes_root) -> tuple[Path, list[str]]:
    """The drawings with annotations of eighty categories, and their names."""
    root = Path(shutil.copytree(shapes_root, tmp_path / "eighty"))
    for path in root.glob("annotations/*.json"):
        coco = json.loads(path.read_text())
        names = [category["name"] for category in coco["categories"]]
        more = range(len(names) + 1, 81)
        coco["categories"] += [dict(id=i, name=f"class{i}") for i in more]
        path.write_text(json.dumps(coco))
    return root, names + [f"class{i}" for i in more]


@pytest.mark.parametrize("variant", VARIANTS)
def test_mmdets_file_is_tested_unchanged(run, tmp_path, wide, eighty, variant):
    """The predictions of tools/test.py are those of mmdet's own model."""
    root, names = eighty
    cfg = Config.fromfile(wide)
    cfg.merge_from_dict(VARIANTS[variant])
    theirs = mmdets_model(cfg, num_classes=80)
    path = save_as_mmdet(theirs, tmp_path / "mmdet.pth", names)

    out = tmp_path / "results.pkl"
    options = {"data_root": root, **classes(names), **VARIANTS[variant]}
    _, log = run("test", path, "--out", out, config=wide, **options)
    assert "do not match" not in log and "re-initialised" not in log

    dataset = cfg.test_dataloader.dataset
    dataset.update(data_root=str(root), metainfo=dict(classes=names))
    images = DATASETS.build(dict(dataset, _scope_="projects.deformable_detr"))
    for image, found in zip(images, pickle.loads(out.read_bytes()), strict=True):
        (expected,) = theirs.test_step(pseudo_collate([image]))
        found, expected = found["pred_instances"], expected.pred_instances
        assert torch.equal(found["labels"], expected.labels)
        torch.testing.assert_close(found["scores"], expected.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(found["bboxes"], expected.bboxes, rtol=0, atol=1e-3)


@pytest.mark.parametrize("variant", ["base", "two_stage"])
def test_mmdets_file_is_started_from(run, tmp_path, eighty, variant):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(VARIANTS[variant])
    theirs = mmdets_model(cfg, num_classes=80)
    path = save_as_mmdet(theirs, tmp_path / "mmdet.pth", eighty[1])
    adapted, log = start(run, **VARIANTS[variant], load_from=path)

    file = theirs.state_dict()
    assert adapted.keys() == file.keys()
    for key, value in adapted.items():
        if ".cls_branches." in key:
            assert len(value) == 3
            assert f"    {key} {tuple(file[key].shape)} -> {tuple(value.shape)}\n" in log
        else:
            assert torch.equal(value, file[key]), key
    assert "do not match" not in log
