"""Checkpoints and pickles from strangers: a result, or an error that a user can read; nothing runs."""

import builtins
import io
import math
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from projects.reliable_runner.files.checkpoint_file import read_checkpoint
from projects.reliable_runner.files.data_file import SafePickleHandler

from ..conftest import CONFIG
from .conftest import damaged

CASTS = [
    *(torch.Tensor.half, torch.Tensor.double, torch.Tensor.int, torch.Tensor.bool),
    lambda t: t.float() * math.nan,
    lambda t: t.float() * 1e38 * 1e38,
    lambda t: t[..., :1] if t.ndim else t[None],
    lambda t: t.new_zeros(0),
    lambda t: t.T,
    lambda t: torch.nn.Parameter(t.float()),
    lambda t: {"weight": t},
]


class Gadget:
    """Pickles as a call."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


def gadgets(canary: Path) -> list[Gadget]:
    """Calls that would make ``canary``, directly, through torch, or through what the reader allows."""
    code = f"open({str(canary)!r}, 'w')"
    touch = Gadget(os.system, f"touch {canary}")
    inner = io.BytesIO()
    torch.save({"x": touch}, inner)
    getter = Gadget(getattr, Path, "touch")
    return [
        touch,
        Gadget(eval, code),
        Gadget(exec, code),
        Gadget(open, str(canary), "w"),
        Gadget(subprocess.call, ["touch", str(canary)]),
        Gadget(builtins.__import__, "antigravity"),
        Gadget(Path.touch, canary),
        Gadget(Gadget, getter),
        Gadget(map, eval, [code]),
        Gadget(list, Gadget(map, eval, [code])),
        Gadget(pickle.loads, pickle.dumps(touch)),
        Gadget(torch.storage._load_from_bytes, inner.getvalue()),
        Gadget(torch.load, io.BytesIO, False),
        Gadget(torch.hub.load, str(canary.parent), "x"),
        Gadget(torch.jit.load, str(canary)),
        Gadget(torch.serialization.add_safe_globals, [os.system]),
    ]


@st.composite
def spoilt(draw, contents: dict, canary: Path) -> bytes:
    """A checkpoint with weights or parts dropped or changed, with calls in it, or with damaged bytes."""
    weights = dict(contents["state_dict"])
    contents = contents | {"state_dict": weights}
    for key in draw(st.lists(st.sampled_from(list(weights)), max_size=2, unique=True)):
        action = draw(st.sampled_from(["cast", "drop", "rename", "part", "run"]))
        value = weights.pop(key)
        if action == "cast":
            weights[key] = draw(st.sampled_from(CASTS))(value)
        elif action == "rename":
            weights[draw(st.sampled_from(["x", f"module.{key}"]))] = value
        elif action == "part":
            contents.pop(draw(st.sampled_from(list(contents))))
        elif action == "run":
            weights[key] = draw(st.sampled_from(gadgets(canary)))
    target = io.BytesIO()
    torch.save(contents, target)
    form = draw(st.sampled_from(["as it is"] * 3 + ["damaged", "damaged", "pickle"]))
    if form == "damaged":
        return draw(damaged(target.getvalue()))
    if form == "pickle":
        return pickle.dumps(draw(st.sampled_from(gadgets(canary))), draw(st.integers(0, 4)))
    return target.getvalue()


def test_reading(tmp_path, trained, fuzz, canary):
    path = tmp_path / "epoch_3.pth"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        read_checkpoint(path)
        return ""

    fuzz(spoilt(trained, canary), attempt, 30, 600)


@pytest.mark.parametrize("use", ["test", "resume", "load_from", "infer", "convert"])
def test_tools(tmp_path, data, tool, trained, fuzz, canary, use):
    path = tmp_path / "epoch_3.pth"
    image = data / "val" / "000001.png"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        return {
            "test": lambda: tool("test", path),
            "resume": lambda: tool("train", "--resume", path, options=["train_cfg.max_epochs=2"]),
            "load_from": lambda: tool("train", options=[f"load_from={path}"]),
            "infer": lambda: tool("infer", image, CONFIG, path, "--out-dir", tmp_path / "out"),
            "convert": lambda: tool("model_converters/convert", path, tmp_path / "o.pth", "--to", "official"),
        }[use]()

    fuzz(spoilt(trained, canary), attempt, 3, 30)


def test_pickled_predictions(tmp_path, fuzz, canary):
    path = tmp_path / "results.pkl"
    found = dict(bboxes=torch.rand(3, 4), scores=torch.rand(3), labels=torch.zeros(3, dtype=int))
    calls = st.sampled_from(gadgets(canary))
    results = st.builds(
        lambda call: [dict(img_id=1, img_path=call, pred_instances=found)], st.just("x.png") | calls
    )
    content = st.builds(pickle.dumps, results, st.sampled_from([2, 2, 2, 4]))

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        SafePickleHandler().load_from_path(str(path))
        return ""

    fuzz(content | content.flatmap(damaged), attempt, 40, 600)
