"""Checkpoints and pickles from strangers: a result, or an error that a user can read; nothing runs."""

import builtins
import copy
import io
import math
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from projects.reliable_runner.files.checkpoint_file import read_checkpoint
from projects.reliable_runner.files.data_file import SafePickleHandler

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"
JUNK = [
    *(None, True, -1, 0, 10**9, 10**30, 0.5, math.nan, math.inf, "", "x", b"\0\1", "../../x"),
    *([], {}, (), [1], {"a": 1}, {1: 2}, {None: 3}, [[[]]], OrderedDict(a=torch.ones(2))),
    *(torch.zeros(()), torch.ones(3), torch.zeros(0), torch.ones(2, 2, dtype=torch.complex64)),
    *(torch.ones(3, dtype=torch.int8), torch.full((3,), math.nan), torch.eye(3).to_sparse()),
    *(torch.ones(4).bool(), torch.ones(2).half(), torch.Size([2, 3]), torch.float32),
    torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
]
CASTS = [
    *(torch.Tensor.half, torch.Tensor.double, torch.Tensor.int, torch.Tensor.bool),
    lambda t: t.to(torch.complex64),
    lambda t: t.to_sparse() if t.ndim else t,
    lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    lambda t: t.float() * math.nan,
    lambda t: t.float() * 1e38 * 1e38,
    lambda t: t[..., :1] if t.ndim else t[None],
    lambda t: t.new_zeros(0),
    lambda t: t.T,
    lambda t: torch.nn.Parameter(t.float()),
]


class Gadget:
    """Pickles as a call."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call

    def __deepcopy__(self, _) -> "Gadget":
        return self  # copying would call it


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


def paths(node: object, prefix: tuple = ()) -> list[tuple]:
    """The way to every value in nested dicts and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, value in items:
        found.append((*prefix, key))
        if isinstance(value, (dict, list)):
            found += paths(value, (*prefix, key))
    return found


def dumped(contents: object) -> bytes:
    target = io.BytesIO()
    torch.save(contents, target)
    return target.getvalue()


def rezipped(content: bytes, draw) -> bytes:
    """The archive with members left out, added, doubled or cut."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as archive:
        for entry in source.namelist():
            fate = draw(st.sampled_from(["keep"] * 60 + ["drop", "cut", "swap"]))
            data = source.read(entry)
            if fate == "swap":
                data = b"\x80\x02}." if entry.endswith("pkl") else data[::-1]
            if fate != "drop":
                archive.writestr(entry, data[: len(data) // 2] if fate == "cut" else data)
        if draw(st.booleans()):
            archive.writestr(draw(st.sampled_from(["../../x", "archive/code/x.py", "constants.pkl"])), b"x")
    return target.getvalue()


@st.composite
def spoilt(draw, contents: dict, canary: Path) -> bytes:
    """A checkpoint with values dropped or replaced, with calls in it, or with damaged bytes."""
    contents = copy.copy(contents)
    for _ in range(draw(st.integers(0, 2))):
        # A part, then a place in it: the weights are many, and would be most of all places.
        top = draw(st.sampled_from(list(contents) or ["state_dict"]))
        below = paths(contents[top]) if isinstance(contents.get(top), (dict, list)) else []
        if not below or draw(st.integers(0, 3)) == 0:
            node, key = contents, top
        else:
            contents[top] = copy.deepcopy(contents[top])
            *way, key = draw(st.sampled_from(below))
            node = contents[top]
            for step in way:
                node = node[step]
        action = draw(st.sampled_from(["junk", "junk", "drop", "cast", "rename", "run"]))
        if action == "run":
            node[key] = draw(st.sampled_from(gadgets(canary)))
        elif action == "cast" and isinstance(node.get(key) if isinstance(node, dict) else None, torch.Tensor):
            node[key] = draw(st.sampled_from(CASTS))(node[key])
        elif action == "drop":
            del node[key]
        elif action == "rename" and isinstance(node, dict):
            node[draw(st.sampled_from(["x", 3, None, f"module.{key}"]))] = node.pop(key)
        else:
            node[key] = draw(st.sampled_from(JUNK))
    content = dumped(contents if draw(st.integers(0, 9)) else draw(st.sampled_from(JUNK)))
    damage = draw(st.sampled_from(["none"] * 9 + ["cut", "flip", "zip", "pickle", "any"]))
    if damage == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif damage == "flip":
        content = bytearray(content)
        for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20)):
            content[place] ^= 1 << draw(st.integers(0, 7))
    elif damage == "zip":
        content = rezipped(content, draw)
    elif damage == "pickle":
        content = pickle.dumps(draw(st.sampled_from(gadgets(canary))), draw(st.integers(0, 4)))
    elif damage == "any":
        content = draw(st.binary(max_size=200))
    return bytes(content)


@pytest.mark.parametrize("examples", [40, pytest.param(600, marks=pytest.mark.soak)], ids=["quick", "soak"])
def test_reading(tmp_path, trained, fuzz, canary, examples):
    path = tmp_path / "epoch_3.pth"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        read_checkpoint(path)
        return ""

    fuzz(spoilt(trained, canary), attempt, examples)


@pytest.mark.parametrize("examples", [3, pytest.param(30, marks=pytest.mark.soak)], ids=["quick", "soak"])
@pytest.mark.parametrize("use", ["test", "resume", "load_from", "infer", "convert"])
def test_tools(tmp_path, data, tool, trained, fuzz, canary, examples, use):
    path = tmp_path / "epoch_3.pth"
    image = data / "val" / "000001.png"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        refused = {
            "test": lambda: tool("test", path),
            "resume": lambda: tool("train", "--resume", path, options=["train_cfg.max_epochs=2"]),
            "load_from": lambda: tool("train", options=[f"load_from={path}"]),
            "infer": lambda: tool("infer", image, CONFIG, path, "--out-dir", tmp_path / "out"),
            "convert": lambda: tool("convert", path, tmp_path / "o.pth", "--to", "official"),
        }[use]()
        return refused

    fuzz(spoilt(trained, canary), attempt, examples)


@pytest.mark.parametrize("examples", [40, pytest.param(600, marks=pytest.mark.soak)], ids=["quick", "soak"])
def test_pickled_predictions(tmp_path, fuzz, canary, examples):
    path = tmp_path / "results.pkl"
    found = dict(bboxes=torch.rand(3, 4), scores=torch.rand(3), labels=torch.zeros(3, dtype=int))
    results = dict(results=[dict(img_id=1, img_path="x.png", pred_instances=found)])

    @st.composite
    def case(draw) -> bytes:
        contents = copy.deepcopy(results)
        for way in draw(st.lists(st.sampled_from(paths(results)), max_size=2)):
            node = contents
            try:
                for step in way[:-1]:
                    node = node[step]
                node[way[-1]] = draw(st.sampled_from([*JUNK[:20], *gadgets(canary)]))
            except (KeyError, IndexError, TypeError):
                continue
        content = pickle.dumps(contents["results"], draw(st.sampled_from([2, 2, 2, 4])))
        return content[: draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        SafePickleHandler().load_from_path(str(path))
        return ""

    fuzz(case(), attempt, examples)
