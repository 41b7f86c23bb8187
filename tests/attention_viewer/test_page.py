"""The file that is written: whole, harmless and not too large; what it does is tested in a browser."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from projects.attention_viewer.page import add_view, image_data, image_names, page_data, render, write_page
from projects.attention_viewer.truth import TrueBoxes
from projects.reliable_runner.errors import InputError

HOSTILE = "</script><script>alert(1)</script>"
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def page(see) -> dict:
    view = see("base")
    truth = TrueBoxes(torch.tensor([[1.25, 2, 30, 40]]), [HOSTILE])
    image = image_data("picture.png", view.image, truth)
    add_view(image, view)
    return page_data([dict(name="tiny", classes=view.classes)], [image])


def data_of(text: str) -> dict:
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


def test_all_of_it_is_inside(page):
    text = render(page, "a <title>")
    assert "<title>a &lt;title&gt;</title>" in text
    assert HOSTILE not in text and data_of(text) == json.loads(json.dumps(page))
    assert data_of(text)["images"][0]["truth"] == [dict(box=[1.2, 2, 30, 40], name=HOSTILE)]
    # No address: what is fetched would have one, but for the name of SVG.
    without = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//\w+\.\w|<link[^>]+stylesheet|<script src|@import|url\(", without)
    assert text.count("<script") == 8 and "default-src 'none'" in text


def test_the_page_of_the_docs_has_the_scripts_of_today(tmp_path):
    shown = DOCS / "attention_page.html"
    write_page(data_of(shown.read_text("utf-8")), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == shown.read_bytes()


@pytest.mark.parametrize(("max_mb", "num_models"), [(0.2, 1), (0.2, 2), (0.5, 1)])
def test_an_image_takes_no_more_than_it_may(max_mb, num_models, see):
    view = see("base", size=640)
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    image = image_data("noise.png", noise)
    for _ in range(num_models):
        add_view(image, view, max_mb, num_models)
    size = len(json.dumps(image, separators=(",", ":")))
    assert 0.3 * max_mb * 1e6 < size <= max_mb * 1e6


def test_where_it_cannot_be_written_is_named(page, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--html .*page.html: can't be written"):
        write_page(page, tmp_path / "file" / "page.html")
    write_page(page, tmp_path / "new" / "page.html")
    assert data_of((tmp_path / "new" / "page.html").read_text("utf-8")) == json.loads(json.dumps(page))


def test_a_name_that_is_no_text_is_shown_and_found(page, tmp_path):
    """Linux takes any bytes, which Python reads as lone surrogates."""
    page["images"][0]["name"] = name = "\udce4.jpg"
    write_page(page, tmp_path / "page.html")
    assert "<title>Attention: ?.jpg" in (tmp_path / "page.html").read_text("utf-8")
    assert image_names(tmp_path / "page.html")[0] == name
