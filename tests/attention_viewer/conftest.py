import copy
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from PIL import Image
from torch import nn

from projects.attention_viewer.detection_page import MAX_BYTES, DetectionPage
from projects.attention_viewer.http_server import listen, make_server
from projects.attention_viewer.view import View
from projects.reliable_runner.inference import init_detector

TESTS = Path(__file__).parents[1]
VARIANTS = {
    "base": {},
    "refine": dict(with_box_refine=True),
    "two_stage": dict(with_box_refine=True, as_two_stage=True),
    "two_layers": {"with_box_refine": True, "as_two_stage": True, "decoder.num_layers": 2},
    "encoder_only": dict(decoder=None),
    "levelwise": {"encoder.layer_cfg.self_attn_cfg": dict(type="LevelwiseDeformAttn")},
}


@cache
def read_config(name: str) -> Config:
    return Config.fromfile(TESTS / f"tiny_{name}.py")


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """Detector of tests/tiny_detr.py ("detr"), tiny_dat.py or a variant of tiny_ddetr.py.

    Its pipeline resizes an image to a square (another aspect), flips it if a ``direction`` is given, and
    keeps next to nothing of what the viewer needs.
    """

    def build(variant: str, direction: str | None = None, size: int = 32, divisor: int = 64) -> nn.Module:
        name = variant if variant in ("detr", "dat") else "ddetr"
        cfg = copy.deepcopy(read_config(name))
        if variant == "levelwise":
            cfg.model.encoder.layer_cfg.self_attn_cfg.pop("num_levels")
        cfg.merge_from_dict({f"model.{key}": value for key, value in VARIANTS.get(variant, {}).items()})
        cfg.model.data_preprocessor.pad_size_divisor = divisor
        flip = [dict(type="RandomFlip", prob=1.0, direction=direction)] if direction else []
        cfg.test_dataloader.dataset.pipeline = [
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(size, size), keep_ratio=False),
            *flip,
            dict(type="PackDetInputs", meta_keys=("img_id",)),
        ]
        torch.manual_seed(0)
        detector = init_detector(cfg, device="cpu")
        for parameter in detector.parameters():  # offsets and weights that differ from query to query
            parameter.data += 0.05 * torch.randn_like(parameter)
        return detector

    return build


@pytest.fixture
def picture(tmp_path) -> Path:
    """128 x 96 pixels, black but for a block from (80, 24) to (96, 36)."""
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[24:36, 80:96] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def see(build, picture) -> Callable[..., View]:
    """The picture as a detector of `build` sees it."""
    return lambda *args, **kwargs: View.of(build(*args, **kwargs), picture)


@pytest.fixture
def padded_batch() -> tuple[torch.Tensor, list[DetDataSample]]:
    """Two images of 128 x 96, the second of which is 64 x 32 without padding."""
    shapes = (96, 128), (32, 64)
    inputs = torch.zeros(2, 3, 96, 128)
    generator = torch.Generator().manual_seed(0)
    for image, (h, w) in zip(inputs, shapes, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w, generator=generator)
    metas = [dict(img_shape=shape, batch_input_shape=(96, 128)) for shape in shapes]
    return inputs, [DetDataSample(metainfo=meta) for meta in metas]


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, int]]]:
    """Serves a `DetectionPage` on a free port in a thread; returns its address."""
    running = []

    def serve(page: DetectionPage, max_bytes: int = MAX_BYTES) -> tuple[str, int]:
        listening = listen("127.0.0.1", 0)
        server = make_server(listening, page, max_bytes)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        return listening.getsockname()

    yield serve
    for server, thread in running:
        everything = list(server._map.values())
        server.trigger.pull_trigger(lambda everything=everything: [one.close() for one in everything])
        server.task_dispatcher.shutdown()
        thread.join(10)
        assert not thread.is_alive()
