"""The page in Chromium: what it draws is where the record has it; no error, no request."""

from collections.abc import Callable, Sequence

import pytest
import torch
from PIL import Image

from projects.attention_viewer.detections import Detections
from projects.attention_viewer.heat import attention_map
from projects.attention_viewer.page import add_view, image_data, page_data, write_page
from projects.attention_viewer.truth import TrueBoxes
from projects.attention_viewer.view import View

WIDTH, HEIGHT = 128, 96  # of the picture, in pixels
BOXES = {7: [0.0, 0, 40, 40], 2: [90.0, 60, 110, 80], 4: [60.0, 0, 110, 40]}
SCORES = {7: 0.9, 2: 0.8, 4: 0.4}

# Where marks are on the screen, in pixels of the image; each is symmetrical, so that its middle is its place.
READ_MARKS = """marks => marks.map(mark => {
  const box = mark.getBoundingClientRect(), sheet = mark.ownerSVGElement.getBoundingClientRect();
  const image = mark.ownerSVGElement.viewBox.baseVal, data = mark.dataset;
  return [Number(data.head), Number(data.level), Number(data.point), Number(data.weight),
    (box.x + box.width / 2 - sheet.x) / sheet.width * image.width,
    (box.y + box.height / 2 - sheet.y) / sheet.height * image.height];
})"""


@pytest.fixture
def open_page(open_file, tmp_path) -> Callable:
    """Writes a page of views and opens it, see `open_file`."""

    def open_page(*views: View, truth: TrueBoxes | None = None, images: Sequence[View] = (), **context):
        """Views of one image by several models, or of further ``images`` by one."""
        pages = [image_data("picture.png", views[0].image, truth)]
        pages += [image_data(f"{number}.png", view.image) for number, view in enumerate(images, 1)]
        for number, view in enumerate((*views, *images)):
            add_view(pages[max(0, number - len(views) + 1)], view)
        models = [dict(name=f"model {i}", classes=view.classes) for i, view in enumerate(views)]
        write_page(page_data(models, pages), tmp_path / "page.html")
        page = open_file(tmp_path / "page.html", **context)
        page.locator("#layer-name:not(:empty)").wait_for()
        return page

    return open_page


@pytest.fixture
def view_of(see) -> Callable[..., View]:
    """A view of a detector of `build`, with three detections: the queries 7, 2 and 4, best first."""

    def make(variant: str = "two_layers", *args, **kwargs) -> View:
        view = see(variant, *args, **kwargs)
        scores, boxes = torch.full_like(view.detections.scores, 0.01), view.detections.boxes.clone()
        for query, score in SCORES.items():
            scores[:, query] = score
            boxes[:, query] = torch.tensor(BOXES[query])
        view.detections = Detections(scores, torch.ones_like(view.detections.labels), boxes)
        return view

    return make


def click(page, x: float, y: float, panel: int = 0) -> None:
    """Click a place of the image, given in its pixels."""
    sheet = page.locator("svg[role]").nth(panel)
    box = sheet.bounding_box()
    place = dict(x=x / WIDTH * box["width"], y=y / HEIGHT * box["height"])
    sheet.click(position=place, force=True)


def assert_points(
    page, view: View, stage: str, layer: int, query: int, heads=range(4), levels=range(2)
) -> None:
    """The marks are the points of a query that have weight."""
    attention = view.record[stage][layer]
    places = view.frame.to_pixels(attention.locations[0, query])
    expected = {
        (head, level, point): (float(attention.weights[0, query, head, level, point]), *place)
        for head in heads
        for level in levels
        for point, place in enumerate(places[head, level].tolist())
    }
    marks = page.locator(".panel").first.locator(".point").evaluate_all(READ_MARKS)
    assert len(marks) == sum(weight > 0.5 / 255 for weight, *_ in expected.values()) > 0
    for *index, weight, x, y in marks:
        recorded, *place = expected[tuple(index)]
        assert weight == pytest.approx(recorded, abs=0.502 / 255)
        assert (x, y) == pytest.approx(place, abs=0.08)  # of which 0.05 are rounding


def layer_to(page, layer: int) -> None:
    page.locator("#layer").focus()
    page.keyboard.press("Home")
    for _ in range(layer):
        page.keyboard.press("ArrowRight")


@pytest.mark.parametrize("direction", [None, "diagonal"])
def test_a_click_on_a_detection_shows_its_points(direction, view_of, open_page):
    view = view_of("two_layers", direction, size=60)
    page = open_page(view)
    for query in (2, 4, 7):
        x1, y1, x2, y2 = BOXES[query]
        click(page, x2 - 5, y2 - 5)
        assert f"query {query}" in page.locator("output[aria-live]").inner_text()
        for layer in (0, 1):
            layer_to(page, layer)
            assert_points(page, view, "decoder", layer, query)
        chosen = page.locator("rect.chosen")
        found = [float(chosen.get_attribute(name)) for name in ("x", "y", "width", "height")]
        assert found == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=0.051)
        reference = view.frame.to_pixels(view.record["decoder"][1].reference_points[0, query, :2]).tolist()
        said = page.locator("output[aria-live]").inner_text().split("reference ")[1]
        assert [float(word) for word in said.split(";")[0].split(", ")] == pytest.approx(reference, abs=0.051)


def test_heads_and_levels_are_switched(view_of, open_page):
    view = view_of()
    page = open_page(view)
    assert_points(page, view, "decoder", 1, 7)
    page.get_by_label("head 2").uncheck()
    page.get_by_role("checkbox", name="level 0").uncheck()
    assert_points(page, view, "decoder", 1, 7, heads=[0, 1, 3], levels=[1])
    page.locator("#heads").get_by_role("button", name="One").click()
    assert_points(page, view, "decoder", 1, 7, heads=[0], levels=[1])
    page.locator("#heads").get_by_role("button", name="One").click()
    assert_points(page, view, "decoder", 1, 7, heads=[1], levels=[1])
    for group in ("#heads", "#levels"):
        page.locator(group).get_by_role("button", name="All").click()
    page.locator("#zoom").fill("4")
    assert_points(page, view, "decoder", 1, 7)
    page.locator('[value="points"]').uncheck()
    assert page.locator(".point").count() == 0
    assert page.locator("table tr").count() == 1 + min(
        20, int((view.record["decoder"][1].weights[0, 7] > 0.5 / 255).sum())
    )


@pytest.mark.parametrize("direction", [None, "horizontal"])
def test_a_click_elsewhere_shows_the_encoders_points(direction, view_of, open_page):
    """4 x 4 and 2 x 2 tokens lie in the image."""
    view = view_of("two_layers", direction, size=64)
    page = open_page(view)
    click(page, 50, 90)
    assert page.get_by_label("a place, in the encoder").is_checked()
    assert_points(page, view, "encoder", 0, view.token_at(torch.tensor([50.0, 90]), 0))
    page.get_by_label("Cell of level").select_option("1")
    assert_points(page, view, "encoder", 0, view.token_at(torch.tensor([50.0, 90]), 1))
    cell = page.locator("rect.cell")
    assert [float(cell.get_attribute(name)) for name in ("x", "y", "width", "height")] == [0, 48, 64, 48]
    click(page, 5, 5)  # on a detection, but it is the encoder that is looked at
    assert_points(page, view, "encoder", 0, view.token_at(torch.tensor([5.0, 5]), 1))


def test_layers_are_played(view_of, open_page):
    page = open_page(view_of())
    assert page.locator("#layer").input_value() == "1"
    page.get_by_role("button", name="Play").click()
    assert page.locator("#layer").input_value() == "0"
    page.locator("#layer-name", has_text="1 (0 to 1)").wait_for(timeout=3000)
    page.get_by_role("button", name="Stop").click()
    assert page.get_by_role("button", name="Play").is_visible()


def heat_at(page, x: float, y: float) -> float:
    """What the page says of the attention at a place."""
    box = page.locator("svg[role]").first.bounding_box()
    page.mouse.move(box["x"] + x / WIDTH * box["width"], box["y"] + y / HEIGHT * box["height"])
    said = page.locator("div.cursor").first.inner_text()
    place, attention = said.split(": attention ")
    assert [float(word[2:]) for word in place.split(", ")] == pytest.approx([x, y], abs=0.2)
    return float(attention.split()[0])


@pytest.mark.parametrize(
    ("variant", "direction"), [("two_layers", None), ("two_layers", "vertical"), ("detr", "horizontal")]
)
def test_the_map_is_that_of_the_pictures(variant, direction, view_of, open_page):
    """At the centres of its cells."""
    view = view_of(variant, direction, size=128)
    page = open_page(view)
    if variant != "detr":  # whose map is shown from the start
        page.get_by_label("heat map").check()
    click(page, 20, 20)

    def assert_map(stage: str, query: int, heads: list[int]) -> None:
        heat = attention_map(view.record[stage][-1], [query], heads)
        h, w = heat.shape
        for row, column in ((0, 0), (h // 2, w // 3), (h - 1, w - 1), divmod(int(heat.argmax()), w)):
            place = view.frame.to_pixels(torch.tensor([(column + 0.5) / w, (row + 0.5) / h])).tolist()
            expected = float(heat[row, column])
            assert heat_at(page, *place) == pytest.approx(expected, abs=0.02 + 0.05 * float(heat.max()))

    assert_map("decoder", 7, [0, 1, 2, 3])
    page.get_by_label("head 0").uncheck()
    assert_map("decoder", 7, [1, 2, 3])
    page.get_by_label("a place, in the encoder").check()
    click(page, 100, 70)
    assert_map("encoder", view.token_at(torch.tensor([100.0, 70]), 0), [1, 2, 3])


def test_a_backbones_points_are_shown(view_of, open_page):
    view = view_of("dat", "horizontal", size=60)
    page = open_page(view)
    page.get_by_label("a place, in the backbone").check()
    for number, block in enumerate(view.record["backbone"]):
        layer_to(page, number)
        click(page, 100, 70)
        _, points, weights = block.seen_from(view.input_frame.to_units(torch.tensor([100.0, 70])))
        shares = weights.unflatten(0, (len(points), -1)).mean(1)
        places = view.input_frame.to_pixels(points)
        data = page.locator(".point").evaluate_all(
            "marks => marks.map(({dataset: d}) => [d.head, d.point, d.weight, d.x, d.y])"
        )
        assert data
        for heads, point, *found in data:
            group = int(heads.split(",")[0]) * len(points) // 4
            expected = [float(shares[group, int(point)]), *places[group, int(point)].tolist()]
            assert float(found[0]) == pytest.approx(expected[0], abs=0.51 / 255)
            assert [float(x) for x in found[1:]] == pytest.approx(expected[1:], abs=0.051)


def test_two_models_share_cursor_and_choice(view_of, open_page):
    first, second = view_of(), view_of("detr")
    second.detections.boxes[:, 2] += 3
    page = open_page(first, second)
    click(page, 105, 75)
    said = page.locator("output[aria-live]").all_inner_texts()
    assert len(said) == 2 and all("query 2" in text for text in said)
    assert page.locator("div.cursor").all_inner_texts()[1].startswith("x 105.")
    lines = page.locator("line.cursor.x").evaluate_all("lines => lines.map(line => line.getAttribute('x1'))")
    assert len(lines) == 2 and lines[0] == lines[1]
    click(page, 10, 10, panel=1)
    assert_points(page, first, "decoder", 1, 7)
    assert page.locator("canvas:visible").count() == 2  # of DETR there is nothing else to see


def test_without_a_decoder_the_encoder_is_looked_at(view_of, open_page):
    view = view_of("encoder_only", size=64)
    page = open_page(view)
    assert_points(page, view, "encoder", 0, view.token_at(torch.tensor([20.0, 20]), 0))
    assert not page.get_by_label("a detection, in the decoder").is_visible()
    page.get_by_label("Detection of").select_option(label="2. square 0.80")
    assert_points(page, view, "encoder", 0, view.token_at(torch.tensor([100.0, 70]), 0))


def test_images_are_chosen_at_the_top_and_by_the_address(view_of, open_page):
    first, second = view_of(), view_of("two_layers", "horizontal")
    page = open_page(first, images=[second])
    assert_points(page, first, "decoder", 1, 7)
    page.locator("#image").select_option("1")
    page.wait_for_url("**/page.html#1")
    page.locator("svg[aria-label^='1.png']").wait_for()
    assert_points(page, second, "decoder", 1, 7)
    page.go_back()
    page.locator("svg[aria-label^='picture.png']").wait_for()
    assert_points(page, first, "decoder", 1, 7)
    for there_is_none in ("2", "-1", "0.5", "top", "length"):
        page.evaluate("number => location.hash = number", "1")
        page.locator("svg[aria-label^='1.png']").wait_for()
        page.evaluate("number => location.hash = number", there_is_none)
        page.locator("svg[aria-label^='picture.png']").wait_for()
        assert page.locator("#image").input_value() == "0"


def test_the_image_that_was_chosen_last_is_shown(view_of, open_page):
    """Whichever is unpacked first."""
    first, second = view_of(), view_of("two_layers", "horizontal")
    page = open_page(first, images=[second])
    page.evaluate("""() => { const all = unpackAll, kept = page.images[1].views[0];
        window.unpackAll = async (json) => {
            if (json === kept) await new Promise((done) => window.goOn = done);
            return all(json); }; }""")
    page.locator("#image").select_option("1")
    page.wait_for_function("Boolean(window.goOn)")
    page.locator("#image").select_option("0")
    page.wait_for_url("**/page.html#0")
    page.evaluate("goOn()")
    page.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert page.locator("svg[aria-label^='picture.png']").count() == 1
    assert_points(page, first, "decoder", 1, 7)


def test_scores_and_classes_choose_what_is_shown(view_of, open_page):
    view = view_of()
    view.detections.labels[:, 2] = 2
    page = open_page(view)
    click(page, 5, 5)
    page.keyboard.press("Escape")
    assert page.locator("rect.found").count() == 3
    page.locator("#score").fill("0.5")
    assert page.locator("rect.found").count() == 2
    page.get_by_role("checkbox", name="triangle").uncheck()
    assert page.locator("rect.found").count() == 1
    assert page.locator("figure option").all_inner_texts() == ["none of 1", "1. square 0.90"]


def test_true_boxes_and_pairs(view_of, open_page):
    """A name is text, whatever is in it."""
    view = view_of()
    view.matches = torch.tensor([[4, -1], [7, 2]])
    hostile = "<img src=x onerror=alert(1)>"
    truth = TrueBoxes(torch.tensor([[1.0, 2, 41, 38], [90, 50, 110, 80]]), ["square", hostile])
    page = open_page(view, truth=truth)
    assert "matched with the true square" in page.locator("output[aria-live]").inner_text()
    click(page, 10, 10)
    page.keyboard.press("Escape")
    assert page.locator("svg text").all_text_contents() == ["square", hostile]
    page.get_by_label("pairs that the losses match").check()
    read = "lines => lines.map(line => ['x1', 'y1', 'x2', 'y2'].map(name => Number(line.getAttribute(name))))"
    pairs = page.locator("line.paired").evaluate_all(read)
    assert pairs == [[21, 20, 20, 20], [100, 65, 100, 70]]
    layer_to(page, 0)
    assert page.locator("line.paired").evaluate_all(read) == [[21, 20, 85, 20]]


def test_every_control_is_reached_and_named(view_of, open_page):
    view = view_of()
    view.matches = torch.tensor([[7], [7]])
    page = open_page(view, truth=TrueBoxes(torch.tensor([[1.0, 2, 41, 38]]), ["square"]))
    is_control = "input, select, button, summary, svg[tabindex]"
    visible = [one for one in page.locator(is_control).all() if one.is_visible()]
    names = page.locator(is_control).evaluate_all(
        """all => all.filter(one => one.checkVisibility()).map(one => one.getAttribute("aria-label")
            || [...(one.labels ?? [])].map(label => label.innerText).join(" ").trim() || one.innerText)"""
    )
    assert len(names) == len(visible) > 20 and all(names)
    page.locator("body").click(position=dict(x=2, y=2))
    reached = set()
    for _ in range(2 * len(visible)):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML"))
    radios = page.locator("input[type=radio]:visible").count()  # one stop of the keyboard for all of them
    assert len(reached - {page.evaluate("document.body.outerHTML")}) >= len(visible) - radios + 1


def test_the_keyboard_looks_anywhere(view_of, open_page):
    view = view_of()
    page = open_page(view)
    page.locator("svg[role]").focus()
    for _ in range(16):  # from the middle, each a fiftieth of the width
        page.keyboard.press("ArrowRight")
    for _ in range(20):
        page.keyboard.press("Shift+ArrowDown")
    assert page.locator("div.cursor").inner_text() == "x 105.0, y 68.0"
    page.keyboard.press("Enter")
    assert_points(page, view, "decoder", 1, 2)
    page.keyboard.press("Escape")
    assert page.locator(".point").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_when_narrow_and_dark(scheme, view_of, open_page, contrasts):
    """Contrast as WCAG 2.2 counts it, 1.4.3: 4.5 for text."""
    page = open_page(view_of(), view_of(), viewport=dict(width=400, height=800), color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("svg[role]").last.bounding_box()["width"] > 350
    found, paper = contrasts(page, "body", "footer")
    assert (paper < 0.1) == (scheme == "dark") and min(found) >= 4.5


@pytest.mark.parametrize(("size", "width"), [((48, 128), 0.9 * 900 * 48 / 128), ((4, 128), 12 * 16)])
def test_a_high_image_is_seen_whole(size, width, build, open_page, tmp_path):
    """But where it would be too narrow; its points are where they are in the image all the same."""
    Image.new("RGB", size).save(tmp_path / "high.png")
    view = View.of(build("two_layers"), tmp_path / "high.png")
    page = open_page(view)
    box = page.locator("svg[role]").bounding_box()
    assert box["width"] == pytest.approx(width, abs=1)
    assert box["height"] == pytest.approx(width * size[1] / size[0], rel=0.01)
    assert_points(page, view, "decoder", 1, int(view.detections.scores[-1].argmax()))


def test_levels_differ_in_their_marks(view_of, open_page):
    page = open_page(view_of())
    shapes = {page.locator(f'.point[data-level="{level}"]').first.get_attribute("d") for level in (0, 1)}
    legend = set(
        page.locator("#levels path").evaluate_all("marks => marks.map(mark => mark.getAttribute('d'))")
    )
    assert len(shapes) == 2 and shapes == legend
