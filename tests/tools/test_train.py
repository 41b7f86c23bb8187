import json
import math
import os
import runpy
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from projects.reliable_runner.launcher import run_tool

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
main = runpy.run_path(str(REPO / "tools" / "train.py"))["main"]
run_test = runpy.run_path(str(REPO / "tools" / "test.py"))["main"]


pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def data(tmp_path, shapes_root, monkeypatch) -> Path:
    """The drawings, to spoil."""
    monkeypatch.setenv("SHAPES_ROOT", str(tmp_path / "data"))
    return Path(shutil.copytree(shapes_root, tmp_path / "data"))


def names_of(work_dir: Path, epochs: int = 1) -> list[str]:
    """Options that keep a run apart from others of this process."""
    return [f"{key}={work_dir}_{epochs}".replace("/", "_") for key in ("experiment_name", "visualizer.name")]


def train(work_dir: Path, *args: str, epochs: int = 1, options: tuple = ()) -> list[dict]:
    """Train, and return what was logged of each iteration."""
    options = [*names_of(work_dir, epochs), f"train_cfg.max_epochs={epochs}", *options]
    logs_before = set(work_dir.glob("*/vis_data/scalars.json"))
    main([str(CONFIG), "--work-dir", str(work_dir), *args, "--cfg-options", *options])
    (log,) = set(work_dir.glob("*/vis_data/scalars.json")) - logs_before
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_trains_in_bfloat16_and_resumes_where_it_stopped(tmp_path):
    first = train(tmp_path, "--amp", "bfloat16")
    assert [line["iter"] for line in first] == [1, 2, 3, 4]
    assert (tmp_path / "epoch_1.pth").exists()
    assert Config.fromfile(tmp_path / "tiny_ddetr.py").optim_wrapper.dtype == "bfloat16"

    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}_moved"))
    second = train(moved, "--amp", "bfloat16", "--resume", epochs=2)
    assert [line["iter"] for line in second] == [5, 6, 7, 8]
    assert (moved / "last_checkpoint").read_text() == str(moved / "epoch_2.pth")


def test_scales_the_learning_rate_to_the_batch_size(tmp_path):
    lines = train(tmp_path, "--auto-scale-lr")
    assert lines[0]["lr"] == 1e-3 * 2 / 4


def test_names_the_config_and_line_that_is_wrong(tmp_path, one_line_error):
    wrong, heir = tmp_path / "wrong.py", tmp_path / "heir.py"
    heir.write_text("_base_ = 'wrong.py'\nx = 1\n")

    assert f"{wrong}: there is no such config file" in one_line_error(main, wrong)
    assert f"{wrong}: FileNotFoundError" in one_line_error(main, heir)
    wrong.write_text("model = dict(\n  a=1,\n  b = = 2)\n")
    for config in (wrong, heir):
        assert f"{wrong}, line 3: SyntaxError: invalid" in one_line_error(main, config)
    wrong.write_text("a = 1\nb = c\n")
    for config in (wrong, heir):
        assert f"{wrong}, line 2: NameError: name 'c'" in one_line_error(main, config)


def test_refuses_what_is_no_setting(capsys):
    with pytest.raises(SystemExit):
        main([str(CONFIG), "--cfg-options", "load_from"])
    assert "'load_from' is not of the form KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--work-dir", "{}/file/run"], "{}/file/run"),
        (["--resume", "{}/epoch_9.pth"], "{}/epoch_9.pth"),
        (["--resume", "{}/weights.pth"], "{}/weights.pth"),
        (["--launcher", "pytorch"], "tools/dist_train.sh"),
        (["--auto-scale-lr", "--cfg-options", "auto_scale_lr.base_batch_size=None"], "base_batch_size=N"),
        (["--cfg-options", "model.num_querys=5"], "'num_queries'"),
        (["--cfg-options", "train_dataloader.batch_sise=1"], "'batch_sise'"),
    ],
    ids=str,
)
def test_refuses_and_names(args, named, tmp_path, one_line_error, monkeypatch):
    (tmp_path / "file").touch()
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    monkeypatch.delenv("RANK", raising=False)
    args = [arg.format(tmp_path) for arg in args]
    assert named.format(tmp_path) in one_line_error(main, CONFIG, "--work-dir", tmp_path, *args)


def test_a_torn_image_is_named_also_by_a_worker(data, tmp_path, one_line_error):
    image = data / "train" / "000003.png"
    image.write_bytes(image.read_bytes()[:-500])
    options = [*names_of(tmp_path), "train_dataloader.num_workers=2"]
    error = one_line_error(main, CONFIG, "--work-dir", tmp_path, "--cfg-options", *options)
    assert error.startswith(f"error: image {image} cannot be decoded, it is cut short")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_annotation_file_is_named_before_training(split, data, tmp_path, one_line_error):
    path = data / "annotations" / f"{split}.json"
    path.unlink()
    error = one_line_error(main, CONFIG, "--work-dir", tmp_path, "--cfg-options", *names_of(tmp_path))
    assert f"annotation file {path} does not exist" in error
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize("two_stage", [False, True])
def test_images_without_objects_train(two_stage, data, tmp_path):
    """A batch, or a few, without any object."""
    path = data / "annotations" / "train.json"
    coco = json.loads(path.read_text())
    last = coco["images"][-1]["id"]
    coco["annotations"] = [ann for ann in coco["annotations"] if ann["image_id"] == last]
    path.write_text(json.dumps(coco))
    empty = "train_dataloader.dataset.filter_cfg.filter_empty_gt=False"
    lines = train(tmp_path, options=(empty, f"model.as_two_stage={two_stage}"))
    assert len(lines) == 4
    assert all(math.isfinite(value) for line in lines for value in line.values())


def test_a_nan_is_reported_with_its_images_and_layer(checkpoint, tmp_path, shapes_root, capsys):
    contents = torch.load(checkpoint)
    contents["state_dict"]["decoder.layers.0.norms.2.bias"].fill_(math.nan)
    torch.save(contents, checkpoint)
    options = ["--cfg-options", f"load_from={checkpoint}", *names_of(tmp_path)]
    assert run_tool(partial(main, [str(CONFIG), "--work-dir", str(tmp_path), *options])) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: non-finite loss at iteration 1.")
    assert f"images: {shapes_root}/train/0000" in error and "decoder.layers.0.norms.2" in error


class Touch:
    """Pickles as a command that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("use", ["resume", "load_from", "test"])
def test_nothing_of_a_foreign_checkpoint_is_run(use, tmp_path, one_line_error):
    path = tmp_path / "foreign.pth"
    torch.save(dict(state_dict={"weight": torch.ones(2)}, run=Touch(tmp_path / "trace")), path)
    args = {"resume": ["--resume", path], "load_from": [], "test": [path]}[use]
    options = names_of(tmp_path) + ([f"load_from={path}"] if use == "load_from" else [])
    tool = run_test if use == "test" else main
    error = one_line_error(tool, CONFIG, *args, "--work-dir", tmp_path, "--cfg-options", *options)
    assert error.startswith(f"error: {path}: ") and "posix.system" in error
    assert not (tmp_path / "trace").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_refuses_float16_on_a_cpu(tmp_path, one_line_error):
    error = one_line_error(main, CONFIG, "--work-dir", tmp_path, "--amp")
    assert "float16 needs a GPU" in error


def test_runs_by_path_from_any_folder(tmp_path):
    tool = [sys.executable, REPO / "tools" / "train.py", "nothing.py"]
    done = subprocess.run(tool, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: nothing.py: there is no such config file\n"


@pytest.mark.slow
def test_trains_in_two_processes(tmp_path, run_script):
    options = ["--cfg-options", "train_cfg.max_epochs=1", "train_dataloader.batch_size=1"]
    printed = run_script(REPO / "tools" / "dist_train.sh", CONFIG, "2", *options)
    assert (tmp_path / "work_dirs" / "tiny_ddetr" / "epoch_1.pth").exists()
    assert "Epoch(train) [1][4/4]" in printed  # two processes share the eight images
    assert "Average Precision" in printed


@pytest.mark.slow
def test_a_process_may_have_no_object(tmp_path, shapes_root, run_script):
    annotations = json.loads((shapes_root / "annotations" / "train.json").read_text())
    first = annotations["images"][0]["id"]
    annotations["annotations"] = [ann for ann in annotations["annotations"] if ann["image_id"] == first]
    (shapes_root / "annotations" / "one.json").write_text(json.dumps(annotations))
    options = [
        "train_cfg.max_epochs=1",
        "train_dataloader.batch_size=1",
        "train_dataloader.dataset.ann_file=annotations/one.json",
        "val_cfg=None",
        "val_dataloader=None",
        "val_evaluator=None",
    ]
    run_script(REPO / "tools" / "dist_train.sh", CONFIG, "2", "--cfg-options", *options)
    assert (tmp_path / "work_dirs" / "tiny_ddetr" / "epoch_1.pth").exists()
