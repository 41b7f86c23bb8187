"""Elements of the page; what is put into them is text, whatever is in it."""

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element


def element(name: str, *children: object, **attributes: object) -> Element:
    """An element of HTML or SVG with elements and text in it; None is left out.

    In the names of attributes ``_`` stands for ``-``, but at the end of a word that Python keeps for itself.
    """
    kept = {key.rstrip("_").replace("_", "-"): str(x) for key, x in attributes.items() if x is not None}
    node = Element(name, kept)
    for child in children:
        if isinstance(child, Element):
            node.append(child)
        elif child is not None and len(node):
            node[-1].tail = f"{node[-1].tail or ''}{child}"
        elif child is not None:
            node.text = f"{node.text or ''}{child}"
    return node


def section(title: str, key: str, *children: object) -> Element:
    """A section of the page with the ``key`` as its address."""
    return element(
        "section", element("h2", title, id=f"{key}-title"), *children, id=key, aria_labelledby=f"{key}-title"
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Element:
    """A table, the first column of which names the rows; a frame scrolls it where it is too wide."""
    names = [element("th", name, scope="col") for name in head]
    body = [element("tr", element("th", first, scope="row"), *map(_cell, rest)) for first, *rest in rows]
    parts = element("caption", caption), element("thead", element("tr", *names)), element("tbody", *body)
    frame = dict(class_="frame", role="region", tabindex=0, aria_label=caption)
    return element("div", element("table", *parts), **frame)


def folded(title: str, *children: object) -> Element:
    """What is shown on demand."""
    return element("details", element("summary", title), *children)


def number(value: float | None) -> str:
    """A number as tables show it; a dash of None."""
    return "–" if value is None else f"{value:.3f}"


def _cell(value: object) -> Element:
    is_cell = isinstance(value, Element) and value.tag == "td"
    return value if is_cell else element("td", value)
