"""What is recorded is what the attention used, shown by computing its output from the record."""

import pytest
import torch

import ms_deform_attn
from projects.attention_viewer.record import find_attentions, on_padding, record_attention, token_centres
from projects.reliable_runner.errors import InputError


def run(model, batch):
    """The record, and inputs and output of each attention, taken apart from it."""
    calls = {}
    handles = []
    for stage in ("encoder", "decoder"):
        for layer, attention in enumerate(find_attentions(model, stage)):

            def keep(_, args, kwargs, output, key=(stage, layer)):
                calls[key] = args, kwargs, output

            handles.append(attention.register_forward_hook(keep, with_kwargs=True))
    with torch.no_grad(), record_attention(model) as record:
        outputs = model(*batch, mode="tensor")
    for handle in handles:
        handle.remove()
    return record, calls, outputs


@pytest.mark.parametrize("variant", ["base", "refine", "two_stage", "levelwise"])
def test_samples_give_the_output_of_deformable_attention(variant, build, padded_batch):
    model = build(variant)
    record, calls, outputs = run(model, padded_batch)
    assert len(calls) == 2
    for (stage, layer), (args, _, output) in calls.items():
        attention = find_attentions(model, stage)[layer]
        sampled = getattr(record, stage)[layer]
        *_, value, _, levels = args
        value = attention.value_proj(value)
        value = value.masked_fill(levels.padding_mask[..., None], 0).unflatten(-1, (4, 8))
        expected = ms_deform_attn.ms_deform_attn_reference(
            value,
            levels.shapes,
            levels.starts,
            sampled.locations * levels.valid_ratios[:, None, None, :, None],
            sampled.weights,
        )
        torch.testing.assert_close(output, attention.output_proj(expected), rtol=1e-4, atol=1e-5)
        sums = sampled.weights.sum((-1, -2))
        torch.testing.assert_close(sums, torch.ones_like(sums))
    with torch.no_grad():
        for ours, without in zip(outputs, model(*padded_batch, mode="tensor"), strict=True):
            assert torch.equal(ours, without)


def test_dense_weights_are_softmax_of_queries_and_keys(build, padded_batch):
    model = build("detr")
    inputs = {}
    for stage in ("encoder", "decoder"):
        for layer, attention in enumerate(find_attentions(model, stage)):

            def keep(_, args, kwargs, key=(stage, layer)):
                inputs[key] = kwargs

            attention.attn.register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad(), record_attention(model) as record:
        model(*padded_batch, mode="tensor")
    assert len(record.encoder) == len(record.decoder) == 2
    for (stage, layer), kwargs in inputs.items():
        attention = find_attentions(model, stage)[layer].attn
        dense = getattr(record, stage)[layer]
        weight, bias = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        query, key = (
            (kwargs[name].transpose(0, 1) @ weight[i].T + bias[i]).unflatten(-1, (4, 8))
            for i, name in enumerate(("query", "key"))
        )
        logits = torch.einsum("bqhc,bkhc->bqhk", query, key) / 8**0.5
        padding = kwargs["key_padding_mask"]
        logits = logits.masked_fill(padding[:, None, None], -torch.inf)
        torch.testing.assert_close(dense.weights, logits.softmax(-1), rtol=1e-4, atol=1e-6)
        assert padding.any() and dense.masks[0].shape == (2, 3, 4)
        assert torch.equal(on_padding(dense.masks), padding)


def test_cells_of_all_levels_cover_the_image(build, padded_batch):
    model = build("base")
    record, *_ = run(model, padded_batch)
    attention = record.encoder[0]
    centres, padding = token_centres(attention.masks), on_padding(attention.masks)
    torch.testing.assert_close(centres, attention.reference_points)
    # The second image is 4 x 2 cells of 16 pixels, then 2 x 1 of 32.
    inside = centres[1][~padding[1]]
    expected = [((x + 0.5) / 4, (y + 0.5) / 2) for y in range(2) for x in range(4)]
    expected += [((x + 0.5) / 2, 0.5) for x in range(2)]
    torch.testing.assert_close(inside, torch.tensor(expected))


def test_hooks_are_gone_afterwards(build, padded_batch):
    model = build("detr")
    run(model, padded_batch)
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_other_attention_is_refused(build):
    model = build("detr")
    model.decoder.layers[0].cross_attn = torch.nn.Identity()
    with pytest.raises(InputError, match="DETR, whose attention can't be recorded"):
        record_attention(model).__enter__()
    with pytest.raises(InputError, match="Linear"):
        record_attention(torch.nn.Linear(2, 2)).__enter__()
