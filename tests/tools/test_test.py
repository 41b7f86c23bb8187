import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"

pytestmark = pytest.mark.usefixtures("small_run")


def test_prints_the_table_and_saves_predictions_and_pictures(tool, tmp_path, checkpoint, capfd):
    out = tmp_path / "out" / "results.pkl"
    tool("test", CONFIG, checkpoint, "--out", out, "--show-dir", "pictures", "--work-dir", tmp_path)

    assert "Average Precision" in capfd.readouterr().out
    results = pickle.loads(out.read_bytes())
    assert len(results) == 4
    assert set(results[0]["pred_instances"]) == {"bboxes", "labels", "scores"}
    assert results[0]["pred_instances"]["bboxes"].shape == (10, 4)
    assert len(list(tmp_path.glob("*/pictures/*.png"))) == 4


@pytest.mark.slow
def test_tests_in_two_processes(tmp_path, checkpoint, run_script):
    script, out = REPO / "tools" / "dist_test.sh", tmp_path / "results.pkl"
    printed = run_script(script, CONFIG, checkpoint, "2", "--out", out)
    assert "Epoch(test) [2/2]" in printed  # two processes share the four images
    assert sorted(result["img_id"] for result in pickle.loads(out.read_bytes())) == [1, 2, 3, 4]


def test_refuses_a_torn_checkpoint(tmp_path, checkpoint, one_line_error):
    torn = tmp_path / "epoch_2.pth"
    torn.write_bytes(checkpoint.read_bytes()[:-1000])
    error = one_line_error("test", CONFIG, torn, "--work-dir", tmp_path)
    assert f"{torn}: the checkpoint is cut short" in error


@pytest.mark.parametrize("spoil", ["image", "weights"])
def test_names_the_image_of_a_mistake(spoil, tmp_path, checkpoint, data, one_line_error):
    image, contents = data / "val" / "000001.png", torch.load(checkpoint)
    if spoil == "image":
        image.write_bytes(image.read_bytes()[:-500])
    else:
        contents["state_dict"]["decoder.layers.0.norms.2.bias"].fill_(math.nan)
        torch.save(contents, checkpoint)
    error = one_line_error("test", CONFIG, checkpoint, "--work-dir", tmp_path)
    assert f"image {image}" in error
    assert {"image": "is cut short", "weights": "non-finite predictions"}[spoil] in error


def test_refuses_another_file_type_for_predictions(tmp_path, checkpoint, one_line_error):
    error = one_line_error("test", CONFIG, checkpoint, "--out", "results.json")
    assert "--out results.json: " in error


def test_refuses_to_draw_without_the_hook(tmp_path, checkpoint, heir, one_line_error):
    config = heir("default_hooks = dict(visualization=None)")
    args = [config, checkpoint, "--show-dir", "pictures", "--work-dir", tmp_path]
    assert "default_hooks.visualization" in one_line_error("test", *args)


def test_compiles_the_networks(tool, tmp_path, checkpoint, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append((self, options)))
    tool("test", CONFIG, checkpoint, "--work-dir", tmp_path, "--compile")
    assert [type(network).__name__ for network, _ in compiled] == [
        "ResNet",
        "ChannelMapper",
        "DeformableDetrTransformerEncoder",
        "DeformableDetrTransformerDecoder",
    ]
    assert all(options == dict(options=dict(freezing=True)) for _, options in compiled)
