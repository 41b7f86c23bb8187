"""The page: one file of HTML, which runs no script and fetches nothing."""

import html
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from projects.reliable_runner.errors import InputError

from .markup import element, folded, section

_WEB = Path(__file__).with_name("web")


def summary_section(facts: dict[str, object]) -> Element:
    """What the page is of, a name and a value each."""
    rows = [element("div", element("dt", name), element("dd", str(value))) for name, value in facts.items()]
    return section("Run", "run", element("dl", *rows))


def config_section(text: str) -> Element:
    """The text of a config."""
    return section("Config", "config", folded("All settings", element("pre", text, tabindex=0)))


def render(title: str, sections: Sequence[Element]) -> str:
    """The page of sections: ``web/report.html`` with its style sheet and them inside."""
    links = [element("a", part.findtext("h2"), href=f"#{part.get('id')}") for part in sections]
    content = {
        "title": html.escape(title),
        "style": _read("report.css"),
        "links": "\n".join(map(_markup, links)),
        "sections": "\n".join(map(_markup, sections)),
    }
    # Cut at the marks of the page alone: what is put in may hold the same words.
    head, *parts = _read("report.html").split("<!--")
    for part in parts:
        key, rest = part.split("-->", 1)
        head += content[key] + rest
    return head


def write_page(text: str, out: Path) -> None:
    """Write a page; `InputError` if that can't be done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8", "replace")  # a file's name need not be UTF-8
    except OSError as error:
        raise InputError(f"--out {out}: can't be written ({error.strerror})") from error


def _markup(node: Element) -> str:
    return ElementTree.tostring(node, encoding="unicode", method="html")


def _read(name: str) -> str:
    return (_WEB / name).read_text("utf-8")
