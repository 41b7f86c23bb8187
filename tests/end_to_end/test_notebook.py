"""demo/deformable_detr.ipynb: as it is saved, and run from top to bottom."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
NOTEBOOK = REPO / "demo" / "deformable_detr.ipynb"

nbformat = pytest.importorskip("nbformat", reason="pip install --no-deps -r demo/requirements.txt")


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook, kind: str) -> list:
    """The outputs of code cells, of a kind, by cell."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[output for output in cell.outputs if output.output_type == kind] for cell in cells]


def pictures(notebook) -> list[int]:
    """How many pictures each code cell shows."""
    shown = zip(outputs(notebook, "display_data"), outputs(notebook, "execute_result"), strict=True)
    return [sum("image/jpeg" in output.data for output in (*some, *more)) for some, more in shown]


def text(notebook) -> str:
    return "".join(output.text for cell in outputs(notebook, "stream") for output in cell)


def precision(notebook) -> float:
    """The AP that tools/test.py prints."""
    return float(re.search(r"Precision.*IoU=0.50:0.95.*= (\S+)", text(notebook))[1])


def test_it_is_saved_with_its_pictures(notebook):
    """As one run from top to bottom has left it, without what only one machine has."""
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(pictures(notebook)) == 5 and precision(notebook) > 0.75
    assert not any(outputs(notebook, "error"))
    assert not any(output.name == "stderr" for cell in outputs(notebook, "stream") for output in cell)
    assert not re.search(r"/tmp|/home|/root|site-packages", text(notebook))
    assert NOTEBOOK.stat().st_size < 500_000


def test_what_it_links_to_is_there(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\(([^)#]+)", cell.source):
                assert (NOTEBOOK.parent / link).exists(), link


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    """In a folder of its own, which leads to the repository's code; the network is not needed."""
    nbclient = pytest.importorskip("nbclient", reason="pip install --no-deps -r demo/requirements.txt")
    pytest.importorskip("ipykernel", reason="pip install --no-deps -r demo/requirements.txt")
    for name in ("configs", "projects", "tools"):
        (tmp_path / name).symlink_to(REPO / name)
    (tmp_path / "demo").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{REPO}:{REPO / 'ops'}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    saved = pictures(notebook)
    place = dict(metadata=dict(path=str(tmp_path / "demo")))
    nbclient.NotebookClient(notebook, timeout=1500, kernel_name="python3", resources=place).execute()
    assert pictures(notebook) == saved
    assert precision(notebook) > 0.6
    assert "can train" in text(notebook)
    assert sorted(path.name for path in (tmp_path / "outputs" / "vis").iterdir()) == [
        f"photo_{number}.jpg" for number in range(3)
    ]
