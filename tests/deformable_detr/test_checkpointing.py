"""Layers that are computed again give the same losses, gradients and statistics to the bit."""

import copy
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from projects.deformable_detr.registry import MODELS

BASE = Path(__file__).parents[2] / "configs" / "_base_" / "models" / "ddetr_r18_small.py"
WHERE = {
    "backbone": {"backbone.with_cp": True},
    "encoder": {"encoder.num_cp": 2},
    "half of the encoder": {"encoder.num_cp": 1},
    "decoder": {"decoder.num_cp": 3},
    "everything": {"backbone.with_cp": True, "encoder.num_cp": 2, "decoder.num_cp": 3},
}
VARIANTS = {
    "base": dict(with_box_refine=False, as_two_stage=False),
    "two_stage": dict(with_box_refine=True, as_two_stage=True),
    "bottlenecks": {"backbone.depth": 50, "neck.in_channels": [64, 128, 256]},
    "frozen": {"backbone.frozen_stages": 1, "backbone.norm_eval": True},
}


def build(**options) -> nn.Module:
    init_default_scope("projects.deformable_detr")
    cfg = Config.fromfile(BASE)
    small = {"backbone.base_channels": 8, "neck.in_channels": [16, 32, 64]}
    dropout = {
        "encoder.layer_cfg.self_attn_cfg.dropout": 0.1,
        "encoder.layer_cfg.ffn_cfg.ffn_drop": 0.1,
        "decoder.layer_cfg.self_attn_cfg.dropout": 0.1,
        "decoder.layer_cfg.cross_attn_cfg.dropout": 0.1,
    }
    options = {**small, **dropout, "bbox_head.num_classes": 3, **options}
    cfg.merge_from_dict({f"model.{key}": value for key, value in options.items()})
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train()


def batch(size: int = 64) -> tuple:
    torch.manual_seed(1)
    samples = []
    for n in (2, 3):
        corners = torch.rand(n, 2, 2).sort(1).values.flatten(1) * size
        objects = InstanceData(bboxes=corners, labels=torch.randint(3, (n,)))
        meta = dict(img_shape=(size, size), batch_input_shape=(size, size))
        samples.append(DetDataSample(metainfo=meta, gt_instances=objects))
    return torch.randn(2, 3, size, size), samples


def learn(model: nn.Module, amp: bool) -> tuple[dict, int]:
    """Losses, gradients and buffers by name, and the bytes that forward leaves for backward."""
    data = batch()
    storages = {}

    def pack(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    torch.manual_seed(2)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
        torch.autocast("cpu", torch.bfloat16, enabled=amp),
    ):
        losses = model.loss(*data)
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(grad is not None for grad in gradients.values())
    result = {**losses, **gradients, **dict(model.named_buffers())}
    return result, sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize(
    ("where", "variant", "amp"),
    [
        *((where, "base", False) for where in WHERE),
        *(("everything", variant, True) for variant in VARIANTS),
    ],
)
def test_same_to_the_bit_with_less_memory(where, variant, amp):
    expected, plain_bytes = learn(build(**VARIANTS[variant]), amp)
    result, recomputed_bytes = learn(build(**VARIANTS[variant], **WHERE[where]), amp)
    assert expected.keys() == result.keys()
    assert [name for name in expected if not torch.equal(expected[name], result[name])] == []
    assert recomputed_bytes < plain_bytes


def test_names_and_first_weights_are_the_same():
    plain, recomputed = build(), build(**WHERE["everything"])
    assert plain.state_dict().keys() == recomputed.state_dict().keys()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(a, b)


def _learn_in_two(rank: int, port: int, options: dict, results: dict) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    model = build(**options)
    inputs, samples = batch()
    parallel = DistributedDataParallel(model, find_unused_parameters=False, broadcast_buffers=False)
    for _ in range(2):  # whatever is unused or used twice fails in the second step
        torch.manual_seed(rank)
        model.zero_grad()
        losses = parallel(inputs[rank : rank + 1], samples[rank : rank + 1], mode="loss")
        sum(losses.values()).backward()
    if rank == 0:
        results.update({name: p.grad.clone() for name, p in model.named_parameters()})
    del parallel  # with gloo it can wait for ever if it outlives the group
    torch.distributed.destroy_process_group()


def test_two_processes_agree():
    gradients = []
    for options in ({}, WHERE["everything"]):
        options = {**options, "bbox_head.sync_cls_avg_factor": True}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with mp.Manager() as manager:
            results = manager.dict()
            mp.start_processes(_learn_in_two, (port, options, results), 2, start_method="fork")
            gradients.append(copy.deepcopy(dict(results)))
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
