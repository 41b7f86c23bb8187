"""Denoising queries: what noise they have, who sees whom, what they do not change."""

import pytest
import torch

from projects.dino.denoising import ContrastiveDenoising

from ..deformable_detr.conftest import batch, small_model

SHAPES = [(64, 96), (50, 70), (33, 96)]
TWO_STAGE = {"as_two_stage": True, "with_box_refine": True}
DENOISING = dict(type="ContrastiveDenoising")


def seeded_batch(num_objects: list[int], shapes: list[tuple[int, int]], first_seed: int = 0):
    inputs, samples = batch(num_objects, shapes)
    for i, sample in enumerate(samples):
        sample.set_metainfo(dict(item_seed=first_seed + i))
    return inputs, samples


def test_noise_is_of_the_image_alone():
    """Not of its place in the batch, of the others in it, or of torch's generators."""
    denoising = ContrastiveDenoising(5, 8, num_groups=2)
    _, samples = seeded_batch([3, 3, 1], SHAPES)
    together = denoising(samples)
    torch.rand(7)
    alone = denoising([samples[1]])
    torch.testing.assert_close(together.query[1], alone.query[0], rtol=0, atol=0)
    torch.testing.assert_close(together.reference_points[1], alone.reference_points[0], rtol=0, atol=0)
    samples[1].set_metainfo(dict(item_seed=9))
    assert not torch.equal(denoising([samples[1]]).reference_points, alone.reference_points)
    denoising.draw([batch([1], SHAPES[:1])[1][0]], 2, 1)  # a sample without a seed


def test_positives_move_less_than_negatives_and_are_matched():
    denoising = ContrastiveDenoising(3, 8, num_groups=50, label_noise_scale=0.0, box_noise_scale=0.4)
    _, samples = seeded_batch([2], [(100, 100)])
    samples[0].gt_instances.bboxes = torch.tensor([[30.0, 30, 50, 60], [40, 40, 60, 50]])
    noised = denoising(samples)
    boxes = noised.reference_points.view(50, 2, 2, 4)
    corners = torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), -1) * 100
    moved = (corners - samples[0].gt_instances.bboxes).abs() / torch.tensor([[20.0, 30] * 2, [20, 10] * 2])
    positives, negatives = moved[:, 0], moved[:, 1]
    assert positives.max() <= 0.2 + 1e-4 and positives.max() > 0.19
    assert negatives.min() >= 0.2 - 1e-4 and negatives.max() <= 0.4 + 1e-4
    labels = denoising.label_embedding(samples[0].gt_instances.labels)
    torch.testing.assert_close(noised.query.view(100, 2, 8), labels.expand(100, -1, -1))
    image, query, obj = noised.matches
    assert not image.any() and query.view(50, 2).tolist() == [[4 * i, 4 * i + 1] for i in range(50)]
    assert obj.view(50, 2).tolist() == [[0, 1]] * 50


def test_a_share_of_the_labels_is_drawn_anew():
    denoising = ContrastiveDenoising(1000, 1, num_groups=500, label_noise_scale=0.5)
    _, samples = seeded_batch([3], [(64, 64)])
    query = denoising(samples).query.view(1000, 3)
    same = query == denoising.label_embedding(samples[0].gt_instances.labels).view(3)
    assert same.float().mean().item() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(("step", "num_groups"), [(None, 5), ([[2, 0], [1, 4]], 2), ([[2, 0], [99]], 1)])
def test_groups_follow_the_fullest_image_of_the_step(step, num_groups):
    denoising = ContrastiveDenoising(3, 8, num_dn_queries=10)
    _, samples = seeded_batch([2, 0], SHAPES[:2])
    if step:
        samples[0].set_metainfo(dict(step_num_objects=step))
    most = max(map(max, step)) if step else 2
    noised = denoising(samples)
    assert noised.num_groups == num_groups
    assert noised.query.shape == (2, 2 * num_groups * most, 8)
    padding = noised.query[1], noised.query[0].unflatten(0, (-1, most))[:, 2:]
    assert not padding[0].any() and not padding[1].any()
    assert (noised.reference_points[1] == 0.5).all()
    assert len(noised.matches.image) == 2 * num_groups


def test_who_sees_whom():
    denoising = ContrastiveDenoising(3, 8, num_groups=2)
    mask = denoising(seeded_batch([1], [(64, 64)])[1]).self_attn_mask(3)
    hidden = [[0, 0, 1, 1, 0, 0, 0]] * 2 + [[1, 1, 0, 0, 0, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 0, 0]] * 3
    assert mask.int().tolist() == hidden
    assert denoising(seeded_batch([0], [(64, 64)])[1]).self_attn_mask(3) is None


def test_the_other_queries_do_not_notice():
    """Two-stage with denoising and without: the same losses, and more of them."""
    plain, noisy = (small_model(**TWO_STAGE, **options) for options in ({}, {"denoising": DENOISING}))
    noisy.load_state_dict(plain.state_dict(), strict=False)
    data = seeded_batch([3, 0, 5], SHAPES)
    expected, losses = plain.loss(*data), noisy.loss(*data)
    for key, loss in expected.items():
        torch.testing.assert_close(losses[key], loss, msg=key)
    assert losses.keys() - expected.keys() == {
        f"{layer}dn_{name}" for layer in ("", "d0.", "d1.") for name in ("loss_cls", "loss_bbox", "loss_iou")
    }
    assert len(noisy.eval().predict(*data)[0].pred_instances) == 100


@pytest.mark.parametrize("num_objects", [[3, 0, 5], [0, 0, 0], [0, 0, 150]])
@pytest.mark.parametrize(
    "options",
    [
        {"denoising": DENOISING},
        {"queries": dict(type="MixedQueries"), "decoder.embed_references": True},
        {"decoder.look_forward_twice": True},
        {"decoder.embed_references": True, "decoder.post_norm_cfg": dict(type="LN"), "denoising": DENOISING},
    ],
    ids=["denoising", "mixed", "twice", "denoising in an embedding decoder"],
)
def test_each_piece_alone_gives_every_parameter_a_gradient(options, num_objects):
    model = small_model(**TWO_STAGE, **options)
    losses = model.loss(*seeded_batch(num_objects, SHAPES))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    gradient = next((p.grad for name, p in model.named_parameters() if "label_embedding" in name), None)
    assert gradient is None or gradient.any().item() == any(num_objects)


def test_look_forward_twice_lets_a_layer_learn_from_the_next():
    """Without it no loss of the second layer's boxes reaches the first layer's branch."""
    for twice in (False, True):
        model = small_model(**TWO_STAGE, **{"decoder.look_forward_twice": twice})
        model.loss(*seeded_batch([3, 0, 5], SHAPES))["d1.loss_bbox"].backward()
        reached = model.bbox_head.reg_branches[0][-1].bias.grad
        assert (reached is not None and bool(reached.any())) == twice


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"as_two_stage": False, "denoising": DENOISING}, r"model\.denoising is Contrastive.*as_two_stage"),
        ({"decoder": None, "denoising": DENOISING}, r"model\.denoising is Contrastive.*a decoder"),
        ({"as_two_stage": False, "queries": dict(type="MixedQueries")}, r"model\.queries is MixedQ.*as_two"),
        ({"as_two_stage": False, "decoder.embed_references": True}, r"embed_references is True.*as_two_st"),
        ({"queries": dict(type="MixedQueries")}, r"MixedQueries, but model\.decoder\.embed_references is F"),
        ({"with_box_refine": False, "decoder.look_forward_twice": True}, r"twice is True, but.*with_box_r"),
        ({"denoising": dict(DENOISING, num_groups=0)}, r"num_groups must be a whole .* None, not 0"),
        ({"denoising": dict(DENOISING, num_dn_queries=0)}, r"num_dn_queries must be .* at least 1, not 0"),
        ({"denoising": dict(DENOISING, num_groups=2.5)}, r"num_groups must be a whole .* None, not 2\.5"),
        ({"denoising": dict(DENOISING, num_dn_queries=9.5)}, r"num_dn_queries must be a whole .*9\.5"),
        ({"decoder": None, "queries": dict(type="MixedQueries")}, r"MixedQueries, which .* and a decoder"),
        ({"as_two_stage": False, "queries": dict(type="TwoStageQueries")}, r"TwoStageQ.*as_two_stage=True"),
        ({"queries": dict(type="LearnedQueries")}, r"LearnedQueries; .*as_two_stage=False and a decoder"),
        ({"decoder": None, "queries": dict(type="LearnedQueries")}, r"LearnedQueries; .* and a decoder"),
        ({"queries": dict(type="TwoStageQueries", num_queries=5)}, r"and that of model\.queries 5: they"),
        ({"num_queries": 0}, r"model\.num_queries is 0 .* at least 1"),
        (
            {"denoising": dict(DENOISING, label_noise_scale=2.5)},
            r"label_noise_scale must lie in \[0, 2\].*2\.5",
        ),
        ({"denoising": dict(DENOISING, box_noise_scale=-1)}, r"box_noise_scale must lie in \(0, 1\].*-1"),
        (
            {"denoising": dict(DENOISING, num_classes=7)},
            r"denoising\.num_classes is 7, but.*num_classes is 3",
        ),
        ({"denoising": dict(DENOISING, embed_dims=64)}, r"differ in width.*denoising\.embed_dims': 64"),
    ],
)
def test_what_cannot_be_is_named_when_the_model_is_built(options, message):
    with pytest.raises(ValueError, match=message):
        small_model(**TWO_STAGE | options)
