"""The config key ``compile``."""

import pytest
import torch


@pytest.mark.slow
def test_one_graph_a_network_and_the_same_losses(tool, scalars, heir, tmp_path):
    config = heir("""
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(48, 48), keep_ratio=True),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
""")
    options = {"train_cfg.max_epochs": 1, "train_cfg.val_interval": 9, "randomness.seed": 0}
    options["default_hooks.logger.interval"] = 1
    tool("train", config, "--work-dir", tmp_path / "eager", **options)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    options |= {"compile.fullgraph": True, "compile.backend": "aot_eager"}
    tool("train", config, "--work-dir", tmp_path / "compiled", **options)
    # Four in training, four where the validation is rehearsed.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 8
    losses = [[line["loss"] for line in scalars(tmp_path / name, "loss")] for name in ("eager", "compiled")]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
