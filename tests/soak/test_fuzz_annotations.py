"""Annotation files from strangers: a result, or an error that a user can read."""

import copy
import gzip
import json
import math

import pytest
from hypothesis import strategies as st

from projects.reliable_runner.data.coco_dataset import CocoDataset
from projects.reliable_runner.metric.coco_metric import CocoMetric

from .conftest import damaged

DEEP, DIGITS = "@deep@", "@digits@"  # what json.dumps can't write
JUNK = [
    *(None, True, 0, -1, 10**9, 10**30, 10**400, DIGITS),
    *(0.5, -0.0, 1e308, 5e-324, math.nan, math.inf, -math.inf),
    *("", "x", "\0", "\ud800", "\u202e\N{PILE OF POO}", "a" * 5000, "1", "circle"),
    *("../../../etc/passwd", "/etc/passwd", "/dev/zero", ".", "/", "~", "no://such/place.png"),
    *([], {}, [[]], [1, 2], [1, 2, 3, 4], [-5, -5, 1e9, 1e9], [[1.0] * 6], {"id": 1}, DEEP),
    {"size": [10**6, 10**6], "counts": "0" * 50},
]


def places(node: object) -> list[tuple]:
    """Every list or dict inside ``node``, with each of its keys."""
    items = list(
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    )
    return [(node, key) for key, _ in items] + [place for _, child in items for place in places(child)]


@st.composite
def spoilt(draw, coco: dict) -> bytes:
    """The file with some of its values dropped, doubled or replaced, or its bytes damaged."""
    coco = copy.deepcopy(coco)
    for _ in range(draw(st.integers(0, 2))):
        node, key = draw(st.sampled_from(places(coco) or [(coco, "images")]))
        action = draw(st.sampled_from(["drop", "double", "junk", "junk", "nudge", "nudge", "key"]))
        if action == "nudge" and isinstance(node.get(key) if isinstance(node, dict) else node[key], int):
            node[key] *= draw(st.sampled_from([0, -1, 0.5, 2, 100, 1e6]))
        elif action == "drop" and node:
            del node[key]
        elif action == "double" and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif action == "key" and isinstance(node, dict):
            added = draw(st.sampled_from(["ignore", "iscrowd", "segmentation", "caption"]))
            node[added] = draw(st.sampled_from(JUNK))
        else:
            node[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
    text = json.dumps(coco).replace(f'"{DEEP}"', "[" * 10**5 + "]" * 10**5)
    content = text.replace(f'"{DIGITS}"', "9" * 5000).encode()
    damage = draw(st.sampled_from(["none"] * 20 + ["utf16", "bom", "gzip", *["bytes"] * 3]))
    if damage == "bytes":
        return draw(damaged(content))
    return dict(utf16=text.encode("utf-16"), bom=b"\xef\xbb\xbf" + content, gzip=gzip.compress(content)).get(
        damage, content
    )


def test_data_set_and_metric(data, fuzz):
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

    fuzz(spoilt(json.loads(path.read_text())), attempt, 40, 800)


@pytest.mark.parametrize("split", ["train", "val"])
def test_train(data, tool, fuzz, split):
    path = data / "annotations" / f"{split}.json"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        return tool("train")

    fuzz(spoilt(json.loads(path.read_text())), attempt, 2, 30)
