"""Class names in any script, in letters that the font of a figure has."""

from collections.abc import Callable
from functools import cache, wraps
from unicodedata import bidirectional

from anyascii import anyascii
from matplotlib.font_manager import FontProperties, findfont, get_font


def readable(text: str) -> str:
    """``text`` as it is if the font of ``rcParams["font.family"]`` has it; else in Latin letters."""
    if text.isascii():
        return text
    known = _characters(findfont(FontProperties()))
    return "".join(x if x in known or x == "\n" else anyascii(x) for x in text)


@cache
def _characters(font: str) -> set[str]:
    """Those of a font but for scripts from right to left, which Matplotlib neither turns nor joins."""
    return {x for x in map(chr, get_font(font).get_charmap()) if bidirectional(x) not in ("R", "AL")}


def set_readable(set_text: Callable) -> Callable:
    """``Text.set_text`` of Matplotlib, which would draw a box for each character that the font lacks."""

    @wraps(set_text)
    def set_readable_text(self, s: object) -> None:
        set_text(self, readable(s) if isinstance(s, str) else s)

    return set_readable_text
