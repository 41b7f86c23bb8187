"""A user's mistakes, as the tools answer them: a short message and status 1, or a warning and a run."""

import json
import logging
import math
import os
import runpy
import shutil
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.launcher import run_tool

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
TOOLS = {name: runpy.run_path(str(REPO / "tools" / f"{name}.py"))["main"] for name in ("train", "test")}
CLASSES = ("circle", "square", "triangle")

pytestmark = pytest.mark.usefixtures("small_run")


class Run(NamedTuple):
    """What a tool has left."""

    error: str  # on stderr, "" if it exited with 0
    log: str
    losses: list[dict[str, float]]  # of each iteration


@pytest.fixture
def data(tmp_path, shapes_root) -> Path:
    """Eight training and four held-out drawings to spoil."""
    return Path(shutil.copytree(shapes_root, tmp_path / "data"))


@pytest.fixture
def run(tmp_path, data, capfd, monkeypatch) -> Callable[..., Run]:
    """Runs a tool on the drawings for one epoch, in a work_dir of its own."""
    # Formatting the config four times and looking for compilers take longer than the run.
    monkeypatch.setattr(Config, "pretty_text", "")
    monkeypatch.setattr("mmengine.runner.runner.collect_env", dict)
    # The logger of an earlier run complains that pytest has closed its stream.
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def run_(tool: str, *args: str | Path, config: Path = CONFIG, options: tuple = ()) -> Run:
        work_dir = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        name = str(work_dir).replace("/", "_")
        argv = [config, *args, "--work-dir", work_dir, "--cfg-options", f"data_root={data}"]
        argv += [f"experiment_name={name}", f"visualizer.name={name}"]
        argv += ["train_cfg.max_epochs=1", "train_cfg.val_interval=2", *options]
        status = run_tool(partial(TOOLS[tool], [str(arg) for arg in argv]))
        error = capfd.readouterr().err
        assert "Traceback" not in error
        assert len(error.splitlines()) < 25
        assert error.startswith("error: ") if status else "error: " not in error
        logs = "".join(path.read_text() for path in work_dir.glob("*/*.log"))
        scalars = [
            json.loads(line)
            for path in work_dir.glob("*/vis_data/scalars.json")
            for line in path.read_text().splitlines()
        ]
        return Run(error if status else "", logs, [line for line in scalars if "loss" in line])

    return run_


def change(data: Path, edit: Callable[[dict], None], split: str = "train") -> Path:
    """Apply ``edit`` to an annotation file."""
    path = data / "annotations" / f"{split}.json"
    coco = json.loads(path.read_text())
    edit(coco)
    path.write_text(json.dumps(coco))
    return path


def assert_trained(run: Run, iterations: int = 4) -> None:
    """Assert that an epoch was trained with finite losses."""
    assert not run.error
    assert len(run.losses) == iterations
    assert all(math.isfinite(value) for losses in run.losses for value in losses.values())


def annotation(coco: dict, image: dict, bbox: list[float]) -> None:
    """Add an annotation of the first category to ``image``."""
    coco["annotations"].append(
        dict(
            id=1000 + len(coco["annotations"]),
            image_id=image["id"],
            category_id=1,
            bbox=bbox,
            area=25,
            iscrowd=0,
        )
    )


@pytest.fixture
def checkpoint(tmp_path) -> Callable[..., Path]:
    """Saves an untrained model as mmengine's Runner does, with the classes that it was trained on."""

    def save(classes: tuple[str, ...] = CLASSES, **options) -> Path:
        cfg = Config.fromfile(CONFIG)
        cfg.merge_from_dict({"model.bbox_head.num_classes": len(classes), **options})
        model = MODELS.build(dict(cfg.model, _scope_=SCOPE))
        model.init_weights()
        path = tmp_path / "epoch_7.pth"
        contents = dict(
            meta=dict(dataset_meta=dict(classes=classes), epoch=7, iter=28, seed=0),
            message_hub={},
            optimizer={},
            state_dict=model.state_dict(),
        )
        torch.save(contents, path)
        return path

    return save


# --- annotation files ---


@pytest.mark.parametrize("split", ["train", "val"])
def test_annotation_file_missing(run, data, split):
    (data / "annotations" / f"{split}.json").unlink()
    error = run("train").error
    assert f"annotation file {data}/annotations/{split}.json does not exist" in error


@pytest.mark.parametrize("text", ["", "{}", '{"images": 3, "annotations": [', "<xml/>"])
def test_annotation_file_is_not_coco(run, data, text):
    path = data / "annotations" / "train.json"
    path.write_text(text)
    assert f"annotation file {path} is not" in run("train").error


# --- images ---


def test_image_missing(run, data):
    image = data / "train" / "000003.png"
    image.unlink()
    error = run("train").error
    assert error.startswith(f"error: image {image} does not exist; check data_root")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_image_cut_short(run, data, num_workers):
    image = data / "train" / "000003.png"
    image.write_bytes(image.read_bytes()[:-500])
    error = run("train", options=[f"train_dataloader.num_workers={num_workers}"]).error
    assert error.startswith(f"error: image {image} cannot be decoded, it is cut short")
    assert len(error.splitlines()) == 1


def test_image_cut_short_in_test(run, data, checkpoint):
    image = data / "val" / "000002.png"
    image.write_bytes(image.read_bytes()[:-500])
    error = run("test", checkpoint()).error
    assert error.startswith(f"error: image {image} cannot be decoded, it is cut short")


# --- classes ---


def test_classes_and_categories_disagree(run, data):
    path = change(data, lambda coco: coco["categories"][1].update(name="rhombus"))
    result = run("train")
    assert f"{path}: it has no category square" in result.error
    assert "['circle', 'square', 'triangle']" in result.error
    assert "['circle', 'rhombus', 'triangle']" in result.error
    assert not result.losses


def test_num_classes_disagree(run, data):
    result = run("train", options=["model.bbox_head.num_classes=80"])
    assert "model.bbox_head.num_classes is 80, but" in result.error
    assert f"{data}/annotations/train.json has 3 classes" in result.error
    assert "['circle', 'square', 'triangle']" in result.error
    assert not result.losses


# --- boxes ---


def test_boxes_that_cannot_be_learnt_are_skipped_and_named_once(run, data):
    def spoil(coco):
        image = coco["images"][4]
        for bbox in ([5, 5, 0, 9], [5, 5, -3, 9], [5, math.nan, 9, 9], [64, 5, 9, 9]):
            annotation(coco, image, bbox)

    path = change(data, spoil)
    result = run("train")
    assert_trained(result)
    (report,) = result.log.split(f"{path}: 4 annotations are skipped")[1:]
    assert "2 of zero or negative width or height: annotation 10" in report
    assert "1 not finite: annotation 10" in report
    assert "1 outside the image: annotation 10" in report
    assert "in 000005.png" in report


@pytest.mark.parametrize("two_stage", [False, True])
@pytest.mark.parametrize("empty", [1, 8])
def test_images_without_objects_train(run, data, empty, two_stage):
    def spoil(coco):
        ids = [image["id"] for image in coco["images"][:empty]]
        coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] not in ids]

    change(data, spoil)
    options = ["train_dataloader.dataset.filter_cfg.filter_empty_gt=False"]
    assert_trained(run("train", options=[*options, f"model.as_two_stage={two_stage}"]))


def test_more_objects_than_queries_is_warned_about(run, data):
    def crowd(coco):
        for side in range(5, 20):
            annotation(coco, coco["images"][1], [1, 1, side, side])

    change(data, crowd)
    result = run("train")
    assert_trained(result)
    assert f"WARNING - image {data}/train/000002.png has " in result.log
    assert "objects, but the model has 10 queries" in result.log


# --- predictions that are not finite ---


def test_non_finite_prediction_is_located(run, data, checkpoint):
    path = checkpoint(**{"model.decoder.num_layers": 2})
    contents = torch.load(path)
    contents["state_dict"]["decoder.layers.1.norms.2.bias"].fill_(math.nan)
    torch.save(contents, path)
    error = run("train", options=["model.decoder.num_layers=2", f"load_from={path}"]).error
    assert error.startswith("error: non-finite loss at iteration 1.")
    assert f"images: {data}/train/0000" in error
    assert "decoder.layers.1.norms.2" in error


def test_non_finite_prediction_in_test_has_no_score(run, data, checkpoint):
    path = checkpoint()
    contents = torch.load(path)
    contents["state_dict"]["decoder.layers.0.norms.2.bias"].fill_(math.nan)
    torch.save(contents, path)
    error = run("test", path).error
    assert "non-finite predictions of the last decoder layer" in error
    assert f"image {data}/val/000001.png" in error


def test_a_wild_learning_rate_is_named(run):
    options = ["optim_wrapper.optimizer.lr=1e30", "train_cfg.max_epochs=2"]
    error = run("train", options=options).error
    assert error.startswith("error: non-finite ") and " at iteration " in error
    assert "learning rate too high" in error


# --- checkpoints ---


def test_start_from_other_classes(run, checkpoint):
    path = checkpoint(("cat", "dog"))
    result = run("train", options=[f"load_from={path}"])
    assert_trained(result)
    assert "the class branches stay as they were initialised" in result.log
    assert "['cat', 'dog']" in result.log and str(list(CLASSES)) in result.log
    assert "bbox_head.cls_branches.0.weight" in result.log


@pytest.mark.parametrize("tool", ["train", "test"])
def test_other_classes_are_refused(run, checkpoint, tool):
    path = checkpoint(("cat", "dog", "cow"))
    result = run(tool, *(["--resume"] if tool == "train" else []), path)
    assert f"the checkpoint {path} was trained on other classes" in result.error
    assert "['cat', 'dog', 'cow']" in result.error and str(list(CLASSES)) in result.error
    assert not result.losses


@pytest.mark.parametrize("tool", ["train", "test"])
def test_other_models_are_refused(run, checkpoint, tool):
    path = checkpoint(**{"model.num_queries": 7})
    error = run(tool, *(["--resume"] if tool == "train" else []), path).error
    assert f"{path}: its weights are of another model: query_embedding.weight is (7, 64)" in error


@pytest.mark.parametrize("use", ["resume", "load_from", "test"])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "is cut short"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("<html>not found</html>"), "this is a text that begins with"),
        (lambda path: torch.save({"epoch": 3, "net": {}}, path), "has no 'state_dict'"),
        (lambda path: torch.save({"state_dict": Image.new}, path), "the file asks for PIL.Image"),
        (Path.unlink, "there is no such checkpoint file"),
    ],
)
def test_torn_and_foreign_checkpoints(run, checkpoint, use, spoil, reason):
    path = checkpoint()
    spoil(path)
    result = {
        "resume": lambda: run("train", "--resume", path),
        "load_from": lambda: run("train", options=[f"load_from={path}"]),
        "test": lambda: run("test", path),
    }[use]()
    assert result.error.startswith(f"error: {path}: ")
    assert reason in result.error
    assert not result.losses


class Touch:
    """Pickles as a command that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def other_family(path: Path) -> None:
    """The layout of the official code, with its options and a command to run."""
    key = "transformer.encoder.layers.0.self_attn.sampling_offsets.weight"
    contents = dict(model={key: torch.ones(2)}, args=Namespace(lr=1), run=Touch(f"{path}.trace"))
    torch.save(contents, path)


def backbone_alone(path: Path, more: dict | None = None) -> None:
    contents = torch.load(path)
    weights = contents["state_dict"].items()
    contents["state_dict"] = {k: v for k, v in weights if k.startswith("backbone.")} | (more or {})
    torch.save(contents, path)


def plain_detr(path: Path) -> None:
    backbone_alone(path, {"encoder.layers.0.self_attn.attn.in_proj_weight": torch.ones(96, 32)})


def averages_alone(path: Path) -> None:
    averaged = {f"module.{k}": v for k, v in torch.load(path)["state_dict"].items()}
    torch.save({"meta": {}, "ema_state_dict": averaged | {"steps": torch.tensor(3)}}, path)


@pytest.mark.parametrize("use", ["resume", "load_from", "test"])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            other_family,
            "its weights are those of the official code",
        ),
        (plain_detr, "its weights are those of a DETR without deformable attention"),
        (backbone_alone, "only weights of the backbone"),
        (averages_alone, "its keys are 'meta', 'ema_state_dict'; it holds the averaged weights"),
    ],
)
def test_foreign_and_half_checkpoints(run, checkpoint, use, spoil, reason):
    path = checkpoint()
    spoil(path)
    options = {"resume": ["--resume", path], "test": [path], "load_from": []}[use]
    start = [f"load_from={path}"] if use == "load_from" else []
    result = run("test" if use == "test" else "train", *options, options=start)
    assert result.error.startswith(f"error: {path}: ")
    assert reason in result.error
    assert not result.losses
    assert not path.with_name(f"{path.name}.trace").exists()


def test_checkpoint_with_unknown_keys(run, checkpoint):
    path = checkpoint()
    contents = torch.load(path)
    contents["state_dict"]["dn_query_generator.label_embedding.weight"] = torch.ones(3, 4)
    torch.save(contents, path)
    unknown = "dn_query_generator.label_embedding.weight is unknown to the model"
    assert f"{path}: its weights are of another model: {unknown}" in run("test", path).error


# --- names and keys of the config ---


@pytest.mark.parametrize(
    ("option", "wrong", "nearest"),
    [
        ("model.type=DeformableDTER", "'DeformableDTER'", "'DeformableDETR'"),
        ("model.num_querys=5", "'num_querys'", "'num_queries'"),
        ("train_dataloadr.batch_size=1", "'train_dataloadr'", "'train_dataloader'"),
        ("train_dataloader.batch_sise=1", "'batch_sise'", "DataLoader"),
        ("val_evaluator.metrik=bbox", "'metrik'", "'metric'"),
    ],
)
def test_a_misspelt_name_or_key_is_named(run, option, wrong, nearest):
    error = run("train", options=[option]).error
    assert wrong in error and nearest in error
