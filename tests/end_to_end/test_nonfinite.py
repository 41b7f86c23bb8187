"""A NaN step stops the run, or is left out, and can be repeated."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.errors import NonFiniteError

REPO = Path(__file__).resolve().parents[2]
CONFIG, DETR = (REPO / "tests" / f"tiny_{name}.py" for name in ("ddetr", "detr"))
SKIP_ONE = {"train_cfg.skip_nonfinite": 1}


@pytest.fixture
def spoiled(spoil) -> Path:
    """A config whose third image is NaN."""
    return spoil()


@pytest.fixture
def train(tool, tmp_path) -> Callable[..., Path]:
    """Trains without validation; returns the work_dir."""

    def train_(config: Path, *args: str, **options) -> Path:
        tool(
            "train", config, "--work-dir", tmp_path / "run", *args, **{"train_cfg.val_interval": 9}, **options
        )
        return tmp_path / "run"

    return train_


@pytest.fixture
def stop(train, tmp_path) -> Callable[..., tuple[Path, str]]:
    """Trains until a NaN step ends the run; returns the work_dir and the message."""

    def stop_(*args, **options) -> tuple[Path, str]:
        with pytest.raises(NonFiniteError) as error:
            train(*args, **options)
        return tmp_path / "run", str(error.value)

    return stop_


@pytest.fixture
def replay(tool, tmp_path, capfd) -> Callable[..., str]:
    """What tools/replay_batch.py prints of the step that a run has left."""

    def replay_(config: Path, *args: str) -> str:
        (saved,) = tmp_path.glob("run/nonfinite_iter_*.pth")
        tool("replay_batch", tmp_path / "run" / config.name, saved, *args)
        return capfd.readouterr().out

    return replay_


@pytest.mark.parametrize(("config", "amp"), [(CONFIG, ()), (CONFIG, ("--amp", "bfloat16")), (DETR, ())])
def test_a_wild_learning_rate_stops_with_what_is_needed_to_repeat_it(stop, replay, config, amp):
    work_dir, error = stop(config, *amp, **{"optim_wrapper.optimizer.lr": 1e6})
    assert error.startswith("non-finite ") and len(error.splitlines()) == 4
    iteration = re.search(r"at iteration (\d+)", error)[1]
    saved = work_dir / f"nonfinite_iter_{iteration}.pth"
    kept = work_dir / config.name
    assert error.endswith(f"to repeat it: python tools/replay_batch.py {kept} {saved}")
    first = re.search(r"first: (.*)", error)[1]

    step = torch.load(saved, weights_only=True)
    images = [s["contents"]["metainfo"]["img_path"] for s in step["batches"][0]["data_samples"]]
    assert set(re.search("images: (.*)", error)[1].split(", ")) <= set(images)
    assert all(w.isfinite().all() for w in step["state_dict"].values())  # it was not trained on
    printed = replay(config)
    assert printed.endswith(f"first: {first}\n")
    assert re.search(r"^backbone.conv1 +[\d.]+e\+\d+ +Conv2d$", printed, re.M)


def test_weights_that_are_not_finite_are_named(stop, checkpoint, replay):
    contents = torch.load(checkpoint)
    contents["state_dict"]["decoder.layers.0.norms.2.bias"][5] = math.nan
    torch.save(contents, checkpoint)
    _, error = stop(CONFIG, load_from=checkpoint)
    name = "first: weights are already NaN or infinite, since the step before: decoder.layers.0.norms.2.bias"
    assert name in error
    assert name in replay(CONFIG)


def test_a_spoiled_image_is_named(stop, spoiled, replay):
    work_dir, error = stop(spoiled, **{"optim_wrapper.accumulative_counts": 2})
    step = torch.load(next(work_dir.glob("nonfinite_iter_*.pth")), weights_only=True)
    assert len(step["batches"]) == 2
    (images,) = re.findall("images: (.*)", error)
    assert Path(images).name == "000003.png"
    assert "first: the output of data_preprocessor (DetDataPreprocessor)" in error
    printed = replay(spoiled, "--all")
    assert "first: the output of data_preprocessor" in printed
    assert printed.count("bbox_head.reg_branches.0.4 ") == 2


@pytest.mark.parametrize("counts", [1, 2])
def test_a_step_may_be_left_out_and_a_resumed_run_goes_on_counting(train, stop, spoiled, scalars, counts):
    options = SKIP_ONE | {"optim_wrapper.accumulative_counts": counts}
    work_dir = train(spoiled, **options, **{"train_cfg.max_epochs": 1})
    lines = scalars(work_dir, "iter")
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

    _, error = stop(spoiled, "--resume", **options, **{"train_cfg.max_epochs": 2})
    assert re.match("non-finite loss at iteration [5678]", error)


def test_iterations_without_epochs_are_guarded_too(stop, spoiled, heir):
    text = (
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4)\n"
        "train_dataloader = dict(sampler=dict(type='InfiniteSampler'))\n"
        "log_processor = dict(by_epoch=False)\nparam_scheduler = None"
    )
    _, error = stop(heir(text, "iterations", spoiled))
    assert error.startswith("non-finite loss at iteration ")
    assert "000003.png" in error


@pytest.mark.slow
def test_two_processes_leave_out_the_same_step(spoiled, small_run, tmp_path, run_script, scalars):
    options = ["train_cfg.max_epochs=1", "train_cfg.skip_nonfinite=1"]
    printed = run_script(REPO / "tools" / "dist_train.sh", spoiled, "2", "--cfg-options", *options)
    assert "step 1 of 1 that may be left out: non-finite loss" in printed
    assert "Average Precision" in printed
    work_dir = tmp_path / "work_dirs" / "spoiled"
    left_out = scalars(work_dir, "nonfinite_steps")[-1]
    assert left_out["nonfinite_steps"] == 1 and left_out["iter"] == 2  # two processes share eight images
    weights = torch.load(work_dir / "epoch_1.pth", weights_only=False)["state_dict"]
    assert all(w.isfinite().all() for w in weights.values())
    (saved,) = work_dir.glob("nonfinite_iter_*.pth")
    model = MODELS.build(dict(Config.fromfile(CONFIG).model, _scope_=SCOPE))
    model.load_state_dict(torch.load(saved, weights_only=True)["state_dict"])
