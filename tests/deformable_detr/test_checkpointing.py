"""Activation checkpointing gives the same losses, gradients and statistics to the bit."""

import socket

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .conftest import VARIANTS, batch, small_model

WHERE = {
    "backbone": {"backbone.with_cp": True},
    "encoder": {"encoder.num_cp": 2},
    "half of the encoder": {"encoder.num_cp": 1},
    "decoder": {"decoder.num_cp": 3},
    "everything": {"backbone.with_cp": True, "encoder.num_cp": 2, "decoder.num_cp": 3},
}
MODELS = {
    "base": VARIANTS["base"],
    "two_stage": VARIANTS["two_stage"],
    "bottlenecks": {"backbone.depth": 50, "neck.in_channels": [64, 128, 256]},
    "frozen": {"backbone.frozen_stages": 1, "backbone.norm_eval": True},
}
DROPOUT = {
    "encoder.layer_cfg.self_attn_cfg.dropout": 0.1,
    "encoder.layer_cfg.ffn_cfg.ffn_drop": 0.1,
    "decoder.layer_cfg.self_attn_cfg.dropout": 0.1,
    "decoder.layer_cfg.cross_attn_cfg.dropout": 0.1,
}


def learn(model: nn.Module, amp: bool) -> tuple[dict, int]:
    """Losses, gradients and buffers by name, and the bytes that forward leaves for backward."""
    storages = {}

    def pack(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    torch.manual_seed(2)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
        torch.autocast("cpu", torch.bfloat16, enabled=amp),
    ):
        losses = model.loss(*batch([2, 3], [(64, 64)] * 2))
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    result = {**losses, **gradients, **dict(model.named_buffers())}
    return result, sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize(
    ("where", "model", "amp"),
    [*((where, "base", False) for where in WHERE), *(("everything", model, True) for model in MODELS)],
)
def test_same_to_the_bit_with_less_memory(where, model, amp):
    plain, checkpointed = (
        small_model(**DROPOUT, **MODELS[model], **options).train() for options in ({}, WHERE[where])
    )
    torch.testing.assert_close(checkpointed.state_dict(), plain.state_dict(), rtol=0, atol=0)
    expected, plain_bytes = learn(plain, amp)
    result, checkpointed_bytes = learn(checkpointed, amp)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert checkpointed_bytes < plain_bytes


def learn_in_two(rank: int, port: int, path: str, options: dict) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    model = small_model(**DROPOUT, **options).train()
    inputs, samples = batch([2, 3], [(64, 64)] * 2)
    parallel = DistributedDataParallel(model, find_unused_parameters=False, broadcast_buffers=False)
    for _ in range(2):  # whatever is unused or used twice fails in the second step
        torch.manual_seed(rank)
        model.zero_grad()
        losses = parallel(inputs[rank : rank + 1], samples[rank : rank + 1], mode="loss")
        sum(losses.values()).backward()
    if rank == 0:
        torch.save({name: p.grad for name, p in model.named_parameters()}, path)
    del parallel  # with gloo it can wait for ever if it outlives the group
    torch.distributed.destroy_process_group()


def test_two_processes_agree(tmp_path):
    gradients = []
    for options in ({}, WHERE["everything"]):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path = tmp_path / f"{len(gradients)}.pth"
        args = port, str(path), {"bbox_head.sync_cls_avg_factor": True, **options}
        mp.start_processes(learn_in_two, args, 2, start_method="fork")
        gradients.append(torch.load(path))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
