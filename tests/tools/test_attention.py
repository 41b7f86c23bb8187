"""visualize_attention.py and attention_sparsity.py from a checkpoint to their files."""

import csv
import math
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from projects.deformable_detr.errors import InputError
from projects.deformable_detr.inspection.loading import build_model, read_image

TESTS = Path(__file__).parents[1]
TOOLS = TESTS.parent / "tools" / "analysis_tools"
visualize = runpy.run_path(str(TOOLS / "visualize_attention.py"))["main"]
sparsity = runpy.run_path(str(TOOLS / "attention_sparsity.py"))["main"]

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def checkpoint(tmp_path):
    """Returns the config and a checkpoint of an untrained tiny model by its name."""

    def make(name: str, file: str = "epoch_1.pth", epoch: int = 1) -> tuple[Path, Path]:
        config = TESTS / f"tiny_{name}.py"
        torch.manual_seed(epoch)
        model = build_model(Config.fromfile(config))
        meta = dict(epoch=epoch, dataset_meta=dict(classes=("circle", "square", "triangle")))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / file)
        return config, tmp_path / file

    return make


@pytest.fixture
def image(shapes_root) -> Path:
    return sorted((shapes_root / "val").iterdir())[0]


@pytest.mark.parametrize("name", ["ddetr", "detr"])
@pytest.mark.parametrize(
    "options",
    [
        ["--score-thr=0"],
        ["--stage=encoder", "--point", "20", "30", "--layer=all"],
        ["--query=3", "--head=1", "--layer=0", "--show=map"],
        ["--show=total", "--score-thr=0"],
    ],
)
def test_pictures_are_written(name, options, checkpoint, image, tmp_path, capsys):
    out = tmp_path / "new" / "out.png"
    visualize([*map(str, [*checkpoint(name), image]), "--out", str(out), *options])
    assert capsys.readouterr().out.endswith(f"saved {out}\n")
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.width > 600


def test_svg_and_initial_pattern_without_a_checkpoint(image, tmp_path):
    out = tmp_path / "star.svg"
    config = TESTS / "tiny_ddetr.py"
    visualize([str(config), "-", str(image), "--initial", "--out", str(out)])
    text = out.read_text()
    assert "<svg" in text and "encoder layer 0" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--query=10"], "the queries 0 to 9"),
        (["--point", "65", "3"], "outside the image, which is 64 x 64"),
        (["--score-thr=0.99"], "no detection"),
        (["--layer=2"], "the layers 0 to 0"),
        (["--out=out.pdf"], "must end with .png"),
    ],
)
def test_mistakes_are_named(options, message, checkpoint, image, one_line_error):
    assert message in one_line_error(visualize, *checkpoint("ddetr"), image, *options)


def test_other_models_and_files_are_named(checkpoint, image, tmp_path, one_line_error):
    config, weights = checkpoint("ddetr")
    assert "no such image" in one_line_error(visualize, config, weights, tmp_path / "none.jpg")
    detr = TESTS / "tiny_detr.py"
    assert "of another model" in one_line_error(visualize, detr, weights, image)
    detr, weights = checkpoint("detr")
    assert "no sampling points" in one_line_error(
        visualize, detr, weights, image, "--show=points", "--query=0"
    )
    augmented = TESTS.parent / "configs" / "ddetr_x101_dcn_50e_two_stage_tta.py"
    with pytest.raises(InputError, match="tta.py: the test pipeline must end with PackDetInputs"):
        read_image(Config.fromfile(augmented), image)
    assert "no epoch_*.pth" in one_line_error(sparsity, config, TESTS)


@pytest.mark.parametrize("name", ["ddetr", "detr"])
def test_sparsity_along_a_run(name, checkpoint, tmp_path):
    for epoch in (10, 9):
        config, path = checkpoint(name, f"epoch_{epoch}.pth", epoch)
    out = tmp_path / "sparsity.png"
    sparsity([str(config), str(path.parent), "--num-images=2", "--out", str(out)])
    assert out.is_file()
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = 2 if name == "detr" else 1
    assert [row["epoch"] for row in rows] == ["9", "10"] * 2 * layers
    assert [row["stage"] for row in rows] == ["encoder"] * 2 * layers + ["decoder"] * 2 * layers
    for row in rows:
        # Untrained, deformable attention is even over 2 levels x 4 points; DETR has 2 x 2 cells.
        even = -math.log(4 if name == "detr" else 8)
        assert float(row["even"]) == pytest.approx(even)
        assert even - 1e-9 <= float(row["negative_entropy"]) < 0
        if name == "ddetr":
            assert float(row["negative_entropy"]) == pytest.approx(even)
