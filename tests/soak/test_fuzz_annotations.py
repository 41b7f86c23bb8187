"""Annotation files from strangers: a result, or an error that a user can read."""

import copy
import gzip
import json
import math

import pytest
from hypothesis import strategies as st

from projects.reliable_runner.data.coco_dataset import CocoDataset
from projects.reliable_runner.metric.coco_metric import CocoMetric

DEEP, DIGITS = "@deep@", "@digits@"  # what json.dumps can't write
JUNK = [
    *(None, True, 0, -1, 10**9, 10**30, 10**400, DIGITS),
    *(0.5, -0.0, 1e308, 5e-324, math.nan, math.inf, -math.inf),
    *("", "x", "\0", "\ud800", "\u202e\N{PILE OF POO}", "a" * 5000, "1", "circle"),
    *("../../../etc/passwd", "/etc/passwd", "/dev/zero", ".", "/", "~", "no://such/place.png"),
    *([], {}, [[]], [1, 2], [1, 2, 3, 4], [-5, -5, 1e9, 1e9], [[1.0] * 6], {"id": 1}, DEEP),
    {"size": [10**6, 10**6], "counts": "0" * 50},
]


def paths(node: object, prefix: tuple = ()) -> list[tuple]:
    """The way to every value in nested lists and dicts."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    items = items if isinstance(node, (dict, list)) else ()
    return [
        path
        for key, value in items
        for path in (
            (*prefix, key),
            *paths(value if isinstance(value, (dict, list)) else [], (*prefix, key)),
        )
    ]


@st.composite
def spoilt(draw, coco: dict) -> bytes:
    """The file with some of its values dropped, doubled or replaced, or its bytes damaged."""
    coco = copy.deepcopy(coco)
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(paths(coco) or [("images",)]))
        node = coco
        for key in path[:-1]:
            node = node[key]
        action = draw(st.sampled_from(["drop", "double", "junk", "junk", "nudge", "nudge", "key"]))
        number = isinstance(node, (dict, list)) and node and isinstance(node[path[-1]], int)
        if action == "nudge" and number:
            node[path[-1]] *= draw(st.sampled_from([0, -1, 0.5, 2, 100, 1e6]))
        elif action == "junk" or not node:
            node[path[-1]] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        elif action == "drop":
            del node[path[-1]]
        elif action == "double" and isinstance(node, list):
            node.append(copy.deepcopy(node[path[-1]]))
        elif isinstance(node, dict):
            node[draw(st.sampled_from(["ignore", "iscrowd", "segmentation", "caption"]))] = draw(
                st.sampled_from(JUNK)
            )
    text = json.dumps(coco).replace(f'"{DEEP}"', "[" * 10**5 + "]" * 10**5)
    content = text.replace(f'"{DIGITS}"', "9" * 5000).encode()
    damage = draw(st.sampled_from(["none"] * 20 + ["cut", "flip", "utf16", "bom", "gzip", "any"]))
    if damage == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif damage == "flip":
        content = bytearray(content)
        for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
            content[place] ^= 1 << draw(st.integers(0, 7))
    elif damage == "utf16":
        content = text.encode("utf-16")
    elif damage == "bom":
        content = b"\xef\xbb\xbf" + content
    elif damage == "gzip":
        content = gzip.compress(content)
    elif damage == "any":
        content = draw(st.binary(max_size=200))
    return bytes(content)


@pytest.mark.parametrize("examples", [40, pytest.param(800, marks=pytest.mark.soak)], ids=["quick", "soak"])
def test_data_set_and_metric(data, fuzz, examples):
    path = data / "annotations" / "train.json"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        for test_mode in (False, True):
            dataset = CocoDataset(
                ann_file=str(path),
                data_prefix=dict(img=str(data / "train")),
                metainfo=dict(classes=("circle", "square", "triangle")),
                test_mode=test_mode,
                pipeline=[dict(type="mmdet.LoadAnnotations", with_bbox=True)],
            )
            for index in range(len(dataset)):
                dataset[index]
        CocoMetric(ann_file=str(path))
        return ""

    fuzz(spoilt(json.loads(path.read_text())), attempt, examples)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("examples", [2, pytest.param(30, marks=pytest.mark.soak)], ids=["quick", "soak"])
def test_train(data, tool, fuzz, split, examples):
    path = data / "annotations" / f"{split}.json"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        return tool("train")

    fuzz(spoilt(json.loads(path.read_text())), attempt, examples)
