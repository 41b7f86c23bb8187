"""Image and video files from strangers: a result, or an error that a user can read."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image

from projects.deformable_detr.registry import TRANSFORMS
from projects.reliable_runner.errors import InputError

from ..conftest import CONFIG
from .conftest import damaged

MODES = ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"]
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "JPEG2000"]
NAMES = ["png", "jpg", "gif", "bmp", "tif", "webp", "mp4", "avi", "txt"]
SIZES = [(48, 48), (1, 1), (1, 48), (48, 1), (200, 3)]


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than it holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10**5)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encode(mode: str, kind: str, size: tuple[int, int], frames: int) -> bytes:
    """A picture of noise; in PNG where ``kind`` does not hold ``mode``."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    base = Image.fromarray(noise)
    picture = base.convert("L").convert("I") if mode == "I;16" else base
    try:
        picture = picture.convert(mode)
        target = io.BytesIO()
        more = [picture.copy() for _ in range(frames - 1)]
        options = dict(save_all=True, append_images=more) if more else {}
        picture.save(target, kind, **options)
    except (OSError, ValueError, KeyError):
        target = io.BytesIO()
        base.save(target, "PNG")
    return target.getvalue()


@st.composite
def spoilt(draw) -> tuple[str, bytes]:
    """A name, and the bytes of a picture, often damaged, or of something else."""
    name = f"x.{draw(st.sampled_from(NAMES))}"
    kind = draw(st.sampled_from(["picture", "damaged", "damaged", "damaged", "bomb", "text"]))
    if kind == "bomb":
        return name, bomb(*draw(st.sampled_from([(60000, 60000), (2**31 - 1, 1), (0, 5), (13000, 13000)])))
    if kind == "text":
        return name, draw(st.sampled_from([b"<html>404</html>", b""]))
    picture = [st.sampled_from(options) for options in (MODES, FORMATS, SIZES, [1, 1, 3])]
    content = encode(*map(draw, picture))
    return name, draw(damaged(content)) if kind == "damaged" else content


@pytest.mark.parametrize("backend", ["pillow", "cv2"])
def test_reading(tmp_path, fuzz, backend):
    read = TRANSFORMS.build(dict(type="LoadImageFromFile", imdecode_backend=backend))

    def attempt(case: tuple[str, bytes]) -> str:
        path = tmp_path / case[0]
        path.write_bytes(case[1])
        img = read(dict(img_path=str(path)))["img"]
        assert img.ndim == 3 and img.shape[2] == 3 and img.dtype == np.uint8
        return ""

    fuzz(spoilt(), attempt, 60, 1000)


@pytest.mark.parametrize("path", ["/dev/zero", ".", "", "\0", "x" * 5000, "~", "a://b"], ids=len)
def test_names_of_what_is_no_file(path):
    with pytest.raises(InputError):
        TRANSFORMS.build(dict(type="LoadImageFromFile"))(dict(img_path=path))


def test_infer(tmp_path, tool, trained, fuzz):
    folder, weights = tmp_path / "images", tmp_path / "trained.pth"
    torch.save(trained, weights)

    def attempt(case: tuple[str, bytes]) -> str:
        folder.mkdir(exist_ok=True)
        (folder / "folder.jpg").mkdir(exist_ok=True)
        path = folder / case[0]
        path.write_bytes(case[1])
        refused = tool("infer", path, CONFIG, weights, "--out-dir", tmp_path / "out")
        path.unlink()
        return refused

    fuzz(spoilt(), attempt, 4, 60)


def test_train(data, tool, fuzz):
    def attempt(case: tuple[str, bytes]) -> str:
        (data / "train" / "000001.png").write_bytes(case[1])
        return tool("train")

    fuzz(spoilt(), attempt, 2, 20)
