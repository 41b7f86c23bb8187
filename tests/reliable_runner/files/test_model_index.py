"""The table of published models."""

from pathlib import Path

import mmdet
import pytest
import yaml

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.model_index import config_path, find_model, published_models, table


def test_every_config_is_there_and_every_address_is_mmdets():
    folder = Path(mmdet.__file__).parent / ".mim" / "configs"
    theirs = {
        row.get("Weights"): row["Results"][0].get("Metrics", {}).get("box AP")
        for name in ("deformable_detr", "detr", "dino")
        for row in yaml.safe_load((folder / name / "metafile.yml").read_text())["Models"]
    }
    theirs.pop(None)
    assert len(published_models()) == 13
    for model in published_models().values():
        assert config_path(model.name).is_file()
        if model.weights.startswith("hf://"):
            assert model.name == model.weights.removeprefix("hf://") and not model.sha256
        else:
            assert theirs.pop(model.weights) == model.box_ap
            assert model.weights.endswith(f"-{model.sha256}.pth") and len(model.sha256) == 8
        assert f"| {model.name} | {model.box_ap} |" in table()
    assert not theirs


def test_the_docs_show_it():
    assert table() in (Path(__file__).parents[3] / "docs" / "model_zoo.md").read_text()


def test_a_path_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ddetr_r50_50e").touch()
    assert config_path("ddetr_r50_50e") == Path("ddetr_r50_50e")
    assert config_path("mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py").is_file()


def test_an_unknown_name():
    with pytest.raises(InputError, match="did you mean 'ddetr_r50_50e_two_stage'"):
        find_model("ddetr_r50_twostage")
