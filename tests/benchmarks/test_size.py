"""The benchmark over image sizes, on a model that takes no time."""

import json
import runpy
from pathlib import Path

import pytest
from PIL import Image

from projects.reliable_runner.errors import InputError

REPO = Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(REPO / "benchmarks" / "size.py"))


@pytest.mark.slow
def test_measures_ours_and_mmdets(tmp_path, capsys, small_run):
    out = tmp_path / "size.png"
    config = str(REPO / "tests" / "tiny_ddetr.py")
    small = ["--sizes", "64", "96", "--rounds", "1", "--threads", "1", "--whose", "ours", "mmdet's"]
    TOOL["main"]([config, *small, "--out", str(out)])
    rows = json.loads(out.with_suffix(".json").read_text())
    found = {(row["size"], row["step"], row["whose"]) for row in rows}
    steps = ("inference", "training step")
    assert found == {
        (size, step, whose) for size in (64, 96) for step in steps for whose in ("ours", "mmdet's")
    }
    assert all(row["seconds"] > 0 and 0.1 < row["gigabytes"] < 5 for row in rows)
    assert Image.open(out).width > 500
    assert capsys.readouterr().out.count("\n| ") == 2 + 8 - 1


def test_other_scores_end_it():
    with pytest.raises(InputError, match="mmdet's at 64 x 64: scores differ by 1.0e-03"):
        TOOL["check"]([0.5, 0.4], [0.5, 0.401], "mmdet's at 64 x 64")
