import os
import pickle
import re
import threading
import zipfile
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import _load_checkpoint

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files import pretrained
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
        (lambda path: path.write_bytes(b"\x02" + bytes(7) + b"{}"), ["file of safetensors"]),
        (partial(torch.save, [1, 2]), ["no 'state_dict'", "it holds a list", SAVED]),
        (partial(torch.save, {"net": {"w": torch.ones(1)}, "epoch": 3}), ["'net', 'epoch'", SAVED]),
        (partial(torch.save, {"model": OFFICIAL}), ["official code", *OFFICIAL, "convert.py {} OUT.pth"]),
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
        (lambda command: Calls(eval, f"__import__('os').system({command!r})"), "eval"),
        (lambda _: Calls(getattr, HistoryBuffer, "__init__"), "getattr"),
        (lambda _: Calls(getattr, Calls(getattr, HistoryBuffer, "min"), "__globals__"), "getattr"),
    ],
)
def test_runs_nothing_of_a_foreign_file(tmp_path, save, foreign, refused):
    path, trace = tmp_path / "foreign.pth", tmp_path / "trace"
    save({"state_dict": {}, "extra": foreign(f"touch {trace}")}, path)
    with pytest.raises(InputError) as info:
        read_checkpoint(path)
    assert str(path) in str(info.value)
    if save is torch.save:
        assert f"asks for {refused}" in str(info.value)
    assert not trace.exists()


def test_leaves_the_statistics_of_images_out(tmp_path):
    """Published files of mmdet hold them, and its models of today have no such weights."""
    path = tmp_path / "published.pth"
    weights = {"w": torch.ones(3), "data_preprocessor.mean": torch.ones(3, 1, 1)}
    for contents in (weights, {"state_dict": weights}):
        torch.save(contents, path)
        read = read_checkpoint(path)
        assert list(read.get("state_dict", read)) == ["w"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a web server on the files of ``tmp_path/web``, with an empty download folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "web").mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "web")) as httpd:
        threading.Thread(target=partial(httpd.serve_forever, 0.01), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_downloads_once(tmp_path, server):
    torch.save({"w": torch.ones(3)}, tmp_path / "web" / "weights.pth")
    for _ in range(2):
        assert _load_checkpoint(f"{server}/weights.pth", map_location="cpu")["w"].sum() == 3
        (tmp_path / "web" / "weights.pth").unlink(missing_ok=True)


def test_a_download_is_read_safely(tmp_path, server):
    torch.save({"state_dict": Calls(os.system, "true")}, tmp_path / "web" / "foreign.pth")
    with pytest.raises(InputError, match="posix.system"):
        _load_checkpoint(f"{server}/foreign.pth", map_location="cpu")


def test_says_what_a_failed_download_was_for(server):
    with pytest.raises(InputError, match=f"{server}/nothing.pth: the download failed .*404.*init_cfg"):
        _load_checkpoint(f"{server}/nothing.pth", map_location="cpu")


def test_torchvision_weights_need_no_torchvision(tmp_path, server, monkeypatch):
    torch.save({"w": torch.ones(3)}, tmp_path / "web" / "resnet50-0676ba61.pth")
    table = {"resnet50": f"{server}/resnet50-0676ba61.pth"}
    monkeypatch.setattr(pretrained.mmengine, "load", lambda path: table)

    with pytest.raises(InputError, match="the download failed .*hash"):
        _load_checkpoint("torchvision://resnet50", map_location="cpu")
    monkeypatch.undo()
    with pytest.raises(InputError, match="resnet5: .*did you mean 'resnet50'"):
        _load_checkpoint("torchvision://resnet5", map_location="cpu")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    downloads = tmp_path / "home" / "hub" / "checkpoints"
    torch.save({"w": torch.ones(3)}, downloads / "resnet50-0676ba61.pth")
    assert _load_checkpoint("torchvision://resnet50", map_location="cpu")["w"].sum() == 3


def test_runs_no_config_of_a_foreign_file(tmp_path):
    torch.save({"state_dict": {}, "meta": {"config": "1 / 0", "cfg": "a = 1"}}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["meta"] == {"cfg": "a = 1"}


@pytest.mark.parametrize("scheme", ["s3", "petrel", "cluster:s3", "pavi", "mmcls"])
def test_stores_whose_files_would_be_read_unchecked_are_refused(scheme):
    with pytest.raises(InputError, match="fetch the checkpoint from there, and name the local"):
        _load_checkpoint(f"{scheme}://bucket/a.pth", map_location="cpu")


def test_openmmlabs_names_are_read_as_local_files_are(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / "resnet50_caffe-788b5fa3.pth"
    torch.save({"w": torch.ones(3)}, cached)
    name = "open-mmlab://detectron/resnet50_caffe"
    monkeypatch.setattr(pretrained, "_published", lambda *_: f"https://x.org/{cached.name}")
    assert _load_checkpoint(name, map_location="cpu")["w"].sum() == 3
    torch.save({"w": Decimal(1)}, cached)
    with pytest.raises(InputError, match="the file asks for decimal.Decimal"):
        _load_checkpoint(name, map_location="cpu")
    monkeypatch.undo()
    with pytest.raises(InputError, match="no weights of this name"):
        _load_checkpoint("openmmlab://resnet5", map_location="cpu")
