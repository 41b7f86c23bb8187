import os
import pickle
import re
import zipfile
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import _load_checkpoint

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.checkpoint_file import read_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """What mmengine's Runner saves, in small."""
    history = HistoryBuffer()
    history.update(1.5, 2)
    history.update(np.float64(0.5))
    contents = dict(
        meta=dict(epoch=4, seed=0),
        state_dict={"weight": torch.arange(2000.0)},
        message_hub=dict(log_scalars={"train/loss": history}, runtime_info={"AP": np.float64(0.25)}),
        optimizer=dict(state={0: {"step": torch.tensor(3.0)}}, param_groups=[{"lr": 0.1}]),
    )
    torch.save(contents, tmp_path / "epoch_4.pth")
    return tmp_path / "epoch_4.pth"


def test_reads_what_the_runner_saves(checkpoint):
    allowed_before = set(torch.serialization.get_safe_globals())
    read = _load_checkpoint(str(checkpoint), map_location="cpu")

    assert torch.equal(read["state_dict"]["weight"], torch.arange(2000.0))
    history = read["message_hub"]["log_scalars"]["train/loss"]
    assert isinstance(history, HistoryBuffer)
    assert history.statistics("mean", 2) == (1.5 + 0.5) / (2 + 1)
    assert read["message_hub"]["runtime_info"]["AP"] == 0.25
    assert set(torch.serialization.get_safe_globals()) == allowed_before


@pytest.mark.parametrize("core", ["core", "_core"])
def test_reads_what_another_numpy_has_saved(checkpoint, tmp_path, core):
    other = tmp_path / "other.pth"
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(other, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                data = re.sub(rb"numpy\._?core\.", f"numpy.{core}.".encode(), data)
            target.writestr(entry.filename, data)

    history = read_checkpoint(other)["message_hub"]["log_scalars"]["train/loss"]
    assert history.current() == 0.5


def test_reads_bare_weights(tmp_path):
    for legacy in (True, False):
        path = tmp_path / f"{legacy}.pth"
        torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=not legacy)
        assert torch.equal(read_checkpoint(path)["w"], torch.ones(3))


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 100, 3000, -100, -1])
def test_refuses_a_torn_file(checkpoint, kept):
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    with pytest.raises(InputError, match=f"{checkpoint}: the checkpoint is cut short"):
        read_checkpoint(checkpoint)


def damaged(path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.ones(2000)}}, path)
    data = bytearray(path.read_bytes())
    data[100:200] = bytes(100)
    path.write_bytes(data)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")


OFFICIAL = {"transformer.encoder.layers.0.self_attn.sampling_offsets.weight": torch.ones(2)}
SAVED = "weights alone: torch.save("


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda path: None, ["no such checkpoint file"]),
        (damaged, ["the checkpoint is damaged"]),
        (archive, ["torch.save did not write it"]),
        (lambda path: path.write_bytes(os.urandom(64)), ["torch.save did not write it"]),
        (lambda path: path.write_text("<html>404</html>"), ["a text that begins with '<html>404"]),
        (lambda path: path.write_bytes(b"\x09" + bytes(7) + b"{}"), ["the safetensors file can't be read"]),
        (partial(torch.save, [1, 2]), ["no 'state_dict'", "it holds a list", SAVED]),
        (partial(torch.save, {"net": {"w": torch.ones(1)}, "epoch": 3}), ["'net', 'epoch'", SAVED]),
        (partial(torch.save, {"model": OFFICIAL}), ["read as official", "weights that are missing"]),
    ],
)
def test_refuses_what_is_no_checkpoint(tmp_path, write, named):
    path = tmp_path / "file.pth"
    write(path)
    with pytest.raises(InputError, match=f"^{path}: ") as error:
        read_checkpoint(path)
    for part in named:
        assert part.format(path) in str(error.value)


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
@pytest.mark.parametrize(
    ("foreign", "refused"),
    [
        (partial(Calls, os.system), "posix.system"),
        (lambda _: Decimal(1), "decimal.Decimal"),
        (lambda _: Calls(getattr, Calls(getattr, HistoryBuffer, "min"), "__globals__"), "getattr"),
    ],
)
def test_runs_nothing_of_a_foreign_file(tmp_path, save, foreign, refused):
    path, trace = tmp_path / "foreign.pth", tmp_path / "trace"
    save({"state_dict": {}, "extra": foreign(f"touch {trace}")}, path)
    for read in read_checkpoint, _load_checkpoint:  # the latter is what a Runner calls
        with pytest.raises(InputError, match=str(path)) as info:
            read(str(path))
        assert save is not torch.save or f"asks for {refused}" in str(info.value)
    assert not trace.exists()


def test_leaves_the_statistics_of_images_out(tmp_path):
    """Published files of mmdet hold them, and its models of today have no such weights."""
    path = tmp_path / "published.pth"
    weights = {"w": torch.ones(3), "data_preprocessor.mean": torch.ones(3, 1, 1)}
    for contents in (weights, {"state_dict": weights}):
        torch.save(contents, path)
        read = read_checkpoint(path)
        assert list(read.get("state_dict", read)) == ["w"]


def test_runs_no_config_of_a_foreign_file(tmp_path):
    torch.save({"state_dict": {}, "meta": {"config": "1 / 0", "cfg": "a = 1"}}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["meta"] == {"cfg": "a = 1"}
