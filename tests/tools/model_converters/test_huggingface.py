"""Against transformers itself: what is converted, through files, predicts the same there and here."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(sys.prefix) / "transformers"))  # where `make test` installs it
pytest.importorskip("transformers", reason="`make test` installs transformers; Python >= 3.11")

import safetensors.torch
from mmdet.datasets import CocoDataset
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

from projects.checkpoint_conversion.classes import COCO_IDS
from projects.reliable_runner.files.checkpoint_file import read_tensors

VARIANTS = {
    "base": dict(),
    "refine": dict(with_box_refine=True),
    "two-stage": dict(with_box_refine=True, two_stage=True),
}


def their_config(variant: str, num_labels: int = 91, depth: int = 18) -> DeformableDetrConfig:
    """The sizes of the fixture ``our_model``."""
    expansion = 1 if depth == 18 else 4
    return DeformableDetrConfig(
        backbone_config=ResNetConfig(
            embedding_size=4,
            hidden_sizes=[width * expansion for width in (4, 8, 16, 32)],
            depths=[2, 2, 2, 2] if depth == 18 else [3, 4, 6, 3],
            layer_type="basic" if depth == 18 else "bottleneck",
            out_features=["stage3", "stage4"],
        ),
        num_labels=num_labels,
        num_queries=9,
        two_stage_num_proposals=9,
        num_feature_levels=3,
        d_model=64,
        encoder_layers=2,
        decoder_layers=3,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_n_points=2,
        decoder_n_points=2,
        **VARIANTS[variant],
    )


@pytest.fixture
def their_model(randomize, tmp_path):
    """Writes a random model of transformers; returns it and its file, ``model.safetensors``."""

    def build(variant: str, **sizes):
        model = randomize(DeformableDetrForObjectDetection(their_config(variant, **sizes)))
        model.save_pretrained(tmp_path / "theirs")
        return model, tmp_path / "theirs" / "model.safetensors"

    return build


@pytest.fixture
def their_predict(batch):
    """Class logits and boxes of a model of transformers on the batch."""
    images, sizes = batch

    def run(model):
        mask = torch.zeros(len(images), *images.shape[-2:], dtype=torch.long)
        for i, (h, w) in enumerate(sizes):
            mask[i, :h, :w] = 1
        with torch.no_grad():
            outputs = model(images, mask)
        return outputs.logits, outputs.pred_boxes

    return run


def assert_equal_predictions(ours, theirs) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert b.std() > 0.01
        torch.testing.assert_close(a[-1], b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("depth", [18, 50])
def test_theirs_predict_the_same_here(
    variant, depth, their_model, convert, our_model, predict, their_predict
):
    theirs, path = their_model(variant, depth=depth)
    ours = our_model(variant, depth=depth)
    ours.load_state_dict(convert(path, "ours.pth")[1], strict=True)
    logits, boxes = their_predict(theirs)
    assert_equal_predictions(predict(ours), (logits[..., COCO_IDS], boxes))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("num_classes", "detour"), [(80, []), (5, []), (80, ["official", "detrex"])])
def test_ours_predict_the_same_there(
    variant, num_classes, detour, convert, our_model, predict, their_predict
):
    ours = our_model(variant, num_classes, bias=False)
    num_labels = 91 if num_classes == 80 else num_classes
    path = {"state_dict": ours.state_dict()}
    for family in detour:
        path, _ = convert(path, f"{family}.pth", "--to", family)
    path, _ = convert(path, "model.safetensors", "--to", "huggingface-resnet")
    their_config(variant, num_labels).save_pretrained(path.parent)
    theirs, report = DeformableDetrForObjectDetection.from_pretrained(path.parent, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    assert all(key.endswith("num_batches_tracked") for key in report["unexpected_keys"])
    logits, boxes = their_predict(theirs.eval())
    if num_classes == 80:
        unused = [row for row in range(91) if row not in COCO_IDS]
        assert logits[..., unused].max() <= -50
        logits = logits[..., COCO_IDS]
    assert_equal_predictions(predict(ours), (logits, boxes))


@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip_is_exact(variant, their_model, convert, assert_same):
    theirs, path = their_model(variant)
    ours, _ = convert(path, "ours.pth")
    back, tensors = convert(ours, "model.safetensors", "--to", "huggingface-resnet")
    for key, tensor in safetensors.torch.load_file(path).items():
        assert torch.equal(tensors[key], tensor), key
    # transformers 5 renames on the way to a file; a bare state dict has the new names.
    assert_same(convert(theirs.state_dict(), "from_memory.pth")[1], read_tensors(ours)[0])
    their_config(variant).save_pretrained(back.parent)
    loaded = DeformableDetrForObjectDetection.from_pretrained(back.parent)
    assert_same(loaded.state_dict(), theirs.state_dict())


def test_classes_of_their_labels_are_ours():
    """The 80 classes of mmdet follow the ids of COCO in rising order."""
    names = CocoDataset.METAINFO["classes"]
    assert len(COCO_IDS) == len(names) == 80
    known = {1: "person", 17: "cat", 75: "remote", 90: "toothbrush"}
    assert {i: names[COCO_IDS.index(i)] for i in known} == known
