"""Exports written by hand become COCO files with the boxes that were meant."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tools.dataset_converters.to_coco import main

BOXES = {
    "a.png": [("cat", [10, 20, 30, 15]), ("dog", [0, 0, 80, 60])],
    "b.png": [("dog", [40.5, 5, 9.5, 50])],
}
SIZE = 80, 60


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def draw(path: Path, size: tuple[int, int] = SIZE, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.effect_noise(size, 60).convert("RGB").save(path, exif=exif)


def voc_text(name: str, width: int = SIZE[0]) -> str:
    corners = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    one = f"<object><name>{{}}</name><bndbox>{corners}</bndbox></object>"
    objects = "".join(one.format(label, x, y, x + w, y + h) for label, (x, y, w, h) in BOXES[name])
    size = f"<size><width>{width}</width><height>60</height></size>"
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def yolo_text(name: str) -> str:
    (w, h), numbers = SIZE, {"cat": 0, "dog": 1}
    lines = [
        (numbers[label], (x + dx / 2) / w, (y + dy / 2) / h, dx / w, dy / h)
        for label, (x, y, dx, dy) in BOXES[name]
    ]
    return "".join("{} {:.6f} {:.6f} {:.6f} {:.6f}\n".format(*line) for line in lines)


def labelme_text(name: str) -> str:
    shapes = [
        dict(label=label, shape_type="rectangle", points=[[x + w, y], [x, y + h]])
        for label, (x, y, w, h) in BOXES[name]
    ]
    return json.dumps(dict(version="5.0", shapes=shapes, imagePath=f"..\\x\\{name}", imageHeight=60))


def cvat_text(shapes: dict[str, str] = {}) -> str:
    images = ""
    for name, boxes in BOXES.items():
        inside = "".join(
            f'<box label="{label}" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
            for label, (x, y, w, h) in boxes
        )
        images += f'<image name="{name}" width="80" height="60">{inside}{shapes.get(name, "")}</image>'
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("dog", "cat"))
    return f"<annotations><meta><job><labels>{labels}</labels></job></meta>{images}</annotations>"


def coco_text(names=tuple(BOXES)) -> str:
    images = [dict(id=name, file_name=name) for name in names]
    categories = [dict(id=7, name="dog"), dict(id=3, name="cat")]
    boxes = [(name, *box) for name in names for box in BOXES[name]]
    annotations = [
        dict(id=i, image_id=name, category_id=3 if label == "cat" else 7, bbox=box)
        for i, (name, label, box) in enumerate(boxes)
    ]
    return json.dumps(dict(images=images, categories=categories, annotations=annotations))


def export(root: Path, layout: str) -> Path:
    """Write a.png and b.png in a layout; where it has splits a is of train and b of val."""
    for name, split in ("a.png", "train"), ("b.png", "val"):
        stem = name[0]
        match layout:
            case "voc":
                draw(root / "JPEGImages" / name)
                put(root / "Annotations" / f"{stem}.xml", voc_text(name))
                put(root / "ImageSets" / "Main" / f"{split}.txt", f"{stem}\n")
            case "voc nested":
                draw(root / "JPEGImages" / "my photos" / name)
                put(root / "Annotations" / "my photos" / f"{stem}.xml", voc_text(name))
                put(root / "ImageSets" / "Main" / f"{split}.txt", f"my photos/{stem}\n")
            case "voc flat":
                draw(root / name)
                put(root / f"{stem}.xml", voc_text(name))
            case "yolo":
                draw(root / "images" / split / name)
                put(root / "labels" / split / f"{stem}.txt", yolo_text(name))
                settings = "path: /elsewhere\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}"
                put(root / "data.yaml", settings)
            case "yolo lists":
                draw(root / "images" / split / name)
                put(root / "labels" / split / f"{stem}.txt", yolo_text(name))
                put(root / f"{split}.txt", f"data/images/{split}/{name}\n")
                put(root / "data.yaml", "path: ./\ntrain: train.txt\nval: val.txt\nnames: {0: cat, 1: dog}")
            case "yolo label studio":
                draw(root / "images" / name)
                put(root / "labels" / f"{stem}.txt", yolo_text(name))
                put(root / "classes.txt", "cat\ndog\n")
                put(root / "notes.json", '{"categories": [{"id": 0, "name": "cat"}]}')
            case "yolo roboflow":
                folder = split.replace("val", "valid")
                draw(root / folder / "images" / name)
                put(root / folder / "labels" / f"{stem}.txt", yolo_text(name))
                settings = "train: ../train/images\nval: ../valid/images\ntest: ../test/images"
                put(root / "data.yaml", f"{settings}\nnames: [cat, dog]")
            case "yolo flat":
                draw(root / name)
                put(root / f"{stem}.txt", yolo_text(name))
                put(root / "classes.txt", "cat\ndog\n")
            case "labelme":
                draw(root / "x" / name)
                put(root / "json" / f"{stem}.json", labelme_text(name))
            case "cvat":
                draw(root / "images" / name)
                put(root / "annotations.xml", cvat_text())
            case "coco":
                draw(root / "images" / name)
                put(root / "annotations" / "instances_default.json", coco_text())
            case "coco roboflow":
                draw(root / split / name)
                put(root / split / "_annotations.coco.json", coco_text([name]))
    return root


def boxes_of(out: Path, split: str) -> dict[str, list]:
    """By image what `BOXES` has, read as pixels with the ids resolved."""
    content = json.loads((out / "annotations" / f"{split}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = {}
    for image in content["images"]:
        assert Image.open(out / split / image["file_name"]).size == (image["width"], image["height"])
        mine = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert all(a["area"] > 0 and a["iscrowd"] == 0 for a in mine)
        found[image["file_name"]] = [(names[a["category_id"]], a["bbox"]) for a in mine]
    return found


WITH_SPLITS = "voc", "voc nested", "yolo", "yolo lists", "yolo roboflow", "coco roboflow"
OTHERS = "voc flat", "yolo label studio", "yolo flat", "labelme", "cvat", "coco"


@pytest.mark.parametrize("layout", WITH_SPLITS + OTHERS)
def test_boxes_in_pixels(layout, tmp_path, capsys):
    out = tmp_path / "out"
    main([str(export(tmp_path / "in", layout)), str(out)])
    parts = boxes_of(out, "train"), boxes_of(out, "val")
    assert parts[0] | parts[1] == BOXES and not parts[0].keys() & parts[1].keys()
    if layout in WITH_SPLITS:
        assert list(parts[0]) == ["a.png"]
    assert (out / "train" / next(iter(parts[0]))).is_symlink()
    printed = capsys.readouterr().out
    assert "\ncan train\n" in printed and f'data_root = "{out}/"' in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("layout", ["voc flat", "yolo roboflow", "labelme", "cvat", "coco roboflow"])
def test_files_that_macos_adds_are_passed_over(layout, tmp_path):
    root = export(tmp_path / "in", layout)
    for path in [path for path in root.rglob("*") if path.is_file()]:
        for other in (path.with_name(f"._{path.name}"), root / "__MACOSX" / path.relative_to(root)):
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_bytes(b"\0\5\x16\7")
    main([str(root), str(tmp_path / "out")])
    assert boxes_of(tmp_path / "out", "train") | boxes_of(tmp_path / "out", "val") == BOXES


def test_polygons(tmp_path):
    corners = [10, 10, 30, 10, 30, 40]
    fractions = (f"{side / SIZE[i % 2]:.8f}" for i, side in enumerate(corners))
    shape = dict(label="dog", points=[corners[:2], corners[2:4], corners[4:]])
    ignored = dict(label="dog", shape_type="point", points=[[1, 1]])
    turned = '<box label="cat" xtl="20" ytl="25" xbr="60" ybr="35" rotation="90"/><points label="dog"/>'
    polygon = '<polygon label="dog" points="10,10;30,10;30,40"/>'
    for name, file, text in (
        ("yolo flat", "a.txt", f"1 {' '.join(fractions)}\n"),
        ("labelme", "json/a.json", json.dumps(dict(shapes=[shape, ignored], imagePath="../x/a.png"))),
        ("cvat", "annotations.xml", cvat_text({"a.png": polygon + turned})),
    ):
        root = export(tmp_path / name, name)
        put(root / file, text)
        main([str(root), str(tmp_path / "out" / name), "--split", "1", "--copy"])
        content = json.loads((tmp_path / "out" / name / "annotations" / "train.json").read_text())
        (found,) = [a for a in content["annotations"] if a.get("segmentation") == [corners]]
        assert (found["bbox"], found["area"]) == ([10, 10, 20, 30], 300)
        assert not (tmp_path / "out" / name / "train" / "a.png").is_symlink()
    boxes = [a["bbox"] for a in content["annotations"]]
    assert len(boxes) == 5 and [35, 10, 10, 40] in boxes  # a box 40 x 10, upright


def test_splits_are_stable_and_disjoint(tmp_path):
    root = tmp_path / "in"
    for number in range(20):
        draw(root / f"{number}.png")
        put(root / f"{number}.txt", "0 .5 .5 .5 .5\n")
    put(root / "classes.txt", "cat\n")
    parts = {}
    for name, seed in ("one", "0"), ("two", "0"), ("three", "1"):
        main([str(root), str(tmp_path / name), "--split", "0.7", "--seed", seed])
        parts[name] = [set(boxes_of(tmp_path / name, split)) for split in ("train", "val")]
        assert [len(part) for part in parts[name]] == [14, 6] and len(set().union(*parts[name])) == 20
    assert parts["one"] == parts["two"] != parts["three"]
    (root / "7.png").unlink()
    (root / "7.txt").unlink()
    main([str(root), str(tmp_path / "fewer"), "--split", "0.7"])
    moved = set(boxes_of(tmp_path / "fewer", "val")) ^ parts["one"][1]
    assert len(moved - {"7.png"}) <= 2


def test_test_split_equal_names_and_background(tmp_path, capsys):
    root = export(tmp_path / "in", "yolo")
    for folder in ("train/left", "train/right", "test"):
        draw(root / "images" / folder / "a.png")
    put(root / "labels" / "test" / "a.txt", "0 .5 .5 1.2 .5\n")
    put(root / "data.yaml", (root / "data.yaml").read_text() + "\ntest: images/test\n")
    main([str(root), str(tmp_path / "out")])
    train = boxes_of(tmp_path / "out", "train")
    assert train == {"a.png": BOXES["a.png"], "left/a.png": [], "right/a.png": []}
    assert "test: 1 boxes that leave their image" in capsys.readouterr().out
    assert boxes_of(tmp_path / "out", "test") == {"a.png": [("cat", [-8, 15, 96, 30])]}


@pytest.mark.parametrize("stated", [60, 80])
def test_exif_orientation(stated, tmp_path, one_line_error):
    """An image stored as 60 x 80 is shown as 80 x 60, and so are its boxes."""
    root = export(tmp_path / "in", "voc flat")
    (root / "a.png").unlink()
    draw(root / "a.jpg", size=(60, 80), orientation=6)
    put(root / "a.xml", voc_text("a.png", width=stated).replace("a.png", "a.jpg"))
    args = str(root), str(tmp_path / "out")
    if stated == 60:
        assert f"{root}/a.xml: it states 60x60" in one_line_error(main, *args)
        return
    main([*args, "--split", "1"])
    content = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert {(image["width"], image["height"]) for image in content["images"]} == {SIZE}


VOC, LABELME, COCO = "Annotations/a.xml", "json/a.json", "annotations/instances_default.json"
BOMB = '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
FAULTS = [
    ("voc", VOC, "<annotation>", "Annotations/a.xml: it is not XML, or cut short"),
    ("voc", VOC, BOMB, "Annotations/a.xml: it has a DOCTYPE"),
    ("voc", VOC, voc_text("a.png").replace("<xmin>0<", "<xmin>?<"), "a.xml: object 2: xmin is '?'"),
    ("voc", VOC, voc_text("a.png").replace("dog", ""), "a.xml: object 2 has no name"),
    ("voc", "ImageSets/Main/val.txt", "a\n", "is there twice: "),
    ("voc", "JPEGImages/a.png", None, "Annotations/a.xml: its image 'a.png' is missing"),
    ("voc", "JPEGImages/a.png", "", "JPEGImages/a.png ("),
    ("yolo", "data.yaml", "names: [a\nb: c", "data.yaml, line 2: it is not YAML"),
    ("yolo", "data.yaml", "names: {0: cat, 2: dog}", "data.yaml: its names are neither"),
    ("yolo", "data.yaml", "names: [cat, cat]", "data.yaml: several classes are named cat"),
    ("yolo", "data.yaml", "train: nowhere\nnames: [a]", "data.yaml: train is nowhere, which is not in"),
    ("yolo lists", "val.txt", "images/val/c.png\n", "val.txt: its image images/val/c.png is missing"),
    ("yolo", "data.yaml", None, "in: no class names"),
    ("yolo", "labels/train/a.txt", "\n2 .5 .5 .1 .1\n", "a.txt, line 2: class 2, but there are 2"),
    ("yolo", "labels/train/a.txt", "0 .5 .5 .1\n", "a.txt, line 1: 4 values"),
    ("yolo", "labels/train/a.txt", "0 .5 nan .1 .1\n", "a.txt, line 1: a value is 'nan'"),
    ("yolo", "labels/train/a.txt", "0 40 30 20 20\n", "are they pixels?"),
    ("yolo", "labels/train/c.txt", "0 .5 .5 .1 .1\n", "labels/train/c.txt: its image is missing"),
    ("yolo", "images/train/a.jpg", "", "labels/train/a.txt: it belongs to two images"),
    ("labelme", LABELME, '{"imagePath": [', "json/a.json: it is not JSON"),
    ("labelme", LABELME, labelme_text("a.png").replace("cat", " "), "a.json: shapes[0] has no label"),
    ("labelme", "x/a.png", None, "json/a.json: its image 'a.png' is missing"),
    ("cvat", "annotations.xml", "<annotations><track/></annotations>", "xml: it is CVAT's format for"),
    ("cvat", "annotations.xml", cvat_text().replace('l="dog"', 'l="cow"'), "an object is of class 'cow'"),
    ("coco", COCO, coco_text().replace('y_id": 3', 'y_id": 5'), "annotation 0: its"),
    ("coco roboflow", "train/x.json", "{}", "train/x.json is not COCO"),
    ("coco", COCO, None, "in: no annotations found"),
    ("coco", "data.yaml", "names: [a]", "looks like coco and yolo; say which with --from"),
]


@pytest.mark.parametrize(("layout", "file", "text", "message"), FAULTS)
def test_faults_are_one_line_and_leave_nothing(layout, file, text, message, tmp_path, one_line_error):
    root = export(tmp_path / "in", layout)
    (root / file).unlink(missing_ok=True)
    if text is not None:
        put(root / file, text)
    error = one_line_error(main, root, tmp_path / "new" / "out")
    assert message in error and str(root) in error
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_options_that_do_not_fit(tmp_path, one_line_error):
    root = export(tmp_path / "in", "yolo")
    assert "in: it has 1 images for val already; leave out --split" in one_line_error(
        main, root, tmp_path / "out", "--split", "0.5"
    )
    assert f"{root}: it is there already" in one_line_error(main, root, root)
    assert "there is no such folder" in one_line_error(main, root / "x.zip", tmp_path / "out")
