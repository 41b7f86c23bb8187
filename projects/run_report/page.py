"""The page: one file of HTML, which runs no script and fetches nothing."""

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from .markup import element, folded, section

_WEB = Path(__file__).with_name("web")


def summary_section(facts: dict[str, object]) -> Element:
    """What the page is of, a name and a value each."""
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in facts.items()]
    return section("Run", "run", element("dl", *rows))


def config_section(text: str) -> Element:
    return section("Config", "config", folded("All settings", element("pre", text, tabindex=0)))


def render(title: str, sections: Sequence[Element]) -> str:
    """The page of sections: ``web/report.html`` with its style sheet and them inside."""
    links = [element("a", part.findtext("h2"), href=f"#{part.get('id')}") for part in sections]
    return Template(_read("report.html")).substitute(
        title=html.escape(title),
        style=_read("report.css"),
        links="\n".join(map(_markup, links)),
        sections="\n".join(map(_markup, sections)),
    )


def _markup(node: Element) -> str:
    return ElementTree.tostring(node, encoding="unicode", method="html")


def _read(name: str) -> str:
    return (_WEB / name).read_text("utf-8")
