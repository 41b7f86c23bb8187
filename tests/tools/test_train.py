import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
main = runpy.run_path(str(REPO / "tools" / "train.py"))["main"]


pytestmark = pytest.mark.usefixtures("small_run")


def train(work_dir: Path, *args: str, epochs: int = 1) -> list[dict]:
    """Train, and return what was logged of each iteration."""
    names = [f"{key}={work_dir}_{epochs}".replace("/", "_") for key in ("experiment_name", "visualizer.name")]
    options = [*names, f"train_cfg.max_epochs={epochs}"]
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
        (["--cfg-options", "train_pipeline.9.prob=1"], "--cfg-options"),
        (["--work-dir", "{}/file/run"], "{}/file/run"),
        (["--resume", "{}/epoch_9.pth"], "{}/epoch_9.pth"),
        (["--resume", "{}/weights.pth"], "{}/weights.pth"),
        (["--launcher", "pytorch"], "tools/dist_train.sh"),
        (["--auto-scale-lr", "--cfg-options", "auto_scale_lr.base_batch_size=None"], "base_batch_size=N"),
    ],
    ids=str,
)
def test_refuses_and_names(args, named, tmp_path, one_line_error, monkeypatch):
    (tmp_path / "file").touch()
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    monkeypatch.delenv("RANK", raising=False)
    args = [arg.format(tmp_path) for arg in args]
    assert named.format(tmp_path) in one_line_error(main, CONFIG, "--work-dir", tmp_path, *args)


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
