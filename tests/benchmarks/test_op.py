"""The benchmark from its command line, on a case that takes no time."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import op_cases

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench_op(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_op", REPO / "benchmarks" / "op.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_op", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(op_cases.LEVELS, "tiny", ((6, 5), (3, 2)))
    monkeypatch.setitem(
        module.CASES, "tiny", module.Case("tiny", bs=2, num_heads=2, head_dims=3, num_points=2)
    )
    return module


def test_writes_times_and_a_chart(bench_op, monkeypatch, tmp_path, capsys):
    arguments = ["--cases", "tiny", "--rounds", "2", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["bench_op.py", *arguments])
    bench_op.main()
    rows = json.loads((tmp_path / "results.json").read_text())["cases"]["tiny"]
    assert {"fused", "unfused", "fused bfloat16", "reference"} <= rows.keys()
    for row in rows.values():
        assert row["forward"] > 0 and row["both"] > 0 and row["error"] < 3e-2
    assert (tmp_path / "results.png").stat().st_size > 0
    assert "| unfused |" in capsys.readouterr().out


def test_a_wrong_candidate_is_not_timed(bench_op):
    right = bench_op.candidates("cpu")["unfused"]
    wrong = bench_op.Candidate(lambda *inputs: right.run(*inputs) * 1.01)
    torch.manual_seed(0)
    with pytest.raises(SystemExit, match="wrong is wrong: error 1.*e-02 beside float64"):
        bench_op.bench(bench_op.CASES["tiny"], {"wrong": wrong}, "cpu", rounds=1)
