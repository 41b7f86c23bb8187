"""The benchmark over image sizes, on a model that takes no time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.size import BUILDERS, check
from ms_deform_attn.compat.mmcv_ops import use_in_mmcv
from projects.reliable_runner.errors import InputError

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_measures_ours_and_mmdets(tmp_path, small_run):
    out = tmp_path / "size.png"
    config = str(REPO / "tests" / "tiny_ddetr.py")
    small = ["--sizes", "64", "--rounds", "1", "--threads", "1", "--whose", "ours", "mmdet's"]
    # In a process: the tool's own ones look its functions up by the name of its module.
    command = [sys.executable, REPO / "benchmarks" / "size.py", config, *small, "--out", out]
    subprocess.run(command, check=True, cwd=REPO)
    rows = json.loads(out.with_suffix(".json").read_text())
    found = [(row["size"], row["step"], row["whose"]) for row in rows]
    steps = ("inference", "training step")
    assert found == [(64, step, whose) for step in steps for whose in ("ours", "mmdet's")]
    assert all(row["seconds"] > 0 and 0.1 < row["gigabytes"] < 5 for row in rows)
    assert Image.open(out).width > 500


@pytest.mark.parametrize("whose, op", [("ours", "fused_forward"), ("mmdet's", None)])
def test_whose_op_it_is(whose, op, small_run):
    candidate = BUILDERS[whose](str(REPO / "tests" / "tiny_ddetr.py"), 64)
    with torch.profiler.profile() as profiler:
        candidate.inference()
    use_in_mmcv()
    found = {event.key for event in profiler.key_averages() if event.key.startswith("ms_deform_attn::")}
    assert found == ({f"ms_deform_attn::{op}"} if op else set())


def test_other_scores_end_it():
    with pytest.raises(InputError, match="mmdet's at 64 x 64: scores differ by 1.0e-03"):
        check([0.5, 0.4], [0.5, 0.401], "mmdet's at 64 x 64")
