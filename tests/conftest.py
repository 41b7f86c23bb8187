"""What several test files use."""

import importlib.util
import os
from pathlib import Path

# Many tiny tensors: a second thread only waits. Processes that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

# mmdet.models, which many tests compare with, cannot be imported before this where mmcv has no ops.

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory) -> Path:
    """A drawn data set: 8 training and 4 held-out images of 64 px, three classes."""
    spec = importlib.util.spec_from_file_location("draw_shapes", REPO / "tools" / "draw_shapes.py")
    draw_shapes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw_shapes)
    root = tmp_path_factory.mktemp("shapes")
    draw_shapes.draw_split(root, "train", num_images=8, size=64, seed=0)
    draw_shapes.draw_split(root, "val", num_images=4, size=64, seed=1)
    return root
