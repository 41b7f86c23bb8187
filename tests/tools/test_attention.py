"""visualize_attention.py and sparsity.py from a checkpoint to their files."""

import csv
import math
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from projects.reliable_runner.inference import init_detector

TESTS = Path(__file__).parents[1]
TOOLS = TESTS.parent / "tools" / "analysis_tools"
visualize = runpy.run_path(str(TOOLS / "visualize_attention.py"))["main"]
sparsity = runpy.run_path(str(TESTS.parent / "studies" / "sparsity.py"))["main"]

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def checkpoint(tmp_path):
    """Returns the config and a checkpoint of an untrained tiny model by its name."""

    def make(name: str, file: str = "epoch_1.pth", epoch: int = 1) -> tuple[Path, Path]:
        config = TESTS / f"tiny_{name}.py"
        if name == "encoder_only":
            config = tmp_path / "encoder_only.py"
            config.write_text(f"_base_ = {str(TESTS / 'tiny_ddetr.py')!r}\nmodel = dict(decoder=None)\n")
        torch.manual_seed(epoch)
        model = init_detector(config, device="cpu")
        meta = dict(epoch=epoch, dataset_meta=dict(classes=("circle", "square", "triangle")))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / file)
        return config, tmp_path / file

    return make


@pytest.fixture
def image(shapes_root) -> Path:
    return sorted((shapes_root / "val").iterdir())[0]


@pytest.mark.parametrize("name", ["ddetr", "detr", "dat", "encoder_only"])
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--score-thr=0", "--layer=all"], "backbone, at "),
        (["--point", "20", "30", "--head=1", "--layer=0"], "backbone, at 20 30"),
        (["--initial"], "backbone, at 32 32"),
        (["--show=offsets"], "saved"),
        (["--show=offsets", "--initial", "--layer=1"], "saved"),
    ],
)
def test_pictures_of_the_backbone(options, said, checkpoint, image, tmp_path, capsys):
    config, weights = checkpoint("dat")
    if "--initial" in options:
        weights = "-"
    out = tmp_path / "out.png"
    visualize([*map(str, [config, weights, image]), "--stage=backbone", "--out", str(out), *options])
    assert said in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.width > 600


def test_a_model_without_decoder_shows_its_encoder(checkpoint, image, tmp_path, capsys):
    config, weights = checkpoint("encoder_only")
    out = tmp_path / "out.svg"
    visualize([*map(str, [config, weights, image]), "--query=3", "--out", str(out)])
    assert capsys.readouterr().out.startswith("encoder query 3\n")
    assert "encoder layer 0" in out.read_text()


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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dat", ["--stage=backbone", "--show=map"], "of the backbone there is points, offsets"),
        ("dat", ["--show=offsets"], "of the decoder there is points, map, total"),
        ("dat", ["--stage=backbone", "--query=3"], "name a place with --point X Y"),
        ("dat", ["--stage=backbone", "--point", "65", "3"], "outside the image, which is 64 x 64"),
        ("dat", ["--stage=backbone", "--layer=2"], "the backbone has the layers 0 to 1"),
        ("dat", ["--stage=backbone", "--point", "9", "3", "--head=4"], "has the heads 0 to 3"),
        ("ddetr", ["--stage=backbone"], "no deformable attention in its backbone"),
        ("encoder_only", ["--stage=decoder"], "the model has no decoder"),
        ("ddetr", ["--initial", "--show=total"], "--initial shows the points of the encoder"),
        ("ddetr", ["--initial", "--stage=decoder"], "--initial shows the points of the encoder"),
        ("detr", ["--initial"], "no sampling points"),
    ],
)
def test_flags_that_make_no_sense_are_named(name, options, message, checkpoint, image, one_line_error):
    assert message in one_line_error(visualize, *checkpoint(name), image, *options)


def test_other_models_and_files_are_named(checkpoint, image, tmp_path, one_line_error):
    config, weights = checkpoint("ddetr")
    assert "none.jpg does not exist" in one_line_error(visualize, config, weights, tmp_path / "none.jpg")
    detr = TESTS / "tiny_detr.py"
    assert "of another model" in one_line_error(visualize, detr, weights, image)
    detr, weights = checkpoint("detr")
    assert "no sampling points" in one_line_error(
        visualize, detr, weights, image, "--show=points", "--query=0"
    )
    assert "no epoch_*.pth" in one_line_error(sparsity, config, TESTS)


@pytest.mark.parametrize("name", ["ddetr", "detr", "encoder_only"])
def test_sparsity_along_a_run(name, checkpoint, tmp_path):
    for epoch in (10, 9):
        config, path = checkpoint(name, f"epoch_{epoch}.pth", epoch)
    out = tmp_path / "sparsity.png"
    sparsity([str(config), str(path.parent), "--num-images=2", "--out", str(out)])
    assert out.is_file()
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = 2 if name == "detr" else 1
    stages = ["encoder"] if name == "encoder_only" else ["encoder", "decoder"]
    assert [row["epoch"] for row in rows] == ["9", "10"] * len(stages) * layers
    assert [row["stage"] for row in rows] == [s for s in stages for _ in range(2 * layers)]
    for row in rows:
        # Untrained, deformable attention is even over 2 levels x 4 points; DETR has 2 x 2 cells.
        even = -math.log(4 if name == "detr" else 8)
        assert float(row["even"]) == pytest.approx(even)
        assert even - 1e-9 <= float(row["negative_entropy"]) < 0
        if name != "detr":
            assert float(row["negative_entropy"]) == pytest.approx(even)
