"""Activation checkpointing gives the same losses, gradients and statistics to the bit."""

import pytest
import torch
from torch import nn

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
    "dino": VARIANTS["dino"],
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
