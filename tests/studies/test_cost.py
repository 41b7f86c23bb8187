"""The cost of attention, measured on images that take no time, and its formula against counted products."""

import csv
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from studies import cost


@pytest.mark.slow
def test_measures_each_attention_at_each_size(tmp_path, monkeypatch):
    out = tmp_path / "folder" / "cost.png"
    # All in one process: the tool's own, one a measurement, would import torch again and again.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        monkeypatch.setattr(cost, "in_own_process", lambda run, *args: pool.submit(run, *args).result())
        cost.main(["--sides", "64", "128", "--rounds", "1", "--out", str(out)])
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
    assert 2 * cost.attention_cost(80, 80, (stride,), is_dense=True) == counter.get_total_flops()
