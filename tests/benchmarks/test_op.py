"""The benchmark from its command line, on a case that takes no time."""

import json

import pytest
import torch

from benchmarks import op


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(op.LEVELS, "tiny", ((6, 5), (3, 2)))
    monkeypatch.setitem(op.CASES, "tiny", op.Case("tiny", bs=2, num_heads=2, head_dims=3, num_points=2))


def test_writes_times_and_a_chart(monkeypatch, tmp_path, capsys):
    arguments = ["--cases", "tiny", "--rounds", "2", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["op.py", *arguments])
    op.main()
    rows = json.loads((tmp_path / "results.json").read_text())["cases"]["tiny"]
    assert {"fused", "unfused", "fused bfloat16", "reference"} <= rows.keys()
    for row in rows.values():
        assert row["forward"] > 0 and row["both"] > 0 and row["error"] < 3e-2
    assert (tmp_path / "results.png").stat().st_size > 0
    assert "| unfused |" in capsys.readouterr().out


def test_a_wrong_candidate_is_not_timed():
    right = op.candidates("cpu")["unfused"]
    wrong = op.Candidate(lambda *inputs: right.run(*inputs) * 1.01)
    torch.manual_seed(0)
    with pytest.raises(SystemExit, match="wrong is wrong: error 1.*e-02 beside float64"):
        op.bench(op.CASES["tiny"], {"wrong": wrong}, "cpu", rounds=1)
