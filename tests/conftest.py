"""What several test files use."""

import logging
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

# Many tiny tensors: a second thread only waits. Processes that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from mmengine.config import Config

# mmdet.models cannot be imported before these where mmcv has no ops.
from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.launcher import run_tool

REPO = Path(__file__).resolve().parents[1]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory) -> Path:
    """A drawn data set: 8 training and 4 held-out images of 64 px, three classes."""
    tool = runpy.run_path(str(REPO / "tools" / "dataset_converters" / "draw_shapes.py"))
    root = tmp_path_factory.mktemp("shapes")
    tool["draw_split"](root, "train", num_images=8, size=64, seed=0)
    tool["draw_split"](root, "val", num_images=4, size=64, seed=1)
    return root


CONFIG = REPO / "tests" / "tiny_ddetr.py"


@pytest.fixture
def small_run(shapes_root, monkeypatch) -> None:
    """What tests/tiny_ddetr.py needs: the drawings, and one thread, since in several it is slower."""
    monkeypatch.setenv("SHAPES_ROOT", str(shapes_root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """Weights of the untrained model of tests/tiny_ddetr.py; its scores are about 0.01."""
    model = MODELS.build(dict(Config.fromfile(CONFIG).model, _scope_=SCOPE))
    model.init_weights()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "epoch_1.pth")
    return tmp_path / "epoch_1.pth"


@pytest.fixture
def one_line_error(capsys, monkeypatch) -> Callable[..., str]:
    """Runs a tool's ``main`` with a user's mistake and returns the one line that it prints."""
    # The logger of an earlier run in this process complains that pytest has closed its stream.
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def run(main: Callable[[list[str]], None], *args: str | Path) -> str:
        assert run_tool(partial(main, [str(arg) for arg in args])) == 1
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        (error,) = [line for line in printed.splitlines() if line.startswith("error: ")]
        return error

    return run


@pytest.fixture
def run_script(tmp_path) -> Callable[..., str]:
    """Runs a shell script in ``tmp_path``, without a GPU, and returns what it prints."""

    def run(script: Path, *args: str | Path) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "PORT": port, "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(["bash", script, *args], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + done.stderr

    return run
