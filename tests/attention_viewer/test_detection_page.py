"""Images sent to a server on a free port: what is found, what is refused, and that nothing stays."""

import http.client
import io
import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image

from projects.attention_viewer import detection_page
from projects.attention_viewer.frame import META_KEYS
from projects.attention_viewer.page import add_view, image_data
from projects.attention_viewer.view import View
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import inference_detector

pytest.importorskip("waitress", reason="waitress is not installed")


def ask(address: tuple[str, int], method: str, path: str, body=None, **headers) -> tuple[int, str, dict]:
    """Status, text and headers of an answer."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


def send(address: tuple[str, int], content: bytes, name: str = "picture.png", **headers) -> tuple[int, str]:
    return ask(address, "POST", f"/detect?name={quote(name)}", content, **headers)[:2]


def scores_of(text: str) -> torch.Tensor:
    """Those in the JSON of an answer."""
    return torch.tensor([ann["score"] for ann in json.loads(text)["coco"]["annotations"]])


def noise(height: int = 40, width: int = 60, seed: int = 0, dtype=np.uint8) -> np.ndarray:
    shape = (height, width) if dtype == np.uint16 else (height, width, 3)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    """A photo that a camera held upright has written, 60 x 40, to be shown as 40 x 60."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(), "JPEG", exif=exif)


@pytest.fixture
def detector(build):
    return build("two_stage")


@pytest.fixture
def address(detector, serve):
    return serve(detection_page.DetectionPage(detector, "tiny", score_thr=0.0))


@pytest.mark.parametrize("variant", ["base", "two_stage", "encoder_only", "detr", "dat"])
def test_finds_what_inference_detector_finds(variant, build, serve, tmp_path):
    detector = build(variant)
    detector.test_pipeline[-1].meta_keys = META_KEYS
    (tmp_path / "photo.jpg").write_bytes(content := rotated())
    sample = inference_detector(detector, tmp_path / "photo.jpg")
    expected = sample.pred_instances
    score_thr = float(expected.scores[2])
    page = detection_page.DetectionPage(detector, "tiny", score_thr)
    status, text = send(serve(page), content, "photo & more #1.jpg")
    assert status == 200
    coco = json.loads(text)["coco"]
    assert coco["images"] == [dict(id=1, file_name="photo & more #1.jpg", width=40, height=60)]
    assert [c["name"] for c in coco["categories"]] == list(detector.dataset_meta["classes"])
    expected = expected[expected.scores >= score_thr]
    boxes = torch.tensor([ann["bbox"] for ann in coco["annotations"]])
    boxes[:, 2:] += boxes[:, :2]
    assert len(boxes) >= 3
    torch.testing.assert_close(boxes, expected.bboxes)
    torch.testing.assert_close(scores_of(text), expected.scores)
    assert [ann["category_id"] - 1 for ann in coco["annotations"]] == expected.labels.tolist()
    assert {ann["image_id"] for ann in coco["annotations"]} == {1}

    view = View.of(detector, tmp_path / "photo.jpg")
    image = image_data("photo & more #1.jpg", view.image)
    add_view(image, view)
    assert json.loads(text)["image"] == json.loads(json.dumps(image))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(noise()[..., 0]),
        Image.fromarray(noise()).convert("P"),
        Image.fromarray(noise()).convert("CMYK"),
        Image.fromarray(noise()).convert("LA"),
        Image.fromarray(noise(1, 1)),
        Image.fromarray(noise(1, 300)),
    ],
    ids=lambda image: f"{image.mode} {image.size}",
)
def test_pictures_of_all_kinds_are_read_as_from_a_file(image, detector, address, tmp_path):
    form = "TIFF" if image.mode == "CMYK" else "PNG"
    path = tmp_path / f"picture.{form.lower()}"
    path.write_bytes(content := encoded(image, form))
    status, text = send(address, content)
    assert status == 200, text
    torch.testing.assert_close(scores_of(text), inference_detector(detector, path).pred_instances.scores)
    (found,) = json.loads(text)["coco"]["images"]
    assert (found["width"], found["height"]) == image.size


def pages_of_zeros(count: int) -> bytes:
    page = Image.new("L", (5000, 5000))
    options = dict(save_all=True, append_images=[page] * (count - 1), compression="tiff_adobe_deflate")
    return encoded(page, "TIFF", **options)


BAD = {
    "text": (b"I am no image", 422, "is not an image"),
    "empty": (b"", 422, "is empty"),
    "truncated": (encoded(noise(), "JPEG")[:-600], 422, "cut short or damaged"),
    "truncated head": (encoded(noise())[:20], 422, "cut short"),
    "16 bits": (encoded(noise(dtype=np.uint16)), 422, "holds uint16"),
    "100 million pixels": (encoded(Image.new("1", (10000, 10000))), 413, "more than 89 million pixels"),
    "400 million pixels": (encoded(Image.new("1", (20000, 20000))), 413, "more than 89 million pixels"),
    "100 million pixels in pages": (pages_of_zeros(4), 413, "more than 89 million pixels"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_image_gets_a_line(kind, address, monkeypatch):
    content, expected, message = BAD[kind]
    assert len(content) < 200_000
    if expected == 413:
        monkeypatch.setattr(detection_page, "decode_image", None)  # nothing is decoded
    status, text = send(address, content, "my.png")
    assert (status, text.count("\n")) == (expected, 0)
    assert message in text and text.startswith("image my.png ")
    assert send(address, encoded(noise()))[0] == 200 or expected == 413


def test_many_channels_in_a_tiff_of_few_bytes_are_counted(address, monkeypatch):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    buffer = io.BytesIO()
    values = np.zeros((10, 4000, 4000), np.uint16)
    tifffile.imwrite(buffer, values, planarconfig="separate", compression="zlib", photometric="minisblack")
    monkeypatch.setattr(detection_page, "decode_image", None)
    assert len(buffer.getvalue()) < 500_000 and send(address, buffer.getvalue())[0] == 413


def test_16_bits_for_a_model_of_16_bits(build, serve, tmp_path):
    detector = build("two_stage")
    detector.test_pipeline[0].color_type = "unchanged"
    values = np.stack([noise(dtype=np.uint16)] * 3, 2)
    np.save(tmp_path / "values.npy", values)
    page = detection_page.DetectionPage(detector, "tiny", 0.0)
    status, text = send(serve(page), (tmp_path / "values.npy").read_bytes(), "values.npy")
    expected = inference_detector(detector, tmp_path / "values.npy").pred_instances
    assert status == 200
    torch.testing.assert_close(scores_of(text), expected.scores)


def test_a_file_may_have_so_many_bytes(detector, serve):
    picture = encoded(noise())
    address = serve(detection_page.DetectionPage(detector, "tiny"), max_bytes=len(picture))
    assert send(address, picture)[0] == 200
    assert send(address, picture + b"\0")[0] == 413
    # One that states its length and sends nothing, and one that does not state it and sends without end.
    chunk = b"%x\r\n%s\r\n" % (len(picture) + 1, picture + b"\0")
    for rest in (b"Content-Length: 99999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n" + chunk):
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(b"POST /detect HTTP/1.1\r\nHost: 127.0.0.1\r\n" + rest)
            assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_two_users_at_once_are_both_answered(detector, address, monkeypatch):
    inside, most = [], []

    def look(*args, **kwargs) -> View:
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.05)
        inside.pop()
        return View.of(*args, **kwargs)

    monkeypatch.setattr(detection_page, "View", type("Slow", (), dict(of=staticmethod(look))))
    images = [noise(seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda image: send(address, encoded(image)), images))
    assert most == [1] * 6
    for (status, text), image in zip(answers, images, strict=True):
        expected = inference_detector(detector, Image.fromarray(image)).pred_instances.scores
        assert status == 200
        torch.testing.assert_close(scores_of(text), expected)


def test_who_breaks_off_is_not_waited_for(address, monkeypatch):
    picture, looking, go_on, looks = encoded(noise()), threading.Event(), threading.Event(), []

    def look(*args, **kwargs) -> View:
        looks.append(args)
        looking.set()
        assert go_on.wait(60)
        return View.of(*args, **kwargs)

    monkeypatch.setattr(detection_page, "View", type("Held", (), dict(of=staticmethod(look))))
    head = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, address, picture)
        assert looking.wait(60)
        for body in (picture[:30], picture):  # in the middle of the image, and before the answer
            with socket.create_connection(address) as connection:
                connection.sendall(head + body)
                threading.Event().wait(0.3)
        threading.Event().wait(0.3)
        go_on.set()
        assert first.result()[0] == 200
    assert send(address, picture)[0] == 200
    assert len(looks) == 2


def test_a_fault_is_told_and_the_next_image_served(detector, address, monkeypatch, caplog):
    picture = encoded(noise())
    with monkeypatch.context() as patch:
        patch.setattr(detection_page, "inference_detector", lambda *_: 1 / 0)
        status, text = send(address, picture, "secret.png")
    assert status == 500 and "ZeroDivisionError" not in text
    assert "ZeroDivisionError" in caplog.text and "secret" not in caplog.text
    assert send(address, picture)[0] == 200


def test_only_its_own_page_may_ask(detector, serve):
    """A site whose name is given the address 127.0.0.1 is of one origin with what is served there."""
    page = detection_page.DetectionPage(detector, "tiny", hosts=("127.0.0.1", "[::1]", "localhost"))
    address, picture = serve(page), encoded(noise())
    port = address[1]
    for host in (f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert ask(address, "GET", "/", Host=host)[0] == 200
        assert send(address, picture, Host=host, Origin=f"http://{host}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
        for method, path in (("GET", "/"), ("POST", "/detect")):
            status, text, _ = ask(address, method, path, picture, Host=host)
            assert status == 403 and "127.0.0.1" in text
    for origin in ("http://evil.example", f"http://127.0.0.1:{port + 1}", "null"):
        assert send(address, picture, Host=f"127.0.0.1:{port}", Origin=origin)[0] == 403
    anywhere = serve(detection_page.DetectionPage(detector, "tiny"))
    assert ask(anywhere, "GET", "/", Host="gpu-server")[0] == 200


def test_what_is_served(address):
    status, text, headers = ask(address, "GET", "/")
    assert status == 200 and "connect-src 'self'" in text and "<title>tiny</title>" in text
    assert headers["Cache-Control"] == "no-store" and "frame-ancestors 'none'" in headers.values()
    assert ask(address, "GET", "/detect")[0] == ask(address, "POST", "/")[0] == 405
    assert ask(address, "GET", "/../tools/serve.py")[0] == ask(address, "GET", "/favicon.ico")[0] == 404
    assert ask(address, "GET", "/", b"x" * 100)[0] == 200


recording = []  # an audit hook can't be taken out


def record_files(event: str, args: tuple) -> None:
    is_written = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if recording and (is_written or event.startswith(("tempfile.", "os.mkdir"))):
        recording.append((event, args[:1]))


def test_nothing_of_an_image_is_kept(address, capfd, caplog):
    """Larger than what waitress, by itself, writes into temporary files: 0.5 MB in, 1 MB out."""
    picture = encoded(noise(900, 1500))
    assert len(picture) > 1_000_000
    sys.addaudithook(record_files)
    recording.append("start")
    status, text = send(address, picture, "secret.png")
    assert send(address, picture[:-100], "secret.png")[0] == 422
    found, recording[:] = recording[:], []
    assert status == 200 and len(text) > 1_000_000
    assert found == ["start"]
    assert not caplog.records and "".join(capfd.readouterr()) == ""


def test_a_model_whose_weights_are_nan_is_named(detector, address):
    detector.bbox_head.reg_branches[-1][-1].bias.data[0] = torch.nan
    status, text = send(address, encoded(noise()), "my.png")
    assert status == 422 and "non-finite predictions" in text and "image my.png: the weights" in text


def test_a_model_whose_attention_is_unknown_is_refused(detector):
    detector.decoder = torch.nn.Module()
    detector.decoder.layers = [torch.nn.Linear(1, 1)]
    with pytest.raises(InputError, match="attention can't be recorded"):
        detection_page.DetectionPage(detector, "tiny")
