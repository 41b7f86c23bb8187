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
from projects.deformable_detr.registry import MODELS, SCOPE

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"
STRIDES = (16, 32)  # of the two levels of that model
VARIANTS = {
    "base": dict(),
    "refine": dict(with_box_refine=True),
    "two_stage": dict(with_box_refine=True, as_two_stage=True),
    "encoder_only": dict(decoder=None),
}


@pytest.fixture(scope="module")
def config() -> dict:
    return Config.fromfile(CONFIG).model


def build(config: dict, **changes) -> nn.Module:
    """The tiny model with random weights everywhere, also where it is initialised with zeros."""
    torch.manual_seed(0)
    model = MODELS.build({**copy.deepcopy(config), **changes, "_scope_": SCOPE}).eval()
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
        outputs = model.forward_transformer(
            torch.zeros(len(shapes), 3, *input_shape), samples_of(shapes, input_shape)
        )
        scores, boxes = model.bbox_head(outputs["hidden_states"], outputs["references"])
    hook.remove()
    return dict(scores=scores, boxes=boxes, references=outputs["references"][-1]), memories[0]


def cells(shape) -> list[tuple[int, int]]:
    return [(ceil(shape[0] / stride), ceil(shape[1] / stride)) for stride in STRIDES]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(64, 96), (50, 70)], ids=["divisible", "not_divisible"])
@pytest.mark.parametrize("input_shape", [(128, 160), (64, 160), (128, 96)])
def test_transformer_does_not_see_padding(config, variant, shape, input_shape):
    """Equal features in the valid cells, noise in the others: the same output, to rounding."""
    model = build(config, **VARIANTS[variant])
    if variant == "two_stage":  # see the test below
        last = model.bbox_head.cls_branches[-1]
        model.queries.memory_trans_norm.bias.data.zero_()
        model.queries.memory_trans_fc.bias.data.zero_()
        last.weight.data[0] = last.weight.data[0].abs()
    generator = torch.Generator().manual_seed(1)
    alone = [torch.randn(1, 32, h, w, generator=generator) for h, w in cells(shape)]
    padded = [9 * torch.randn(2, 32, h, w, generator=generator) for h, w in cells(input_shape)]
    for whole, part in zip(padded, alone, strict=True):
        whole[0, :, : part.shape[2], : part.shape[3]] = part[0]
    masks = Levels.of_batch([shape], input_shape, [f.shape[-2:] for f in padded], torch.device("cpu")).masks
    valid = ~torch.cat([mask.flatten(1) for mask in masks], 1)[0]

    expected, expected_memory = transform(model, alone, [shape], shape)
    found, memory = transform(model, padded, [shape, input_shape], input_shape)
    close = dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(memory[0, valid], expected_memory[0], **close)
    for key, value in expected.items():
        image = found[key][..., 0, :, :]
        if variant == "encoder_only":
            image = image[..., valid, :]
        torch.testing.assert_close(image, value[..., 0, :, :], **close)


def test_a_cell_on_padding_can_become_a_query_as_in_mmdet(config):
    """All such cells have one score; where it is high, they take the places of cells of the image."""
    model = build(config, **VARIANTS["two_stage"])
    proposals = model.queries
    levels = Levels.of_batch([(64, 96)], (128, 160), cells((128, 160)), torch.device("cpu"))
    on_padding = levels.padding_mask[..., None]
    memory = torch.randn(1, on_padding.numel(), 32)
    branches = model.bbox_head.cls_branches[-1], model.bbox_head.reg_branches[-1]
    for score, is_chosen in ((-99.0, False), (99.0, True)):
        chosen = proposals(
            memory, levels, lambda f, s=score: branches[0](f).masked_fill(on_padding, s), branches[1]
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
        torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.bboxes, alone.bboxes, rtol=0, atol=1e-2)


def test_padding_reaches_near_cells_through_convolutions_and_all_through_the_necks_norm(config):
    """ResNet-18 sees 435 pixels, so the first columns of 512 are out of reach for what is beyond."""
    image = torch.randint(0, 256, (3, 128, 512))
    wider = torch.randint(0, 256, (3, 128, 640))
    model = build(config, neck=dict(config.neck, norm_cfg=None))
    (_, alone), (_, padded) = predict(model, [image]), predict(model, [image, wider])
    for a, b in zip(alone, padded, strict=True):
        width = a.shape[-1]
        differs = (a[0] - b[0, ..., :width]).abs().amax((0, 1)) > 1e-3
        assert not differs[: width // 2].any() and differs[-1]
    model = build(config)
    (_, alone), (_, padded) = predict(model, [image]), predict(model, [image, wider])
    for a, b in zip(alone, padded, strict=True):
        assert ((a[0] - b[0, ..., : a.shape[-1]]).abs().amax((0, 1)) > 1e-3).all()


def test_valid_cells_are_those_of_the_image_alone_where_the_strides_divide_the_batch():
    """A level of stride s has ceil(side / s) of them; where s does not divide the batch, maybe one more."""
    shapes = [(h, w) for h in range(20, 130, 7) for w in range(20, 130, 11)]
    strides = (8, 16, 32, 64)

    def valid(input_shape):
        levels = [tuple(ceil(side / stride) for side in input_shape) for stride in strides]
        sizes = Levels.of_batch(shapes, input_shape, levels, torch.device("cpu")).valid_sizes
        return [list(map(tuple, sizes[:, level].flip(-1).tolist())) for level in range(len(strides))]

    alone = [[(ceil(h / s), ceil(w / s)) for h, w in shapes] for s in strides]
    assert valid((192, 192)) == alone
    assert valid((160, 160)) != alone and valid((160, 160))[:3] == alone[:3]
    assert valid((150, 173)) != alone
