"""One page of HTML that shows attention in a browser: a single file, which fetches nothing."""

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from projects.reliable_runner.errors import InputError

from .truth import TrueBoxes
from .view import View
from .view_data import view_data

MAX_MB = 5  # of an image with all that is shown of it, unless a caller says otherwise
_WEB = Path(__file__).with_name("web")
_LONGEST = 1600  # side of the picture in the page; positions stay those of the original image
_QUALITY = 88  # of its JPEG
_DATA = '<script id="data" type="application/json">'
# Maps of matplotlib and where they start; the colour-blind read both.
_SCALES = dict(weights=("viridis", 0), heat=("inferno", 0.25))


def image_data(name: str, image: np.ndarray, truth: TrueBoxes | None = None) -> dict:
    """An image (h, w, 3), RGB, uint8, as the page's scripts know it; `add_view` adds its ``views``."""
    boxes = None
    if truth is not None:
        pairs = zip(truth.boxes.tolist(), truth.names, strict=True)
        boxes = [dict(box=[round(x, 1) for x in box], name=name) for box, name in pairs]
    (h, w), source = image.shape[:2], jpeg_url(image, _LONGEST, _QUALITY)
    return dict(name=name, width=w, height=h, source=source, truth=boxes, views=[])


def add_view(image: dict, view: View, max_mb: float = MAX_MB, num_models: int = 1) -> None:
    """Add how the next model sees an image of `image_data`, as `view_data` describes it.

    With the views of ``num_models`` models the image takes ``max_mb`` megabytes (10^6 bytes) of the page.
    """
    max_bytes = int(max_mb * 1e6) - len(image["source"])
    image["views"].append(view_data(view, max_bytes // num_models))


def page_data(models: Sequence[dict], images: Sequence[dict], score_thr: float = 0.3) -> dict:
    """All that a page shows: ``models`` (``name``, ``classes``), ``images`` (`image_data`), ``scales``.

    Detections of ``score_thr`` and more are shown at first.
    """
    scales = {
        name: [to_hex(colour) for colour in matplotlib.colormaps[scale](np.linspace(start, 1, 16))]
        for name, (scale, start) in _SCALES.items()
    }
    return dict(models=models, images=images, scales=scales, score_thr=score_thr)


def render(data: dict, title: str, takes_images: bool = False) -> str:
    """The page of `page_data`: ``web/page.html`` with its style sheet, its scripts and the data inside.

    One that ``takes_images`` sends them to the server that it comes from, a `DetectionPage`.
    """
    page = _read("page.html")
    if takes_images:
        page = page.replace("default-src 'none'", "default-src 'none'; connect-src 'self'")
        page = page.replace("</header>", f"</header>\n{_read('upload.html')}")
    page = page.replace("<title></title>", f"<title>{html.escape(title)}</title>")
    for link, tag in (
        (r'<link rel="stylesheet" href="(.+)">', "style"),
        (r'<script src="(.+)"></script>', "script"),
    ):
        page = re.sub(link, lambda m, tag=tag: f"<{tag}>\n{_read(m[1])}</{tag}>", page)
    # Nothing in the data may end the element that it stands in.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return page.replace(_DATA, _DATA + text)


def _read(name: str) -> str:
    return (_WEB / name).read_text("utf-8")


def write_page(data: dict, out: Path) -> None:
    """Write the page of `page_data`, see `write_html`."""
    title = f"Attention: {', '.join(image['name'] for image in data['images'])}"
    write_html(render(data, title), out, "--html")


def write_html(text: str, out: Path, option: str) -> None:
    """Write a page to the file that an ``option`` names; `InputError` if that can't be done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8", "replace")  # a file's name need not be UTF-8
    except OSError as error:
        raise InputError(f"{option} {out}: can't be written ({error.strerror})") from error


def image_names(page: Path) -> list[str]:
    """The images of a written page: the name of the Nth, from 0, which ``page#N`` opens.

    Raises:
        InputError: there is no such page.
    """
    try:
        text = page.read_text("utf-8")
        data = text.partition(_DATA)[2].partition("</script>")[0]
        return [image["name"] for image in json.loads(data)["images"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{page}: this is no page of visualize_attention.py --html ({type(error).__name__})"
        ) from error


def jpeg_url(image: np.ndarray, longest: int, quality: int) -> str:
    """A data URL of an image (h, w, 3), RGB, uint8, as a JPEG whose sides are at most ``longest`` pixels."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((longest, longest))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
