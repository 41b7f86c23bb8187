"""The cost of attention, measured on images that take no time, and its formula against counted products."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from studies.complexity import attention_cost

REPO = Path(__file__).resolve().parents[2]


def test_measures_each_attention_at_each_size(tmp_path):
    out = tmp_path / "folder" / "cost.png"
    # In a process: the tool's own ones look its functions up by the name of its module.
    command = [
        sys.executable,
        REPO / "studies" / "cost.py",
        "--sides",
        "64",
        "128",
        "--rounds",
        "1",
        "--out",
        out,
    ]
    subprocess.run(command, check=True, cwd=REPO)
    with out.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = ("DETR", "DETR-DC5", "deformable, C3 to C6")
    assert [(row["attention"], row["side"]) for row in rows] == [(k, s) for k in kinds for s in ("64", "128")]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert Image.open(out).width > 800


@pytest.mark.parametrize("stride", [16, 32])
def test_multiply_adds_are_those_that_run(stride):
    attention = nn.MultiheadAttention(256, 8, batch_first=True).train()
    query = torch.zeros(1, {16: 5**2, 32: 3**2}[stride], 256)
    with FlopCounterMode(display=False) as counter:
        attention(query, query + 1, query)
    assert 2 * attention_cost(80, 80, (stride,), is_dense=True) == counter.get_total_flops()
