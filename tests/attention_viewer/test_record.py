"""What is recorded is what the attention used, shown by computing its output from the record."""

import pytest
import torch

import ms_deform_attn
from projects.attention_viewer.record import find_attentions, record_attention
from projects.reliable_runner.errors import InputError


def run(model, batch, part=lambda attention: attention):
    """The record; calls of a part of each attention, taken apart from it; and the outputs of the model."""
    calls, handles = [], []
    for stage in ("encoder", "decoder"):
        for layer, attention in enumerate(find_attentions(model, stage)):

            def keep(module, *call, place=(stage, layer)):
                calls.append((place, module, *call))

            handles.append(part(attention).register_forward_hook(keep, with_kwargs=True))
    with torch.no_grad(), record_attention(model) as record:
        outputs = model(*batch, mode="tensor")
    for handle in handles:
        handle.remove()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return record, calls, outputs


@pytest.mark.parametrize("variant", ["base", "two_stage", "levelwise"])
def test_samples_give_the_output_of_deformable_attention(variant, build, padded_batch):
    model = build(variant)
    record, calls, outputs = run(model, padded_batch)
    assert len(calls) == 2
    for (stage, layer), attention, (*_, value, _, levels), _, output in calls:
        sampled = record[stage][layer]
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
    record, calls, _ = run(build("detr"), padded_batch, lambda attention: attention.attn)
    assert len(record["encoder"]) == len(record["decoder"]) == 2
    for (stage, layer), attention, _, kwargs, _ in calls:
        dense = record[stage][layer]
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
        assert torch.equal(dense.padding, padding)


@pytest.mark.parametrize(("variant", "rows"), [("base", [(4, 2), (2, 1)]), ("detr", [(2, 1)])])
def test_tokens_of_all_levels_cover_the_image(variant, rows, build, padded_batch):
    """The second image is 4 x 2 tokens of 16 pixels, then 2 x 1 of 32."""
    record, *_ = run(build(variant), padded_batch)
    attention = record["encoder"][0]
    inside = attention.reference_points[1][~attention.padding[1]]
    expected = [((x + 0.5) / w, (y + 0.5) / h) for w, h in rows for y in range(h) for x in range(w)]
    torch.testing.assert_close(inside, torch.tensor(expected))


def test_other_attention_is_refused(build):
    model = build("detr")
    model.decoder.layers[0].cross_attn = torch.nn.Identity()
    for other, name in (model, "DETR"), (torch.nn.Linear(2, 2), "Linear"):
        with pytest.raises(InputError, match=f"{name}, whose attention can't be recorded"):
            record_attention(other).__enter__()
