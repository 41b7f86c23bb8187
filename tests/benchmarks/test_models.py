"""The benchmark of whole models, on small images."""

import pytest
import torch

models = pytest.importorskip("benchmarks.models")
pytest.importorskip("transformers", reason="`make test` installs transformers; Python >= 3.11")


def run(monkeypatch, name: str) -> None:
    small = ["--shape", "64", "96", "--rounds", "1", "--device", "cpu", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["models.py", "--models", name, *small])
    models.main()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmdet Deformable DETR", "Deformable DETR"])
def test_prints_a_row(name, monkeypatch, capsys):
    run(monkeypatch, name)
    cells = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert cells[:2] == [f"| {name}", "64 x 96"]
    assert all(float(cell.rstrip("x")) > 0 for cell in cells[2:8])


def test_other_outputs_are_not_timed(monkeypatch):
    model = torch.nn.Linear(1, 1)
    use_ours = lambda ours: torch.nn.init.constant_(model.bias, float(ours))  # noqa: E731
    candidate = models.Candidate(model, lambda: [model(torch.ones(1))], lambda: model.bias.sum(), use_ours)
    monkeypatch.setattr(models, "of_transformers", lambda *args: candidate)
    with pytest.raises(SystemExit, match="RT-DETR gives other outputs"):
        run(monkeypatch, "RT-DETR")
