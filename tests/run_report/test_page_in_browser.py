"""The page in Chromium: boxes are where they are in the image; no error, no request."""

from collections.abc import Callable

import numpy as np
import pytest

from projects.attention_viewer.page import write_html
from projects.run_report.charts import line_chart
from projects.run_report.error_kinds import judge
from projects.run_report.page import config_section, render, summary_section
from projects.run_report.pictures import Shown, picture_section, worst
from projects.run_report.tables import confusion_section, kind_section

WIDTH, HEIGHT = 200, 100  # of the image, in pixels
CLASSES = ("red", "<b>blue</b>")
TRUE = [([10, 10, 50, 50], 0), ([100, 10, 140, 50], 0), ([150, 60, 190, 95], 1)]
FOUND = [([10, 10, 50, 48], 0, 0.9), ([12, 10, 52, 50], 0, 0.8), ([100, 10, 140, 50], 1, 0.7)]
# In the order in which they are drawn; the third object is missed.
MARKS = {
    "true-boxes": [box for box, _ in TRUE],
    "found": [FOUND[0][0]],
    "missed": [TRUE[2][0]],
    "wrong-class": [FOUND[2][0]],
    "doubled": [FOUND[1][0]],
}

# Where boxes are on the screen, in pixels of the image.
READ_BOXES = """all => all.map(one => {
  const box = one.getBoundingClientRect(), image = one.ownerSVGElement.getBoundingClientRect();
  const scale = one.ownerSVGElement.viewBox.baseVal.width / image.width;
  return [box.left - image.left, box.top - image.top, box.right - image.left, box.bottom - image.top]
    .map(side => side * scale);
})"""


@pytest.fixture
def open_report(open_file, tmp_path) -> Callable:
    """Writes a page of one image and opens it, see `open_file`."""

    def open_report(**context):
        found = dict(
            bboxes=np.array([box for box, *_ in FOUND], float),
            labels=np.array([label for _, label, _ in FOUND]),
            scores=np.array([score for *_, score in FOUND]),
        )
        boxes, labels = np.array([box for box, _ in TRUE], float), np.array([label for _, label in TRUE])
        judged = [judge(found, dict(boxes=boxes, labels=labels, crowd=np.zeros(3, bool)))]
        image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        shown = [Shown("a picture.png", image, judged[i], "page.html#3") for i in worst(judged, 20)]
        sections = [
            summary_section({"Folder": "a/folder"}),
            kind_section(judged, judged, 2, 0.3),
            picture_section(shown, CLASSES, 0.3),
            confusion_section(np.arange(9).reshape(3, 3), CLASSES, 0.3),
            config_section("text = 1"),
        ]
        sections[0].append(line_chart("Loss", "epoch", {"loss": [(1, 2.0), (2, 1.0)]}))
        write_html(render("Run", sections), tmp_path / "report.html", "--out")
        return open_file(tmp_path / "report.html", **context)

    return open_report


def test_boxes_are_where_they_are_in_the_image(open_report):
    page = open_report()
    for kind, boxes in MARKS.items():
        marks = page.locator(f".picture .{kind} rect:not(.under)").evaluate_all(READ_BOXES)
        np.testing.assert_allclose(marks, boxes, atol=0.1)
    assert page.locator(".picture .box").count() == sum(map(len, MARKS.values()))
    texts = page.locator(".picture text").all_text_contents()
    assert texts == ["M <b>blue</b>", "C <b>blue</b> 0.70", "D red 0.80"]
    image = page.locator(".picture image").evaluate("one => one.getBBox().width")
    assert image == WIDTH


def test_kinds_are_hidden_and_shown(open_report):
    page = open_report()
    for kind, boxes in MARKS.items():
        marks = page.locator(f".picture .{kind}:visible")
        assert marks.count() == len(boxes)
        page.locator(f"#show-{kind}").focus()
        page.keyboard.press("Space")
        assert marks.count() == 0
    assert page.locator(".picture .box:visible").count() == 0
    page.get_by_role("checkbox", name="missed").check()
    assert page.locator(".picture .box:visible").count() == 1


def test_errors_are_told_in_words(open_report):
    """To those who do not see the picture."""
    page = open_report()
    counts = "1 missed, 1 wrong class, 1 doubled"
    assert page.get_by_role("img", name=f"a picture.png: {counts}").count() == 1
    page.get_by_text("All errors of this image").click()
    listed = page.get_by_role("table", name="Errors in a picture.png").get_by_role("row").all_inner_texts()
    assert [row.split("\t") for row in listed[1:]] == [
        ["missed", "–", "–", "<b>blue</b>", "–", "150, 60, 190, 95"],
        ["wrong class", "<b>blue</b>", "0.70", "red", "1.00", "100, 10, 140, 50"],
        ["doubled", "red", "0.80", "red", "0.90", "12, 10, 52, 50"],
    ]
    link = page.get_by_role("link", name="where attention looked")
    assert link.get_attribute("href") == "page.html#3"


def test_every_control_is_reached_and_named(open_report):
    page = open_report()
    controls = "input, summary, a, [tabindex]"
    names = page.locator(controls).evaluate_all(
        """all => all.filter(one => one.checkVisibility()).map(one => one.getAttribute("aria-label")
            || [...(one.labels ?? [])].map(label => label.innerText).join(" ").trim() || one.innerText)"""
    )
    assert len(names) > 15 and all(names)
    page.locator("body").click(position=dict(x=2, y=2))
    reached = set()
    for _ in range(len(names) + 2):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML"))
    assert len(reached - {page.evaluate("document.body.outerHTML")}) == len(names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_when_narrow_and_dark(scheme, open_report, contrasts):
    page = open_report(viewport=dict(width=400, height=800), color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator(".picture").bounding_box()["width"] > 350
    found, paper = contrasts(page, "body", "caption", "a", "summary", "dt", "thead th")
    assert (paper < 0.1) == (scheme == "dark") and min(found) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_are_readable_on_their_shades(scheme, open_report):
    """The darkest is that of a share of all; drawn onto a canvas, which makes plain numbers of any colour."""
    page = open_report(color_scheme=scheme)
    cells = page.locator(".confusion td")
    colours = cells.evaluate_all(
        """cells => { const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
            const read = colour => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
            cells[0].style.setProperty("--share", "100%");
            const style = getComputedStyle(cells[0]);
            return [read(style.color), read(style.backgroundColor)]; }"""
    )

    def luminance(colour: list[int]) -> float:
        return float(np.dot((0.2126, 0.7152, 0.0722), (np.array(colour) / 255) ** 2.2))

    darker, lighter = sorted(map(luminance, colours))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
