"""Detectors timed in turn."""

from pathlib import Path

import pytest
import torch

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import init_detector
from tools.analysis_tools import benchmark

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def checkpoint(tmp_path, monkeypatch, shapes_root):
    """A checkpoint of random weights, with its config inside."""
    monkeypatch.setenv("SHAPES_ROOT", str(shapes_root))
    detector = init_detector(TESTS / "tiny_ddetr.py", device="cpu")
    path = tmp_path / "tiny.pth"
    torch.save(dict(meta=dict(cfg=detector.cfg.pretty_text), state_dict=detector.state_dict()), path)
    return str(path)


@pytest.mark.slow
def test_detectors_take_turns(checkpoint, tmp_path, capfd):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(Path(checkpoint).read_bytes())
    options = "--shape 64 96 --batch-sizes 2 --max-iter 3 --num-warmup 1 --threads 1 --device cpu"
    targets = [checkpoint, str(copy), str(TESTS / "tiny_dino.py")]
    benchmark.main([targets[0], "--against", *targets[1:], *options.split()])
    _, *lines = (line.split(" | ") for line in capfd.readouterr().out.splitlines() if " | " in line)
    assert [line[:2] for line in lines] == [[target, "2"] for target in targets]
    for line in lines:
        images_per_second, p50, p95, memory = map(float, line[2:6])
        assert images_per_second == pytest.approx(int(line[1]) / p50 * 1e3, rel=0.1) and p95 >= p50
        assert memory > 50
    differences = [float(line[-1]) for line in lines]
    assert differences[0] == differences[1] == 0 < differences[2]  # the same weights, and others
    assert lines[0][-2] == "1.00x"


def test_a_checkpoint_without_its_config_is_named(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / "bare.pth")
    with pytest.raises(InputError, match="bare.pth: it has no config inside"):
        benchmark.main([str(tmp_path / "bare.pth"), "--max-iter", "1"])
