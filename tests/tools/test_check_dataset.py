"""The tool: exit status, last line, JSON and picture, on clean drawings and on spoilt ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"


def test_clean_drawings(data, tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tool("check_dataset", CONFIG, "--quick")
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "can train"
    assert "Errors: none" in out and "Warnings: none" in out
    assert len(out) <= 60
    folder = Path("work_dirs/tiny_ddetr/check_dataset")
    report = json.loads((folder / "report.json").read_text())
    assert report["can_train"] and not report["errors"] and not report["warnings"]
    train = report["splits"]["train"]
    coco = json.loads((data / "annotations" / "train.json").read_text())
    assert train["statistics"]["num_objects"] == len(coco["annotations"])
    assert train["categories"][1] == dict(id=2, name="square", label=1)
    assert np.asarray(Image.open(folder / "statistics.png")).std() > 10


def test_spoilt_drawings(data, tool, tmp_path, capsys):
    path = data / "annotations" / "train.json"
    coco = json.loads(path.read_text())
    for i in range(7):
        coco["annotations"].append(dict(coco["annotations"][0], id=100 + i, bbox=[1, 1, 0, 5]))
    coco["annotations"].append(dict(coco["annotations"][0]))
    path.write_text(json.dumps(coco))
    (data / "train" / "000002.png").unlink()
    (data / "annotations" / "val.json").write_text("{}")
    with pytest.raises(SystemExit) as status:
        tool("check_dataset", CONFIG, "--out-dir", tmp_path / "out", "--split", "train", "val")
    assert status.value.code == 1
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert out.splitlines()[-1] == f"cannot train: {len(report['errors'])} errors"
    assert "7 boxes of zero or negative width or height: annotation 100 in 000001.png" in out
    assert {(e["where"], e["key"], e["count"]) for e in report["errors"]} >= {
        ("train", "repeated_id_annotations", 1),
        ("train", "image_missing", 1),
        ("val", "section_missing", 0),
    }
    assert ("val", "nothing_usable") in {(w["where"], w["key"]) for w in report["warnings"]}
    (zero,) = [w for w in report["warnings"] if w["key"].startswith("box_of_zero")]
    assert len(zero["items"]) == 7
    assert list(report["splits"]) == ["train", "val"]
    assert (tmp_path / "out" / "statistics.png").is_file()  # drawn although nothing is left of val


def test_what_cannot_be_checked_is_one_line(data, tmp_path, one_line_error):
    path = data / "annotations" / "train.json"
    path.write_text('{"images": [')
    assert f"annotation file {path} is not JSON" in one_line_error("check_dataset", CONFIG)
    (tmp_path / "file").touch()
    args = [CONFIG, "--split", "val", "--out-dir", tmp_path / "file" / "out"]
    assert "can't be written" in one_line_error("check_dataset", *args)
