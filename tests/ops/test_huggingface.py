"""Each model of transformers gives the same with our op, and its own back when that is undone."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(sys.prefix) / "transformers"))  # where `make test` installs it
transformers = pytest.importorskip("transformers", reason="`make test` installs transformers; Python >= 3.11")

from ms_deform_attn.compat.huggingface import accelerate  # noqa: E402

SIZES = dict(d_model=32, decoder_layers=2, decoder_ffn_dim=16, num_queries=8)
ENCODER = dict(encoder_layers=2, encoder_ffn_dim=16, encoder_attention_heads=4, decoder_attention_heads=4)
RESNET = dict(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic")
SWIN = dict(window_size=7, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
TEXT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)


def resnet(kind: str = "ResNetConfig", stages=("stage2", "stage3", "stage4")):
    return getattr(transformers, kind)(**RESNET, out_features=list(stages))


def swin(size: int, stages):
    return transformers.SwinConfig(**SWIN, image_size=size, out_features=list(stages))


def deformable_detr():
    return transformers.DeformableDetrConfig(
        backbone_config=resnet(stages=("stage3", "stage4")), num_feature_levels=3, **SIZES, **ENCODER
    )


def rt_detr(kind: str = "RTDetrConfig", decoder_n_points=3):
    return getattr(transformers, kind)(
        backbone_config=resnet("RTDetrResNetConfig"),
        encoder_in_channels=[16, 24, 32],
        decoder_in_channels=[32, 32, 32],
        encoder_hidden_dim=32,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        decoder_n_points=decoder_n_points,
        num_denoising=0,
        **SIZES,
    )


def grounding_dino(kind: str = "GroundingDinoConfig"):
    return getattr(transformers, kind)(
        backbone_config=swin(96, ("stage2", "stage3", "stage4")),
        text_config=transformers.BertConfig(**TEXT, max_position_embeddings=32, vocab_size=1030),
        query_dim=4,
        max_text_len=32,
        **SIZES,
        **ENCODER,
    )


def segmenter(kind: str, **options):
    stages = ("stage1", "stage2", "stage3", "stage4")
    sizes = dict(hidden_dim=32, encoder_feedforward_dim=16, dim_feedforward=16, encoder_layers=2)
    sizes |= dict(decoder_layers=2, num_attention_heads=4, num_queries=6, num_labels=4)
    return getattr(transformers, kind)(backbone_config=swin(64, stages), **sizes, **options)


def oneformer():
    text = dict(text_encoder_width=32, text_encoder_num_layers=1, text_encoder_vocab_size=99)
    return segmenter("OneFormerConfig", mask_dim=32, conv_dim=32, task_seq_len=10, **text)


def omdet_turbo():
    text = transformers.CLIPTextConfig(**TEXT, max_position_embeddings=8, vocab_size=99, projection_dim=16)
    return transformers.OmDetTurboConfig(
        backbone_config=swin(224, ("stage2", "stage3", "stage4")),
        text_config=text,
        apply_layernorm_after_vision_backbone=False,
        encoder_hidden_dim=32,
        decoder_hidden_dim=32,
        vision_features_channels=[32, 32, 32],
        encoder_in_channels=[32, 64, 128],
        num_queries=8,
        class_embed_dim=16,
        text_projection_in_dim=16,
        text_projection_out_dim=16,
        encoder_dim_feedforward=16,
        decoder_num_heads=4,
        encoder_attention_heads=4,
        decoder_dim_feedforward=16,
        decoder_num_layers=2,
        encoder_layers=1,
    )


def lw_detr():
    vit = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=64, num_windows=4)
    vit |= dict(window_block_indices=[0, 2], out_indices=[2, 4])
    return transformers.LwDetrConfig(
        backbone_config=transformers.LwDetrViTConfig(**vit),
        projector_scale_factors=[1.0],
        group_detr=1,
        **DETR_HEADS,
        **SIZES,
    )


DETR_HEADS = dict(decoder_self_attention_heads=2, decoder_cross_attention_heads=4)


def rf_detr():
    vit = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=64, patch_size=16)
    vit |= dict(num_windows=2, out_indices=[2, 4], window_block_indices=[0, 2])
    return transformers.RfDetrConfig(
        backbone_config=transformers.RfDetrDinov2Config(**vit), group_detr=1, **DETR_HEADS, **SIZES
    )


def images(size: int = 64) -> dict:
    return dict(pixel_values=torch.rand(2, 3, size, size, dtype=torch.float64))


def with_text() -> dict:
    ids = torch.tensor([[101, 5, 6, 1012, 102]] * 2)
    return dict(images(96), input_ids=ids, attention_mask=torch.ones_like(ids))


def with_task() -> dict:
    return dict(images(), task_inputs=torch.randint(0, 90, (2, 10)))


def with_classes() -> dict:
    ids = dict(classes_input_ids=torch.randint(3, 90, (2, 8)), tasks_input_ids=torch.randint(3, 90, (1, 8)))
    masks = {key.replace("input_ids", "attention_mask"): torch.ones_like(value) for key, value in ids.items()}
    picture = dict(pixel_values=torch.rand(1, 3, 224, 224, dtype=torch.float64))
    return dict(**picture, **ids, **masks, classes_structure=torch.tensor([2]))


MODELS: dict[str, tuple[str, Callable, Callable, int]] = {
    "deformable_detr": ("DeformableDetrForObjectDetection", deformable_detr, images, 4),
    "grounding_dino": ("GroundingDinoForObjectDetection", grounding_dino, with_text, 4),
    "mm_grounding_dino": (
        "MMGroundingDinoForObjectDetection",
        lambda: grounding_dino("MMGroundingDinoConfig"),
        with_text,
        4,
    ),
    "mask2former": (
        "Mask2FormerForUniversalSegmentation",
        lambda: segmenter("Mask2FormerConfig", feature_size=32, mask_feature_size=32),
        images,
        2,
    ),
    "oneformer": ("OneFormerForUniversalSegmentation", oneformer, with_task, 2),
    "omdet_turbo": ("OmDetTurboForObjectDetection", omdet_turbo, with_classes, 2),
    "rt_detr": ("RTDetrForObjectDetection", rt_detr, images, 2),
    "rt_detr_v2": ("RTDetrV2ForObjectDetection", lambda: rt_detr("RTDetrV2Config"), images, 2),
    "d_fine": ("DFineForObjectDetection", lambda: rt_detr("DFineConfig", [3, 6, 3]), images, 2),
    "lw_detr": ("LwDetrForObjectDetection", lw_detr, images, 2),
    "rf_detr": ("RfDetrForObjectDetection", rf_detr, images, 2),
}


def build(name: str) -> tuple[torch.nn.Module, dict]:
    torch.manual_seed(0)
    kind, config, inputs, _ = MODELS[name]
    model = getattr(transformers, kind)(config()).double().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model, inputs()


def run(model: torch.nn.Module, inputs: dict) -> list[torch.Tensor]:
    """Outputs and gradients; logits of padded text are infinite."""
    model.zero_grad()
    for name in ("language_cache_class", "language_cache_prompt"):
        if hasattr(model, name):  # OmDet-Turbo keeps what the text encoder gave, with its graph
            getattr(model, name).cache.clear()
    values = [v.nan_to_num(0, 0, 0) for v in model(**inputs).values() if isinstance(v, torch.Tensor)]
    values = [value for value in values if value.is_floating_point()]
    sum(value.square().mean() for value in values if value.requires_grad).backward()
    return [*(v.detach() for v in values), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_the_stock_ones(name, calls):
    model, inputs = build(name)
    stock = run(model, inputs)
    assert accelerate(model) == MODELS[name][3] and not calls
    ours = run(model, inputs)
    assert len(calls) == MODELS[name][3]
    scale = max(tensor.abs().max() for tensor in stock)
    for found, expected in zip(ours, stock, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9 * float(scale))
    assert accelerate(model) == MODELS[name][3]
    calls.clear()
    for found, expected in zip(run(model, inputs), stock, strict=True):
        assert torch.equal(found, expected)
    assert not calls


def test_other_instances_stay_as_they_are():
    (one, _), (other, _) = build("mask2former"), build("mask2former")
    accelerate(one)
    assert not any("forward" in module.__dict__ for module in other.modules())


def test_discrete_sampling_stays_as_it_is():
    config = rt_detr("RTDetrV2Config")
    config.decoder_method = "discrete"
    torch.manual_seed(0)
    model = transformers.RTDetrV2ForObjectDetection(config).eval()
    inputs = dict(pixel_values=torch.rand(1, 3, 64, 64))
    stock = model(**inputs).logits
    accelerate(model)
    assert torch.equal(model(**inputs).logits, stock)


def test_a_copy_samples_by_itself():
    model, inputs = build("mask2former")
    accelerate(model)
    copied = copy.deepcopy(model)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    expected, _ = build("mask2former")
    torch.testing.assert_close(run(copied, inputs), run(expected, inputs), rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("deformable_detr", False),
        ("d_fine", False),
        ("oneformer", False),
        ("rt_detr_v2", False),
        ("rt_detr_v2", True),
    ],
)
def test_it_compiles(name, before, calls):
    """Before it is accelerated, or after."""
    model, inputs = build(name)
    expected = first_of(model(**inputs))
    compiled = torch.compile(model, backend="eager")
    if before:
        torch.testing.assert_close(first_of(compiled(**inputs)), expected, rtol=1e-6, atol=1e-9)
    assert not calls
    accelerate(model)
    torch.testing.assert_close(first_of(compiled(**inputs)), expected, rtol=1e-6, atol=1e-9)
    assert calls


def first_of(outputs) -> torch.Tensor:
    return next(value for value in outputs.values() if isinstance(value, torch.Tensor))


def test_a_part_and_then_all():
    model, _ = build("rt_detr_v2")
    part = model.model.decoder.layers[0]
    assert accelerate(part) == 1
    assert accelerate(model) == 2
    assert all(
        "forward" in m.__dict__ for m in model.modules() if type(m).__name__.endswith("DeformableAttention")
    )
    assert accelerate(model) == 2
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_a_hook_before_the_forward_stays():
    """As those of the package accelerate, which move tensors between devices."""
    model, inputs = build("rt_detr_v2")
    calls = []
    for module in model.modules():
        if type(module).__name__.endswith("DeformableAttention"):
            module._old_forward = module.forward

            def hooked(*args, module=module, **kwargs):
                calls.append(module)
                return module._old_forward(*args, **kwargs)

            module.forward = hooked
    expected = model(**inputs).logits
    assert accelerate(model) == len(calls) == 2
    torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-6, atol=1e-9)
    assert len(calls) == 4


def test_a_model_without_deformable_attention_is_refused():
    with pytest.raises(ValueError, match="Linear has no deformable attention"):
        accelerate(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="not NoneType"):
        accelerate(None)
