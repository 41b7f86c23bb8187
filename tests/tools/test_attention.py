"""visualize_attention.py and sparsity.py from a checkpoint to their files."""

import csv
import json
import math
import re
import runpy
from functools import cache
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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Returns the config and the checkpoint of an untrained tiny model by its name and epoch."""

    @cache
    def make(name: str, epoch: int = 1) -> tuple[Path, Path]:
        folder = tmp_path_factory.getbasetemp() / f"attention_{name}"
        folder.mkdir(exist_ok=True)
        config = TESTS / f"tiny_{name}.py"
        if name == "encoder_only":
            config = folder / "encoder_only.py"
            config.write_text(f"_base_ = {str(TESTS / 'tiny_ddetr.py')!r}\nmodel = dict(decoder=None)\n")
        torch.manual_seed(epoch)
        model = init_detector(config, device="cpu")
        meta = dict(epoch=epoch, dataset_meta=dict(classes=("circle", "square", "triangle")))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / f"epoch_{epoch}.pth")
        return config, folder / f"epoch_{epoch}.pth"

    return make


@pytest.fixture
def image(shapes_root) -> Path:
    return sorted((shapes_root / "val").iterdir())[0]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        *((name, ["--score-thr=0"], "") for name in ("ddetr", "detr", "dat", "encoder_only", "dino")),
        ("dino", ["--stage=encoder", "--point", "20", "30", "--layer=all"], ""),
        ("dino", ["--query=3", "--head=1", "--layer=1", "--show=map"], ""),
        ("ddetr", ["--stage=encoder", "--point", "20", "30", "--layer=all"], ""),
        ("detr", ["--query=3", "--head=1", "--layer=0", "--show=map"], ""),
        ("ddetr", ["--show=total", "--score-thr=0"], ""),
        ("dat", ["--stage=backbone", "--score-thr=0", "--layer=all"], "backbone, at "),
        ("dat", ["--stage=backbone", "--point", "20", "30", "--head=1", "--layer=0"], "backbone, at 20 30"),
        ("dat", ["--stage=backbone", "--initial"], "backbone, at 32 32"),
        ("dat", ["--stage=backbone", "--show=offsets", "--initial", "--layer=1"], ""),
    ],
)
def test_pictures_are_written(name, options, said, checkpoint, image, tmp_path, capsys):
    config, weights = checkpoint(name)
    if "--initial" in options:
        weights = "-"
    out = tmp_path / "new" / "out.png"
    visualize([*map(str, [config, weights, image]), "--out", str(out), *options])
    printed = capsys.readouterr().out
    assert said in printed and printed.endswith(f"saved {out}\n")
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.width > 600


def written(page: Path) -> dict:
    """The data of a page."""
    return json.loads(re.search(r'type="application/json">(.*?)</script>', page.read_text("utf-8"))[1])


@pytest.mark.parametrize(
    ("name", "layers"),  # of encoder, decoder, backbone
    [
        ("ddetr", (1, 1, 0)),
        ("detr", (2, 2, 0)),
        ("dat", (1, 1, 2)),
        ("dino", (1, 2, 0)),
        ("encoder_only", (1, 0, 0)),
    ],
)
def test_a_page_is_written(name, layers, checkpoint, shapes_root, tmp_path, capsys):
    """Of two images and, beside the detector, DETR as it is initialised."""
    images = sorted((shapes_root / "val").iterdir())[:2]
    out = tmp_path / "new" / "page.html"
    options = ["--html", out, "--split=test", "--against", TESTS / "tiny_detr.py", "-"]
    visualize([*map(str, [*checkpoint(name), *images, *options])])
    assert f"saved {out} (0." in capsys.readouterr().out
    page = written(out)
    assert [image["name"] for image in page["images"]] == [path.name for path in images]
    assert [model["name"] for model in page["models"]] == [
        f"{checkpoint(name)[0].stem}, epoch_1.pth",
        "tiny_detr, as initialised",
    ]
    for image in page["images"]:
        view, detr = image["views"]
        assert tuple(len(view[stage]) for stage in ("encoder", "decoder", "backbone")) == layers
        assert len(detr["encoder"]) == len(detr["decoder"]) == len(detr["matches"]) == 2
        assert all(len(layer) == len(image["truth"]) > 0 for layer in (*view["matches"], *detr["matches"]))


@pytest.mark.parametrize(("name", "options"), [("encoder_only", "--query=3"), ("ddetr", "--initial")])
def test_the_encoder_is_shown_where_there_is_nothing_else(name, options, checkpoint, image, tmp_path):
    config, weights = checkpoint(name)
    if options == "--initial":
        weights = "-"
    visualize([*map(str, [config, weights, image]), options, "--out", str(tmp_path / "out.svg")])
    text = (tmp_path / "out.svg").read_text()
    assert "<svg" in text and "encoder layer 0" in text


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("ddetr", ["--out=out.xyz", "--score-thr=0"], "--out out.xyz"),
        ("ddetr", ["--initial", "--show=total"], "--initial"),
        ("ddetr", ["--initial", "--stage=decoder"], "--initial"),
        ("detr", ["--initial"], "no sampling points"),
        ("dat", ["--stage=backbone", "--show=map"], "of the backbone there is points, offsets"),
        ("dat", ["--show=offsets"], "of the decoder there is points, map, total"),
        ("dat", ["--stage=backbone", "--query=3"], "--point X Y"),
        ("dat", ["--stage=backbone", "--point", "65", "3"], "64 x 64"),
        *(
            ("ddetr", ["--html=page.html", *option.split()], f"{option.split()[0]}: in the page of --html")
            for option in ("--layer 0", "--head 0", "--query 0", "--detection 2", "--point 3 4", "--level 1")
        ),
        *(
            ("ddetr", ["--html=page.html", "--max-mb", size], f"--max-mb {size}: ")
            for size in ("0", "-1", "nan", "inf")
        ),
        ("ddetr", ["--against", "config.py", "-"], "--html"),
        ("ddetr", ["--html=page.html", "--split=train"], "--split train"),
    ],
)
def test_options_that_cannot_be_are_named(name, options, named, checkpoint, image, one_line_error):
    assert named in one_line_error(visualize, *checkpoint(name), image, *options)


def test_other_models_and_files_are_named(checkpoint, image, tmp_path, one_line_error):
    config, weights = checkpoint("ddetr")
    assert "none.jpg does not exist" in one_line_error(visualize, config, weights, tmp_path / "none.jpg")
    assert "2 images" in one_line_error(visualize, config, weights, image, image)
    (tmp_path / "file").touch()
    page = tmp_path / "file" / "page.html"
    error = one_line_error(visualize, config, "none.pth", image, "--html", page)
    assert f"{page.parent}: the folder of the picture can't be" in error  # before anything is computed
    detr = TESTS / "tiny_detr.py"
    assert "of another model" in one_line_error(visualize, detr, weights, image)
    assert "no epoch_*.pth" in one_line_error(sparsity, config, TESTS)


@pytest.mark.parametrize("options", [["--html=page.html", "--split=test"], []])
def test_a_checkpoint_of_nan_is_named(options, checkpoint, image, tmp_path, one_line_error):
    config, weights = checkpoint("ddetr")
    contents = torch.load(weights)
    contents["state_dict"]["bbox_head.cls_branches.0.bias"][:] = torch.nan
    torch.save(contents, tmp_path / "nan.pth")
    error = one_line_error(visualize, config, tmp_path / "nan.pth", image, *options)
    assert f"non-finite predictions of the last decoder layer for image {image}: the weights" in error


@pytest.mark.parametrize("name", ["ddetr", "detr", "encoder_only"])
def test_sparsity_along_a_run(name, checkpoint, tmp_path):
    config, late = checkpoint(name, 10)
    for path in (late, checkpoint(name, 9)[1]):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "sparsity.png"
    sparsity([str(config), str(tmp_path), "--num-images=2", "--out", str(out)])
    assert out.is_file()
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = 2 if name == "detr" else 1
    stages = ["encoder"] if name == "encoder_only" else ["encoder", "decoder"]
    assert [row["epoch"] for row in rows] == ["9", "10"] * len(stages) * layers
    assert [row["stage"] for row in rows] == [s for s in stages for _ in range(2 * layers)]
    for row in rows:
        # Untrained, deformable attention is even over 2 levels x 4 points; DETR has 2 x 2 tokens.
        even = -math.log(4 if name == "detr" else 8)
        assert float(row["even"]) == pytest.approx(even)
        assert even - 1e-9 <= float(row["negative_entropy"]) < 0
        if name != "detr":
            assert float(row["negative_entropy"]) == pytest.approx(even)
