"""Our detector against mmdet's DeformableDETR and DINO: same keys, and with the same weights same numbers."""

import copy
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.dense_heads import dino_head
from mmdet.models.layers.transformer import dino_layers
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from torch import nn

from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.files.checkpoint_file import read_checkpoint

from .conftest import VARIANTS, batch

# mmdet's two-stage runs at one width alone.
WIDTHS = [*((name, 256) for name in ("base", "refine", "two_stage")), ("base", 48), ("refine", 48)]
WIDTHS += [("dino", 256), ("dino", 128)]
PADDED, EQUAL, ALONE = [(64, 96), (50, 70), (33, 96)], [(64, 64)] * 2, [(50, 70)]
NUM_CLASSES, NUM_DN_QUERIES = 5, 40


@cache
def mmdet_config(name: str) -> Config:
    return get_config(f"mmdet::{name}.py")


def model_cfg(variant: str, embed_dims: int, scope: str = SCOPE) -> dict:
    """mmdet's own config, made small."""
    is_dino = variant == "dino"
    name = "dino/dino-4scale_r50_8xb2-12e_coco"
    if not is_dino:
        name = "deformable_detr/deformable-detr_r50_16xb2-50e_coco"
    attn = dict(embed_dims=embed_dims, num_heads=8, dropout=0.0)
    deformable = dict(attn, num_levels=3, num_points=2)
    ffn = dict(embed_dims=embed_dims, feedforward_channels=64, ffn_drop=0.0)
    backbone = dict(depth=18, base_channels=8, out_indices=(2, 3), frozen_stages=-1, init_cfg=None)
    small = dict(
        num_queries=12,
        num_feature_levels=3,
        backbone=dict(backbone, norm_cfg=dict(requires_grad=True)),
        neck=dict(in_channels=[32, 64], out_channels=embed_dims, norm_cfg=dict(num_groups=8), num_outs=3),
        positional_encoding=dict(num_feats=embed_dims // 2),
        encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
        decoder=dict(
            num_layers=3, layer_cfg=dict(self_attn_cfg=attn, cross_attn_cfg=deformable, ffn_cfg=ffn)
        ),
        bbox_head=dict(num_classes=NUM_CLASSES, embed_dims=embed_dims),
        test_cfg=dict(max_per_img=20),
    )
    cfg = copy.deepcopy(mmdet_config(name))
    cfg.merge_from_dict(dict(model=small))
    if is_dino and scope == SCOPE:
        del cfg.model["dn_cfg"], cfg.model.decoder["post_norm_cfg"]
        cfg.merge_from_dict({"model.type": "DeformableDETR", "model.bbox_head.type": "DeformableDETRHead"})
    if not is_dino or scope == SCOPE:
        cfg.merge_from_dict({f"model.{key}": value for key, value in VARIANTS[variant].items()})
    if is_dino:
        key = "denoising" if scope == SCOPE else "dn_cfg.group_cfg"
        cfg.merge_from_dict({f"model.{key}.num_dn_queries": NUM_DN_QUERIES})
    return cfg.model


def build(scope: str, cfg: dict) -> nn.Module:
    """Build in our scope or in mmdet's and make sure whose class it is."""
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(copy.deepcopy(cfg))
    assert type(model).__module__.startswith(scope)
    return model


def pair(variant: str, embed_dims: int, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """mmdet's model with random weights everywhere, and ours with the same."""
    # Seed 0 puts a point so near a pixel's centre that mmdet's DINO in float32 rounds it to the other side:
    # its gradients are 1e-3 off those in float64, ours 1e-5.
    torch.manual_seed(variant == "dino")
    theirs = build("mmdet", model_cfg(variant, embed_dims, "mmdet"))
    torch.nn.init.normal_(theirs.level_embed)
    for parameter in theirs.parameters():  # zero-initialised layers would hide mistakes
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = build(SCOPE, model_cfg(variant, embed_dims))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs.to(dtype), ours.to(dtype)


@pytest.fixture
def any_width(monkeypatch) -> Callable[[int], None]:
    """Frees mmdet's DINO of the literal 128 in the embedding of its references."""
    embed = dino_layers.coordinate_to_encoding
    return lambda width: monkeypatch.setattr(
        dino_layers, "coordinate_to_encoding", partial(embed, num_feats=width // 2)
    )


def use_our_noise(monkeypatch, ours: nn.Module, samples: list[DetDataSample]) -> None:
    """Let mmdet's denoising draw for these samples what ours draws: label by label and corner by corner."""
    for i, sample in enumerate(samples):
        sample.set_metainfo(dict(item_seed=i))
    num_objects = [len(sample.gt_instances) for sample in samples]
    most = max(num_objects)
    num_copies = 2 * max(NUM_DN_QUERIES // max(most, 1), 1)
    noise, labels = (
        torch.cat([x[i, copy_, :n] for copy_ in range(num_copies) for i, n in enumerate(num_objects)])
        for x in ours.denoising.draw(samples, num_copies, most)
    )
    is_changed, shift = noise[:, 0] < 0.25, 2 * noise[:, 1:] - 1
    random = iter((noise[:, 0], shift.abs()))
    integers = iter((labels[is_changed], shift > 0))
    fakes = dict(
        zeros=partial(torch.zeros, dtype=samples[0].gt_instances.bboxes.dtype),
        rand_like=lambda x: next(random).to(x.dtype),
        randint_like=lambda x, low=0, high=1, dtype=None: next(integers).to(dtype or x.dtype),
    )
    for module in (dino_layers, dino_head):
        monkeypatch.setattr(module, "torch", SimpleNamespace(**vars(torch) | fakes))


def losses_and_gradients(model, inputs, samples) -> dict[str, torch.Tensor]:
    losses = {k: loss.squeeze() for k, loss in model.loss(inputs, copy.deepcopy(samples)).items()}
    sum(losses.values()).backward()
    gradients = {mmdets_name(k): p.grad for k, p in model.named_parameters()}
    return losses | {k: gradient for k, gradient in gradients.items() if gradient is not None}


def mmdets_name(key: str) -> str:
    return key.removeprefix("queries.").replace("denoising.", "dn_query_generator.")


@pytest.mark.parametrize(
    ("variant", "embed_dims", "dtype", "num_objects", "shapes"),
    [
        *(
            (*sizes, dtype, num_objects, shapes)
            for sizes in WIDTHS
            for dtype in (torch.float32, torch.float64)
            # 15 are more than there are queries.
            for num_objects, shapes in [([4, 0, 15], PADDED), ([0, 0, 0], PADDED), ([3, 1], EQUAL)]
        ),
        # In float64, mmdet's ratios of an image without padding are float64, ours float32 as on padding.
        *((*sizes, torch.float32, [2], ALONE) for sizes in WIDTHS),
    ],
)
def test_losses_and_gradients_are_mmdets(
    monkeypatch, any_width, variant, embed_dims, dtype, num_objects, shapes
):
    # mmdet adds the epsilon of float32 to each normaliser, also in float64.
    no_epsilon = SimpleNamespace(finfo=lambda _: SimpleNamespace(eps=0.0), float32=torch.float32)
    monkeypatch.setattr("mmdet.models.losses.utils.torch", no_epsilon)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    data = batch(num_objects, shapes, dtype, NUM_CLASSES)
    models = pair(variant, embed_dims, dtype)
    if variant == "dino":
        any_width(embed_dims)
        use_our_noise(monkeypatch, models[1], data[1])
    theirs, ours = (losses_and_gradients(model, *data) for model in models)
    losses = [[key for key in found if "loss" in key] for found in (ours, theirs)]
    assert losses[0] == losses[1] and ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        scale = max(1.0, expected.abs().max().item())
        difference = (ours[key] - expected).abs().max().item()
        assert difference <= tolerance * scale, f"{key}: {difference} of {scale}"


@pytest.mark.parametrize(("variant", "embed_dims"), WIDTHS)
@pytest.mark.parametrize("shapes", [PADDED, EQUAL, ALONE])
def test_predictions_are_mmdets(any_width, variant, embed_dims, shapes):
    any_width(embed_dims)
    theirs, ours = (model.eval() for model in pair(variant, embed_dims, torch.float32))
    inputs, samples = batch([1] * len(shapes), shapes)
    with torch.no_grad():
        for rescale in (True, False):
            found, expected = (
                model.predict(inputs, copy.deepcopy(samples), rescale=rescale) for model in (ours, theirs)
            )
            for a, b in zip(found, expected, strict=True):
                a, b = a.pred_instances, b.pred_instances
                assert torch.equal(a.labels, b.labels)
                torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)
                torch.testing.assert_close(a.bboxes / 100, b.bboxes / 100, rtol=0, atol=1e-5)
        layers, expected = (model(inputs, copy.deepcopy(samples), mode="tensor") for model in (ours, theirs))
    torch.testing.assert_close(layers, expected, rtol=1e-5, atol=1e-5)  # logits and boxes of every layer


@pytest.mark.parametrize(("variant", "embed_dims"), [*WIDTHS, ("two_stage", 48)])
def test_files_load_strictly_both_ways(tmp_path, variant, embed_dims):
    """With the statistics of images that published files hold, and mmdet's own models no longer take."""
    theirs, ours, again = (
        build(scope, model_cfg(variant, embed_dims, scope)) for scope in ("mmdet", SCOPE, "mmdet")
    )
    theirs.init_weights()
    expected = theirs.state_dict()
    weights = expected | {"data_preprocessor.mean": torch.ones(3, 1, 1)}
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "theirs.pth")
    ours.load_state_dict(read_checkpoint(tmp_path / "theirs.pth")["state_dict"], strict=True)
    torch.save({"state_dict": ours.state_dict()}, tmp_path / "ours.pth")
    again.load_state_dict(torch.load(tmp_path / "ours.pth")["state_dict"], strict=True)
    torch.testing.assert_close(again.state_dict(), expected, rtol=0, atol=0)
