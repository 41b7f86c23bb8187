"""One page of HTML that shows attention in a browser: a single file, which fetches nothing."""

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass
class PageImage:
    """An image of a page, and how each model sees it, in the order of the models."""

    name: str
    width: int
    height: int
    source: str  # a data URL of the picture
    max_bytes: int  # of each view
    truth: list[dict] | None = None  # true boxes, each with "box" and "name"
    views: list[dict] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        name: str,
        image: np.ndarray,
        num_models: int,
        truth: TrueBoxes | None = None,
        max_mb: float = MAX_MB,
    ) -> "PageImage":
        """An image (h, w, 3), RGB, uint8, whose views are added by `add`.

        With the views of ``num_models`` models it takes ``max_mb`` megabytes (10^6 bytes) of the page.
        """
        source, (h, w) = jpeg_url(image, _LONGEST, _QUALITY), image.shape[:2]
        boxes = None
        if truth is not None:
            pairs = zip(truth.boxes.tolist(), truth.names, strict=True)
            boxes = [dict(box=[round(x, 1) for x in box], name=name) for box, name in pairs]
        max_bytes = int(max_mb * 1e6) - len(source)
        return cls(name, w, h, source, max_bytes // num_models, boxes)

    def add(self, view: View) -> None:
        """Add how the next model sees it."""
        self.views.append(view_data(view, self.max_bytes))

    def to_dict(self) -> dict:
        """What the page's scripts read; ``views`` as `view_data` describes them."""
        keys = ("name", "width", "height", "source", "truth", "views")
        return {key: getattr(self, key) for key in keys}


def model_data(name: str, classes: Sequence[str]) -> dict:
    """A model as the page's scripts know it."""
    return dict(name=name, classes=list(classes))


def page_data(models: Sequence[dict], images: Sequence[PageImage], score_thr: float = 0.3) -> dict:
    """All that a page shows: ``models`` (`model_data`), ``images`` (`PageImage.to_dict`), ``scales``.

    Detections of ``score_thr`` and more are shown at first.
    """
    scales = {
        name: [to_hex(colour) for colour in matplotlib.colormaps[scale](np.linspace(start, 1, 16))]
        for name, (scale, start) in _SCALES.items()
    }
    shown = [image.to_dict() for image in images]
    return dict(models=list(models), images=shown, scales=scales, score_thr=score_thr)


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
    """Write a page; `InputError` if that can't be done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        title = f"Attention: {', '.join(image['name'] for image in data['images'])}"
        out.write_text(render(data, title), "utf-8", "replace")  # a file's name need not be UTF-8
    except OSError as error:
        raise InputError(f"--html {out}: can't be written ({error.strerror})") from error


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
