"""A trained detector for images; the names and the results are those of ``mmdet.apis``.

detector = init_detector("ddetr_r50_50e_two_stage", pretrained=True)
detector = init_detector("configs/ddetr_r18_custom.py", "work_dirs/bccd/epoch_75.pth")
sample = inference_detector(detector, "cells.jpg")  # sample.pred_instances: bboxes, scores, labels
"""

from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import PIL.Image
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, init_default_scope
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from PIL import ImageOps
from torch import Tensor, nn

from projects.fast_cpu import keep_memory, speed_up

from .checks.class_names import check_num_classes, class_names
from .checks.compiled_ops import check_compiled_ops
from .checks.weights import check_fits
from .data.image_arrays import as_image
from .data.step_errors import name_steps
from .errors import InputError, first_line
from .files.download import download
from .files.model_index import find_model
from .launcher import parse_config, take_settings
from .log import quiet
from .metric.coco_metric import check_finite
from .run_state import input_channels

Image = str | Path | np.ndarray | PIL.Image.Image | Tensor
Item = TypeVar("Item")


def init_detector(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    cfg_options: dict | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """Build a detector and give it the weights of a checkpoint.

    Args:
        config: the config that it was trained with, its file, or the name of a published model.
        checkpoint: a file, an address as in ``load_from``, or the name of a published model; None for a
            detector as initialised, without a pretrained backbone.
        device: as ``torch.device`` takes it; by default the first GPU if there is one, else the CPU.
        cfg_options: settings of the config file to override, e.g. ``{"model.test_cfg.max_per_img": 10}``.
        pretrained: take the published weights of the name that ``config`` is.

    Returns the detector in evaluation mode. ``dataset_meta["classes"]`` are the checkpoint's, or the config's
    if it names none. `InputError` if config or checkpoint can't be read, they do not fit, there is no such
    device, or the detector needs an op of mmcv that is not installed.
    """
    device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} can't be used: {first_line(error)}; cpu always can") from error
    cfg, options = config, cfg_options or {}
    if pretrained:
        checkpoint = find_model(str(config)).weights
    if not isinstance(config, Config):
        cfg = parse_config(Namespace(config=str(config), cfg_options=options))
    init_default_scope(cfg.get("default_scope") or "mmdet")
    contents = None
    if checkpoint is None:
        cfg.model.backbone.init_cfg = None
    else:
        contents = _read(checkpoint)
        take_settings(cfg, contents.get("meta", {}), options)
    detector = MODELS.build(cfg.model)
    check_compiled_ops(detector, cfg.filename)
    detector.cfg, detector.test_pipeline = cfg, build_test_pipeline(cfg)
    if contents is None:
        with quiet():  # mmengine prints a line for each parameter
            detector.init_weights()
        _set_classes(detector, {}, None)
    else:
        load_weights(detector, checkpoint, contents)
    if device.type == "cpu":
        keep_memory()
        speed_up(detector)
    return detector.to(device).eval()


def _read(checkpoint: str | Path) -> dict:
    return CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu")


def load_weights(detector: nn.Module, checkpoint: str | Path, contents: dict | None = None) -> dict:
    """Give a detector the weights and classes of ``checkpoint``; return its ``meta``."""
    contents = contents or _read(checkpoint)
    check_fits(checkpoint, contents.get("state_dict", contents), detector)
    _load_checkpoint_to_model(detector, contents)
    meta = contents.get("meta", {})
    _set_classes(detector, meta, checkpoint)
    return meta


def _set_classes(detector: nn.Module, meta: dict, checkpoint: str | Path | None) -> None:
    classes, source, cfg = class_names(meta), checkpoint, detector.cfg
    if classes is None:
        dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True))
        classes, source = class_names(dataset.metainfo), f"the test_dataloader of {cfg.filename}"
    if classes is None:
        raise InputError(
            f"{cfg.filename}: neither the checkpoint nor the test_dataloader names the classes; give its "
            "dataset metainfo=dict(classes=(...))"
        )
    check_num_classes(detector, classes, source)
    detector.dataset_meta = dict(classes=classes)


def inference_detector(
    detector: nn.Module, images: Image | Iterable[Image], batch_size: int = 1
) -> DetDataSample | list[DetDataSample]:
    """Detect objects in images.

    Args:
        detector: what `init_detector` returns.
        images: one, or several (a list or a generator, say): a path, an ``http://`` or ``https://`` address,
            an array (h, w, 3; BGR) or of the channels of the model (see `as_image`), an image of PIL, or a
            tensor (3, h, w; RGB), uint8 or in [0, 1].
        batch_size: how many of several go through the model at once; no more are held in memory.

    Returns one result, or for several a list of as many. ``pred_instances`` holds ``bboxes`` (n, 4) as x1,
    y1, x2, y2 in pixels of the image given, ``scores`` (n,), falling, in [0, 1], and ``labels`` (n,), indices
    into the classes; all on the CPU. `InputError` if an image can't be read, is of another form, or a
    prediction for it is NaN or infinite.
    """
    if isinstance(images, Image):
        return inference_detector(detector, [images])[0]
    pairs = ((None, prepare(detector, image)) for image in images)
    return [sample for _, sample in detect_each(detector, pairs, batch_size)]


def detect_each(
    detector: nn.Module, pairs: Iterable[tuple[Item, dict]], batch_size: int
) -> Iterator[tuple[Item, DetDataSample]]:
    """Yield each item with what is found in the image beside it, which `prepare` has made ready.

    ``batch_size`` of them go through the model at once; no more are held in memory.
    """
    pairs, first = iter(pairs), 0
    while batch := list(islice(pairs, batch_size)):
        items, prepared = zip(*batch, strict=True)
        yield from zip(items, detect_batch(detector, prepared, first), strict=True)
        first += len(batch)


def detect_batch(detector: nn.Module, prepared: Sequence[dict], first: int = 0) -> list[DetDataSample]:
    """Detect objects in images that `prepare` has made ready; errors number them from ``first`` on."""
    with torch.inference_mode():
        samples = [sample.cpu() for sample in detector.test_step(pseudo_collate(prepared))]
    for number, sample in enumerate(samples, first):
        check_finite(sample.pred_instances, sample.get("img_path", number))
    return samples


def read_image(detector: nn.Module, path: str | Path) -> np.ndarray:
    """Read an image, a file or an address, as the test pipeline of ``detector`` does: `LoadImageFromFile`."""
    if is_address(path):
        with TemporaryDirectory() as folder:
            return read_image(detector, download(str(path), path=Path(folder, file_name(path))))
    return detector.test_pipeline[0](dict(img_path=str(path)))["img"]


def decode_image(detector: nn.Module, content: bytes, name: str) -> np.ndarray:
    """`read_image` of the contents of a file; `InputError`, which says ``name``, if they are no image."""
    return detector.test_pipeline[0].decode(content, name)


def is_address(path: str | Path) -> bool:
    """Whether it begins with ``http://`` or ``https://``."""
    return str(path).startswith(("http://", "https://"))


def file_name(path: str | Path) -> str:
    """The name of a file or of what an address leads to, without folders and query."""
    if is_address(path):
        return str(path).partition("?")[0].rpartition("/")[2] or "image"
    return Path(path).name


@name_steps
def prepare(detector: nn.Module, image: Image, path: str | Path | None = None) -> dict:
    """An image, see `inference_detector`, as the test pipeline of ``detector`` prepares it.

    `InputError`, which names the ``path`` of an array, if the image can't be read, is none (see `as_image`),
    or a step of the pipeline fails.
    """
    path = image if isinstance(image, str | Path) else path
    image = load_image(detector, image)
    any_range = detector.test_pipeline[0].color_type == "unchanged"
    image = as_image(image, input_channels(detector), f"image {path}" if path else "an image", any_range)
    results = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    if path:
        results["img_path"] = str(path)
    for transform in detector.test_pipeline[1:]:
        results = transform(results)
    return results


def load_image(detector: nn.Module, image: Image) -> np.ndarray:
    """An image, see `inference_detector`, as an array: a file's own, or (h, w, 3), BGR, in [0, 255]."""
    if isinstance(image, str | Path):
        return read_image(detector, image)
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Tensor):
        if image.dim() != 3 or len(image) != 3:
            raise InputError(f"a tensor is no image: it is {tuple(image.shape)} instead of (3, h, w)")
        if image.is_floating_point() and ((image >= 0) & (image <= 1)).all():
            image = (image * 255).round().byte()
        pixels = image.detach().cpu().movedim(0, 2).numpy()
    else:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return np.ascontiguousarray(pixels[..., ::-1])


def build_test_pipeline(cfg: Config) -> list:
    """The steps of a config's test pipeline; `InputError` if they do not make one input of one image."""
    if "test_dataloader" not in cfg:
        raise InputError(f"{cfg.filename}: it has no test_dataloader, whose pipeline is needed")
    steps = get_test_pipeline_cfg(cfg)
    if any(step["type"].endswith("TestTimeAug") for step in steps):
        raise InputError(
            f"{cfg.filename}: its test pipeline makes several views of an image (TestTimeAug), which only "
            "tools/test.py merges; give the config that it inherits"
        )
    pipeline = [TRANSFORMS.build(step) for step in steps]
    if not isinstance(pipeline[0], LoadImageFromFile):
        raise InputError(
            f"{cfg.filename}: the test pipeline begins with {steps[0]['type']} and not with LoadImageFromFile"
        )
    return pipeline
