"""Images dropped on the page in Chromium: their points, their JSON, and what is said of those refused."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from projects.attention_viewer.detection_page import DetectionPage
from projects.reliable_runner.inference import inference_detector

pytest.importorskip("waitress", reason="waitress is not installed")

SCORE_THR = 0.01  # the model is untrained

DROP = """([name, text]) => {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], name));
  const event = { dataTransfer: files, bubbles: true, cancelable: true };
  for (const name of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(name, event));
}"""


@pytest.fixture
def detector(build):
    return build("two_layers")


@pytest.fixture
def open_page(browser, detector, serve) -> Iterator[Callable]:
    """Opens the page of a server; at the end there was no error, and no request to another."""
    host, port = serve(DetectionPage(detector, "tiny", SCORE_THR))
    said, asked, contexts = [], [], []

    def open_page(**context):
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://{host}:{port}/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in said if "status of 4" not in text] == []  # Chromium tells every refusal
    assert all(url.startswith((f"http://{host}:{port}/", "data:", "blob:")) for url in asked)


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    paths = [tmp_path / "first.png", tmp_path / "second & last.jpg"]
    for seed, path in enumerate(paths):
        pixels = np.random.default_rng(seed).integers(0, 255, (60, 90 + 10 * seed, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def said(page) -> str:
    return page.get_by_role("status").filter(has_text="detections.").inner_text()


def test_images_are_chosen_and_dropped(detector, open_page, pictures, tmp_path):
    page = open_page()
    assert page.locator("main").is_hidden() and page.get_by_text("Download JSON").is_hidden()
    page.get_by_label("Choose images").set_input_files(pictures[0])
    page.get_by_role("status").filter(has_text="first.png").filter(has_text="detections.").wait_for()
    text = b64encode(pictures[1].read_bytes()).decode()
    page.evaluate(DROP, [pictures[1].name, text])
    page.get_by_role("status").filter(has_text="second & last.jpg:").wait_for()
    page.locator("#image").select_option("first.png")
    for path in pictures:
        page.locator("#image").select_option(path.name)
        page.locator(f'svg[aria-label^="{path.name}"]').wait_for()
        expected = inference_detector(detector, path).pred_instances
        found = expected[expected.scores >= SCORE_THR]
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download JSON").click()
        assert waiting.value.suggested_filename == f"{path.stem}.json"
        coco = json.loads(waiting.value.path().read_text())
        assert coco["images"][0]["file_name"] == path.name
        scores = torch.tensor([ann["score"] for ann in coco["annotations"]])
        torch.testing.assert_close(scores, found.scores)
        # The viewer counts a query once, with its best class.
        best = page.locator('select[aria-label="Detection of tiny"] option').nth(1).inner_text()
        assert best.endswith(f"{found.scores[0]:.2f}")
        assert page.locator(".point").count() > 0


@pytest.mark.parametrize("number", [0, 1, 7])
def test_after_a_reload_every_image_is_shown(number, open_page, pictures):
    """The address still names one of before."""
    page = open_page()
    page.evaluate("number => location.hash = number", number)
    page.reload()
    for path in pictures:
        page.get_by_label("Choose images").set_input_files(path)
        page.locator(f'svg[aria-label^="{path.name}"]').wait_for()
    assert page.locator("#image").input_value() == "1"


def test_what_is_refused_is_said(open_page, pictures, tmp_path):
    page = open_page()
    (tmp_path / "notes.txt").write_text("no <b>image</b>")
    (tmp_path / "cut.png").write_bytes(pictures[0].read_bytes()[:-200])
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(32 * 2**20 + 1)
    names = ["notes.txt", "cut.png", "large.png"]
    page.get_by_label("Choose images").set_input_files([*(tmp_path / name for name in names), pictures[1]])
    page.get_by_role("status").filter(has_text="second & last.jpg:").wait_for()
    lines = page.get_by_role("alert").locator("li").all_inner_texts()
    assert [next(name for name in names if name in line) for line in lines] == names
    for line, message in zip(lines, ("is not an image", "cut short", "is larger than 32 MiB"), strict=True):
        assert message in line
    assert page.locator("#image option").count() == 1
    page.get_by_label("Choose images").set_input_files(pictures[0])
    page.locator("#image option").nth(1).wait_for(state="attached")
    assert page.get_by_role("alert").locator("li").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_keyboard_and_narrow_windows(scheme, open_page, pictures):
    page = open_page(viewport=dict(width=400, height=800), color_scheme=scheme)
    page.on("filechooser", lambda chooser: chooser.set_files(pictures[0]))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    page.keyboard.press("Space")
    page.locator("svg[role]").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.keyboard.press("Tab")
    with page.expect_download():
        page.keyboard.press("Enter")
