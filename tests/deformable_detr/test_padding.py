"""The same image alone and in a padded batch: what is equal, and where a difference can come from."""

import copy
from math import ceil
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import Tensor, nn

from projects.deformable_detr.levels import Levels
from projects.deformable_detr.registry import MODELS

from .conftest import VARIANTS

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"
STRIDES = (16, 32)  # of the two levels of that model
CPU = torch.device("cpu")
CLOSE = dict(rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def config() -> dict:
    return Config.fromfile(CONFIG).model


def build(config: dict, **changes) -> nn.Module:
    """The tiny model with random weights everywhere, also where it is initialised with zeros."""
    torch.manual_seed(0)
    cfg = Config(dict(model=copy.deepcopy(config)))
    cfg.merge_from_dict({f"model.{key}": value for key, value in changes.items()})
    model = MODELS.build(cfg.model).eval()
    model.init_weights()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def samples_of(shapes, input_shape) -> list[DetDataSample]:
    meta = dict(batch_input_shape=input_shape, scale_factor=(1.0, 1.0))
    return [DetDataSample(metainfo=dict(meta, img_shape=s, ori_shape=s)) for s in shapes]


def transform(model: nn.Module, feats: list[Tensor], shapes, input_shape) -> tuple[dict, Tensor]:
    """What the transformer makes of features: its outputs, and the encoder's memory."""
    memories = []
    hook = model.encoder.register_forward_hook(lambda *args: memories.append(args[-1]))
    model.extract_feat = lambda _: feats
    with torch.no_grad():
        outputs = model.forward_transformer(torch.zeros(len(shapes), 3, *input_shape), shapes)
        scores, boxes = model.bbox_head(outputs["hidden_states"], outputs["references"])
    hook.remove()
    return dict(scores=scores, boxes=boxes, references=outputs["references"][-1]), memories[0]


def level_shapes(shape) -> list[tuple[int, int]]:
    return [(ceil(shape[0] / stride), ceil(shape[1] / stride)) for stride in STRIDES]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(64, 96), (50, 70)], ids=["divisible", "not_divisible"])
@pytest.mark.parametrize("input_shape", [(128, 160), (64, 160), (128, 96)])
def test_transformer_does_not_see_padding(config, variant, shape, input_shape):
    """Equal features in the valid tokens, noise in the others: the same output, to rounding."""
    model = build(config, **VARIANTS[variant])
    if variant in ("two_stage", "dino"):  # see the test below
        last = model.bbox_head.cls_branches[-1]
        model.queries.memory_trans_norm.bias.data.zero_()
        model.queries.memory_trans_fc.bias.data.zero_()
        last.weight.data[0] = last.weight.data[0].abs()
    if variant == "dino":
        last.weight.data[1], last.bias.data[:] = -last.weight.data[0], 0.0
        # It embeds the references in units of the padded image, as the official code does.
        model.decoder.ref_point_head.layers[1].weight.data.zero_()
    alone = [torch.randn(1, 32, h, w) for h, w in level_shapes(shape)]
    padded = [9 * torch.randn(2, 32, h, w) for h, w in level_shapes(input_shape)]
    for whole, part in zip(padded, alone, strict=True):
        whole[0, :, : part.shape[2], : part.shape[3]] = part[0]
    masks = Levels.of_batch([shape], input_shape, level_shapes(input_shape), CPU).masks
    valid = ~torch.cat([mask.flatten(1) for mask in masks], 1)[0]

    expected, expected_memory = transform(model, alone, [shape], shape)
    found, memory = transform(model, padded, [shape, input_shape], input_shape)
    torch.testing.assert_close(memory[0, valid], expected_memory[0], **CLOSE)
    for key, value in expected.items():
        image = found[key][..., 0, :, :]
        if variant == "encoder_only":
            image = image[..., valid, :]
        torch.testing.assert_close(image, value[..., 0, :, :], **CLOSE)


def test_a_token_on_padding_can_become_a_query_as_in_mmdet(config):
    """All such tokens have one score; where it is high, they take the places of tokens of the image."""
    model = build(config, **VARIANTS["two_stage"])
    levels = Levels.of_batch([(64, 96)], (128, 160), level_shapes((128, 160)), CPU)
    on_padding = levels.padding_mask[..., None]
    memory = torch.randn(1, on_padding.numel(), 32)
    classify, correct = model.bbox_head.cls_branches[-1], model.bbox_head.reg_branches[-1]
    for score, is_chosen in ((-99.0, False), (99.0, True)):
        chosen = model.queries(
            memory, levels, lambda x, score=score: classify(x).masked_fill(on_padding, score), correct
        )
        # What is on padding proposes no place: its box ends in the corner.
        assert (chosen.reference_points == 1).all(-1).any().item() == is_chosen


def predict(model: nn.Module, images: list[Tensor], divisor: int = 1):
    """Predictions, best first, and the neck's levels."""
    model.data_preprocessor.pad_size_divisor = divisor
    samples = samples_of([image.shape[-2:] for image in images], None)
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples))
    with torch.no_grad():
        feats = model.extract_feat(data["inputs"])
        found = model.predict(data["inputs"], data["data_samples"])
    return [sample.pred_instances for sample in found], feats


@pytest.mark.parametrize("variant", ["base", "two_stage"])
def test_only_the_padded_size_counts_not_the_other_images(config, variant):
    """In a batch, an image gets what it gets alone on equally much padding."""
    model = build(config, **VARIANTS[variant])
    small, other = (torch.randint(0, 256, (3, *shape)) for shape in ((50, 70), (128, 128)))
    (alone,), _ = predict(model, [small], divisor=128)
    (first, _), _ = predict(model, [small, other])
    (_, second), _ = predict(model, [other.flip(0), small])
    for found in first, second:
        assert torch.equal(found.labels, alone.labels)
        torch.testing.assert_close(found.scores, alone.scores, **CLOSE)
        torch.testing.assert_close(found.bboxes, alone.bboxes, rtol=0, atol=1e-2)


@pytest.mark.parametrize("norm_cfg", [None, dict(type="GN", num_groups=8)])
def test_padding_reaches_near_pixels_by_convolutions_and_all_by_the_necks_norm(config, norm_cfg):
    """ResNet-18 sees 435 pixels, so the first columns of 512 are out of reach for what is beyond."""
    image, wider = (torch.randint(0, 256, (3, 128, width)) for width in (512, 640))
    model = build(config, neck=dict(config.neck, norm_cfg=norm_cfg))
    (_, alone), (_, padded) = predict(model, [image]), predict(model, [image, wider])
    for a, b in zip(alone, padded, strict=True):
        width = a.shape[-1]
        differs = (a[0] - b[0, ..., :width]).abs().amax((0, 1)) > 1e-3
        assert differs[-1]
        assert differs.all() if norm_cfg else not differs[: width // 2].any()


def test_valid_tokens_are_those_of_the_image_alone_where_the_strides_divide_the_batch():
    """A level of stride s has ceil(side / s) of them; where s does not divide the batch, maybe one more."""
    shapes = [(h, w) for h in range(20, 130, 7) for w in range(20, 130, 11)]
    strides = (8, 16, 32, 64)

    def valid(input_shape):
        levels = [tuple(ceil(side / stride) for side in input_shape) for stride in strides]
        sizes = Levels.of_batch(shapes, input_shape, levels, CPU).valid_sizes
        return [list(map(tuple, sizes[:, level].flip(-1).tolist())) for level in range(len(strides))]

    alone = [[(ceil(h / s), ceil(w / s)) for h, w in shapes] for s in strides]
    assert valid((192, 192)) == alone
    assert valid((160, 160)) != alone and valid((160, 160))[:3] == alone[:3]
    assert valid((150, 173)) != alone
