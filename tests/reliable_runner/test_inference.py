"""The two calls against the model itself, fed by hand."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from PIL import Image

from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner import inference
from projects.reliable_runner.errors import InputError, NonFiniteError
from projects.reliable_runner.inference import (
    detect_batch,
    inference_detector,
    init_detector,
    prepare,
    read_image,
)

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
_PIPELINE = "test_dataloader.dataset.pipeline"


@pytest.fixture(scope="module")
def model():
    """Not trained."""
    torch.manual_seed(0)
    model = MODELS.build(dict(Config.fromfile(CONFIG).model, _scope_=SCOPE))
    model.init_weights()
    return model.eval()


@pytest.fixture
def save(tmp_path):
    """Writes a checkpoint and returns its path."""

    def save(weights: dict, **others) -> Path:
        torch.save(dict(state_dict=weights, **others), tmp_path / "epoch_1.pth")
        return tmp_path / "epoch_1.pth"

    return save


@pytest.fixture
def detector(model, save):
    return init_detector(CONFIG, save(model.state_dict()), device="cpu")


@pytest.fixture
def images(tmp_path) -> list[Path]:
    """Of two sizes, neither the 64 pixels that the pipeline resizes the longer side to."""
    random = np.random.default_rng(0)
    paths = []
    for number, shape in enumerate([(80, 100, 3), (80, 100, 3), (128, 96, 3)]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(paths[-1])
    return paths


def test_prediction_is_that_of_the_model_fed_by_hand(detector, model, tmp_path):
    """An image of twice the size whose pixels come in blocks of four: resized, it is the small one."""
    small = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(small.repeat(2, 0).repeat(2, 1)).save(tmp_path / "a.png")
    sample = inference_detector(detector, tmp_path / "a.png")

    batch = torch.tensor(small).permute(2, 0, 1)[None].float()  # RGB here, and BGR above
    batch = (batch.flip(1) - 127) / 50  # the preprocessor of tiny_ddetr.py
    shapes = dict(img_shape=(48, 64), batch_input_shape=(48, 64), ori_shape=(48, 64))
    with torch.no_grad():
        logits, boxes = model(batch, [DetDataSample(metainfo=shapes)], mode="tensor")
    scores, order = logits[-1, 0].sigmoid().flatten().topk(10)
    cx, cy, w, h = boxes[-1, 0][order // 3].unbind(-1)
    corners = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1).clamp(0, 1)
    found = sample.pred_instances
    torch.testing.assert_close(found.scores, scores)
    torch.testing.assert_close(found.labels, order % 3)
    torch.testing.assert_close(found.bboxes, corners * torch.tensor([128.0, 96, 128, 96]))


def test_paths_arrays_and_batches_give_the_same(detector, images):
    alone = [inference_detector(detector, path) for path in images]
    assert [sample.ori_shape for sample in alone] == [(80, 100), (80, 100), (128, 96)]
    arrays = [read_image(detector, path) for path in images]
    tensors = [torch.tensor(array[..., ::-1].copy()).permute(2, 0, 1) for array in arrays]
    for others in (
        inference_detector(detector, images),
        inference_detector(detector, arrays),
        inference_detector(detector, map(Image.open, images)),
        inference_detector(detector, (tensor for tensor in tensors), batch_size=2),
        inference_detector(detector, images[:2], batch_size=2),
    ):
        for one, other in zip(alone, others, strict=False):
            for key in ("scores", "labels", "bboxes"):
                torch.testing.assert_close(one.pred_instances[key], other.pred_instances[key])
    assert len(inference_detector(detector, images, batch_size=2)) == 3
    floats = inference_detector(detector, tensors[0] / 255).pred_instances.bboxes
    torch.testing.assert_close(floats, alone[0].pred_instances.bboxes)


def test_an_address_is_read_and_leaves_nothing(detector, images, monkeypatch, tmp_path):
    def fetch(url: str, path: Path) -> Path:
        assert url == "https://example.org/a.png?size=large" and path.name == "a.png"
        return Path(shutil.copy(images[0], path))

    monkeypatch.setattr(inference, "download", fetch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = inference_detector(detector, "https://example.org/a.png?size=large")
    assert torch.equal(
        found.pred_instances.bboxes, inference_detector(detector, images[0]).pred_instances.bboxes
    )
    assert {path.name for path in tmp_path.iterdir()} <= {"epoch_1.pth", *(path.name for path in images)}


@pytest.mark.parametrize(
    ("meta", "classes"),
    [
        ({}, ["circle", "square", "triangle"]),
        ({"dataset_meta": {"classes": ("a", "b", "c")}}, ["a", "b", "c"]),
        ({"CLASSES": ("a", "b", "c")}, ["a", "b", "c"]),
    ],
)
def test_classes_are_the_checkpoints_or_else_the_configs(model, save, meta, classes):
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    detector = init_detector(CONFIG, save(weights, meta=meta), device="cpu")
    assert detector.dataset_meta["classes"] == classes
    assert not detector.training
    for key, value in detector.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


@pytest.mark.parametrize(
    ("arguments", "meta", "named"),
    [
        (dict(cfg_options={"model.num_queries": 9}), {}, "query_embedding.weight"),
        ({}, dict(dataset_meta=dict(classes=("a", "b"))), "num_classes is 3, but .*epoch_1.pth has 2"),
        (dict(device="quantum"), {}, "device 'quantum'"),
        (dict(checkpoint="none.pth"), {}, "none.pth"),
        (dict(cfg_options={_PIPELINE: [dict(type="TestTimeAug", transforms=[])]}), {}, "TestTimeAug"),
        (dict(cfg_options={_PIPELINE: [dict(type="PackDetInputs")]}), {}, "begins with PackDetInputs"),
    ],
)
def test_what_does_not_fit_is_refused(model, save, arguments, meta, named):
    weights = save(model.state_dict(), meta=meta)
    with pytest.raises(InputError, match=named):
        init_detector(**dict(dict(config=CONFIG, checkpoint=weights, device="cpu"), **arguments))


def test_without_a_checkpoint_it_is_as_initialised(model):
    """A pretrained backbone is not fetched."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="none.pth")
    torch.manual_seed(0)
    detector = init_detector(cfg, device="cpu")
    assert not detector.training and detector.dataset_meta["classes"] == ["circle", "square", "triangle"]
    for key, value in detector.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_bad_images_and_predictions_are_named(detector, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"")
    with pytest.raises(InputError, match="torn.png is empty"):
        inference_detector(detector, tmp_path / "torn.png")
    for parameter in detector.bbox_head.cls_branches.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="image 0"):
        inference_detector(detector, np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(NonFiniteError, match="image 5"):
        detect_batch(detector, [prepare(detector, np.zeros((64, 64, 3), np.uint8))], first=5)
