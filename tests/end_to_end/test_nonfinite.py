"""A NaN step stops the run, or is left out, and can be repeated."""

import json
import logging
import math
import re
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.launcher import run_tool

REPO = Path(__file__).resolve().parents[2]
CONFIG, DETR = (REPO / "tests" / f"tiny_{name}.py" for name in ("ddetr", "detr"))
TRAIN, REPLAY = (
    runpy.run_path(str(REPO / "tools" / f"{name}.py"))["main"] for name in ("train", "replay_batch")
)

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def spoiled(tmp_path, monkeypatch) -> Path:
    """A config whose third image is NaN."""
    monkeypatch.syspath_prepend(REPO / "tests")
    monkeypatch.setenv("PYTHONPATH", str(REPO / "tests"))
    heir = tmp_path / "spoiled.py"
    heir.write_text(
        f"_base_ = {str(CONFIG)!r}\n"
        "custom_imports = dict(imports=[*_base_.custom_imports.imports, 'spoiled_image'])\n"
        "train_pipeline = [*_base_.train_pipeline[:-1], dict(type='SpoilImage', name='3.png'),\n"
        "    _base_.train_pipeline[-1]]\n"
        "train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n"
    )
    return heir


@pytest.fixture
def train(tmp_path, capfd, monkeypatch) -> Callable[..., tuple[Path, str]]:
    """Trains without validation; returns the work_dir and what was printed as an error."""
    monkeypatch.setattr("mmengine.runner.runner.collect_env", dict)
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def train_(config: Path, *options: str, amp: tuple = ()) -> tuple[Path, str]:
        work_dir = tmp_path / "run"
        names = [f"{key}={tmp_path}" for key in ("experiment_name", "visualizer.name")]
        argv = [config, *amp, "--work-dir", work_dir, "--cfg-options", *names]
        argv += ["train_cfg.val_interval=9", *options]
        status = run_tool(partial(TRAIN, list(map(str, argv))))
        error = capfd.readouterr().err
        assert status == bool(error)
        return work_dir, error

    return train_


def scalars(work_dir: Path) -> list[dict]:
    (path,) = work_dir.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def replay(capfd, work_dir: Path, config: Path, *args: str) -> str:
    (saved,) = work_dir.glob("nonfinite_iter_*.pth")
    assert not run_tool(partial(REPLAY, [str(work_dir / config.name), str(saved), *args]))
    return capfd.readouterr().out


@pytest.mark.parametrize(("config", "amp"), [(CONFIG, ()), (CONFIG, ("--amp", "bfloat16")), (DETR, ())])
def test_a_wild_learning_rate_stops_with_what_is_needed_to_repeat_it(train, capfd, config, amp):
    work_dir, error = train(config, "optim_wrapper.optimizer.lr=1e6", amp=amp)
    assert error.startswith("error: non-finite ")
    assert len(error.splitlines()) == 4 and "Traceback" not in error
    iteration = re.search(r"at iteration (\d+)", error)[1]
    saved = work_dir / f"nonfinite_iter_{iteration}.pth"
    kept = work_dir / config.name
    assert error.endswith(f"to repeat it: python tools/replay_batch.py {kept} {saved}\n")
    first = re.search(r"first: (.*)", error)[1]

    step = torch.load(saved, weights_only=True)
    images = [s["contents"]["metainfo"]["img_path"] for s in step["batches"][0]["data_samples"]]
    assert set(re.search("images: (.*)", error)[1].split(", ")) <= set(images)
    assert all(w.isfinite().all() for w in step["state_dict"].values())  # it was not trained on
    printed = replay(capfd, work_dir, config)
    assert printed.endswith(f"first: {first}\n")
    assert re.search(r"^backbone.conv1 +[\d.]+e\+\d+ +Conv2d$", printed, re.M)


def test_weights_that_are_not_finite_are_named(train, checkpoint, capfd):
    contents = torch.load(checkpoint)
    contents["state_dict"]["decoder.layers.0.norms.2.bias"][5] = math.nan
    torch.save(contents, checkpoint)
    work_dir, error = train(CONFIG, f"load_from={checkpoint}")
    name = "first: weights are already NaN or infinite, since the step before: decoder.layers.0.norms.2.bias"
    assert name in error
    assert name in replay(capfd, work_dir, CONFIG)


def test_a_spoiled_image_is_named(train, spoiled, capfd):
    work_dir, error = train(spoiled, "optim_wrapper.accumulative_counts=2")
    step = torch.load(next(work_dir.glob("nonfinite_iter_*.pth")), weights_only=True)
    assert len(step["batches"]) == 2
    (images,) = re.findall("images: (.*)", error)
    assert Path(images).name == "000003.png"
    assert "first: the output of data_preprocessor (DetDataPreprocessor)" in error
    printed = replay(capfd, work_dir, spoiled, "--all")
    assert "first: the output of data_preprocessor" in printed
    assert printed.count("bbox_head.reg_branches.0.4 ") == 2


@pytest.mark.parametrize("counts", [1, 2])
def test_a_step_may_be_left_out(train, spoiled, counts):
    options = ["train_cfg.skip_nonfinite=1", f"optim_wrapper.accumulative_counts={counts}"]
    work_dir, error = train(spoiled, *options, "train_cfg.max_epochs=1")
    assert not error
    lines = [line for line in scalars(work_dir) if "iter" in line]
    assert [line["iter"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["nonfinite_steps"] == 1
    assert torch.cuda.is_available() or lines[-1]["memory"] > 100  # MB of the process
    contents = torch.load(work_dir / "epoch_1.pth", weights_only=False)
    assert all(w.isfinite().all() for w in contents["state_dict"].values())
    (steps,) = {int(s["step"]) for s in contents["optimizer"]["state"].values()}
    assert steps == 4 // counts - 1
    (log,) = work_dir.glob("*/*.log")
    (warning,) = re.findall("WARNING - step 1 of 1 that may be left out: .*\n.*", log.read_text())
    assert "000003.png" in warning


def test_a_resumed_run_goes_on_counting(train, spoiled):
    allowed = "train_cfg.skip_nonfinite=1"
    work_dir, _ = train(spoiled, allowed, "train_cfg.max_epochs=1")
    _, error = train(spoiled, allowed, "train_cfg.max_epochs=2", amp=("--resume",))
    assert re.match("error: non-finite loss at iteration [5678]", error)


def test_iterations_without_epochs_are_guarded_too(train, spoiled):
    heir = spoiled.with_name("iterations.py")
    heir.write_text(
        f"_base_ = {str(spoiled)!r}\n"
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4)\n"
        "train_dataloader = dict(sampler=dict(type='InfiniteSampler'))\n"
        "log_processor = dict(by_epoch=False)\nparam_scheduler = None\n"
    )
    _, error = train(heir)
    assert error.startswith("error: non-finite loss at iteration ")
    assert "000003.png" in error


@pytest.mark.slow
def test_two_processes_leave_out_the_same_step(spoiled, tmp_path, run_script):
    options = ["train_cfg.max_epochs=1", "train_cfg.val_interval=9", "train_cfg.skip_nonfinite=1"]
    printed = run_script(REPO / "tools" / "dist_train.sh", spoiled, "2", "--cfg-options", *options)
    assert "step 1 of 1 that may be left out: non-finite loss" in printed
    work_dir = tmp_path / "work_dirs" / "spoiled"
    (left_out,) = [line for line in scalars(work_dir) if "nonfinite_steps" in line][-1:]
    assert left_out["nonfinite_steps"] == 1 and left_out["iter"] == 2
    weights = torch.load(work_dir / "epoch_1.pth", weights_only=False)["state_dict"]
    assert all(w.isfinite().all() for w in weights.values())
    (saved,) = work_dir.glob("nonfinite_iter_*.pth")
    model = MODELS.build(dict(Config.fromfile(CONFIG).model, _scope_=SCOPE))
    model.load_state_dict(torch.load(saved, weights_only=True)["state_dict"])
