"""A page to which images are given: detections and attention of each, of one detector in this process."""

import json
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from threading import Lock
from urllib.parse import parse_qs, urlsplit

from PIL import Image
from torch import nn

from projects.reliable_runner.data.stored_values import stated_pixels
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import decode_image, inference_detector
from projects.reliable_runner.metric.coco_results import CocoResults

from .page import add_view, image_data, page_data, render
from .record import find_attentions
from .view import View

MAX_BYTES = 32 * 2**20  # of an image file
MAX_PIXELS = Image.MAX_IMAGE_PIXELS  # 89 million; a file of a few kilobytes may ask for any number
_LONGEST_NAME = 200
_HEADERS = [
    ("Cache-Control", "no-store"),  # browsers keep files, too
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
]


class Refusal(Exception):
    """A request that is not served: a status of HTTP, and a line that says why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class DetectionPage:
    """A WSGI application: the page, and what is found in each image that it sends.

    ``GET /`` is the page. ``POST /detect?name=NAME`` with the contents of an image file gives JSON: ``image``
    as of `image_data`, ``coco``, the detections as tools/infer.py writes them. What is refused gets a
    line of text. One image at a time goes through the model, and nothing of it outlives its request.

    Args:
        detector: what `init_detector` returns.
        name: of the detector, for the page.
        score_thr: the least score of a detection in ``coco``, and at first in the page.
        hosts: names by which browsers may ask; None for any. Another site can give a name of its own this
            machine's address, and what it asks would then be of one origin with the page (DNS rebinding).

    Raises:
        InputError: the attention of the model can't be recorded.
    """

    def __init__(
        self, detector: nn.Module, name: str, score_thr: float = 0.3, hosts: Iterable[str] | None = None
    ) -> None:
        for stage in ("encoder", "decoder"):
            find_attentions(detector, stage)
        self.detector, self.score_thr = detector, score_thr
        self.hosts = None if hosts is None else sorted(hosts)
        data = page_data([dict(name=name, classes=detector.dataset_meta["classes"])], [], score_thr)
        self.page = render(data | dict(max_bytes=MAX_BYTES), name, takes_images=True).encode(errors="replace")
        self._lock = Lock()

    def __call__(self, environ: dict, start_response: Callable) -> list[bytes]:
        """Answer a request, as WSGI (PEP 3333) has it."""
        try:
            self._check_asker(environ)
            status, (kind, body) = HTTPStatus.OK, self._answer(environ)
        except Refusal as refusal:
            status, kind, body = refusal.status, "text/plain", str(refusal).encode()
        headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers + _HEADERS)
        return [body]

    def _check_asker(self, environ: dict) -> None:
        host = environ.get("HTTP_HOST", "").lower()
        if self.hosts is not None and re.sub(r":\d+$", "", host) not in self.hosts:
            raise Refusal(HTTPStatus.FORBIDDEN, f"this server answers to {', '.join(self.hosts)} alone")
        if "HTTP_ORIGIN" in environ and urlsplit(environ["HTTP_ORIGIN"]).netloc.lower() != host:
            raise Refusal(HTTPStatus.FORBIDDEN, "this server answers to no page but its own")

    def _answer(self, environ: dict) -> tuple[str, bytes]:
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "GET", "/":
                return "text/html", self.page
            case "POST", "/detect":
                name = parse_qs(environ["QUERY_STRING"]).get("name", ["image"])[0][:_LONGEST_NAME]
                content = environ["wsgi.input"].read()
                check_pixels(content, name)
                with self._lock:
                    # Those who have gone while others were served are not waited for.
                    is_gone = environ["waitress.client_disconnected"]()
                    found = {} if is_gone else self._detect(content, name)
                return "application/json", json.dumps(found, separators=(",", ":")).encode()
            case _, "/" | "/detect":
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "here are GET / and POST /detect")
        raise Refusal(HTTPStatus.NOT_FOUND, "here are / and /detect")

    def _detect(self, content: bytes, name: str) -> dict:
        detector, results = self.detector, CocoResults(self.detector.dataset_meta["classes"])
        try:
            array = decode_image(detector, content, name)
            view = View.of(detector, array, name=name)
            sample = inference_detector(detector, array)
        except InputError as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        image = image_data(name, view.image)
        add_view(image, view)
        found = sample.pred_instances
        sample.pred_instances = found[found.scores >= self.score_thr]
        results.add(name, sample)
        return dict(image=image, coco=results.to_dict())


def check_pixels(content: bytes, name: str) -> None:
    """Refuse an image file that says it is larger than `MAX_PIXELS`."""
    try:
        is_too_large = stated_pixels(content) > MAX_PIXELS
    except Image.DecompressionBombError:
        is_too_large = True
    except Exception:  # whoever decodes it tells what is wrong
        is_too_large = False
    if is_too_large:
        message = f"image {name} has more than {MAX_PIXELS // 10**6} million pixels"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
