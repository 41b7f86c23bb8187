"""Images with their errors."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from projects.attention_viewer.page import jpeg_url

from .error_kinds import BACKGROUND, BOTH, CLASS, DOUBLED, FOUND, KINDS, MISSED, PLACE, Judged
from .markup import element, folded, section, table

# On the picture, where the colour alone would not tell the kinds apart for all.
LETTERS = {MISSED: "M", CLASS: "C", PLACE: "P", BOTH: "CP", DOUBLED: "D", BACKGROUND: "B"}
_TRUE = "true boxes"
_LONGEST = 900  # side of a picture in the page; positions stay those of the original image
_QUALITY = 82  # of its JPEG


@dataclass
class Shown:
    name: str
    image: np.ndarray  # (h, w, 3), RGB, uint8
    judged: Judged
    link: str | None = None  # to the page of where attention looks


def worst(judged: Sequence[Judged], num: int) -> list[int]:
    """The images with most errors, those of equally many with fewest right detections first."""

    def badness(i: int) -> tuple[int, int]:
        return -judged[i].num_errors, judged[i].count(FOUND)

    return [i for i in sorted(range(len(judged)), key=badness) if judged[i].num_errors][:num]


def picture_section(shown: Sequence[Shown], classes: Sequence[str], score_thr: float) -> Element:
    """The images, and what of them can be hidden."""
    total = Counter({kind: sum(one.judged.count(kind) for one in shown) for kind in KINDS})
    choices = [_choice(kind, f"{LETTERS[kind]}: {kind} ({total[kind]})") for kind in KINDS]
    choices += [_choice(FOUND, FOUND), _choice(_TRUE, f"{_TRUE}, dashed")]
    figures = [_figure(rank, one, classes) for rank, one in enumerate(shown, 1)]
    return section(
        f"The {len(shown)} images with most errors",
        "images",
        element("p", f"Detections with a score of {score_thr:g} or more, and the objects that they miss."),
        element("fieldset", element("legend", "Show"), *choices, class_="choices"),
        element("div", *figures, class_="grid"),
    )


def _choice(kind: str, name: str) -> Element:
    box = element("input", type="checkbox", id=f"show-{_key(kind)}", checked="")
    line = element("rect", x=2, y=2, width=20, height=10)
    sample = element("svg", _twice(line, _key(kind)), viewBox="0 0 24 14", class_="mark", aria_hidden="true")
    return element("label", box, sample, f" {name}")


def _figure(rank: int, one: Shown, classes: Sequence[str]) -> Element:
    judged, (h, w) = one.judged, one.image.shape[:2]
    counts = ", ".join(f"{n} {kind}" for kind in KINDS if (n := judged.count(kind)))
    size = max(w, h) / 38  # of letters, in pixels of the image
    objects = zip(judged.true_boxes, judged.true_labels, strict=True)
    marks = [_mark(box, _TRUE, f"true {classes[label]}", w) for box, label in objects]
    for i in np.flatnonzero(judged.kinds == FOUND):
        name = f"{classes[judged.labels[i]]} {judged.scores[i]:.2f}"
        marks.append(_mark(judged.boxes[i], FOUND, f"found {name}", w))
    errors = sorted(_errors(judged, classes), key=lambda error: KINDS.index(error[0]))
    for kind, box, label, told, _ in errors:
        marks.append(_mark(box, kind, told, w, f"{LETTERS[kind]} {label}", size))
    picture = element(
        "svg",
        element("image", href=jpeg_url(one.image, _LONGEST, _QUALITY), width=w, height=h),
        *marks,
        viewBox=f"0 0 {w} {h}",
        role="img",
        aria_label=f"{one.name}: {counts}",
        class_="picture",
    )
    link = element("a", "where attention looked", href=one.link) if one.link else None
    found = f"; {judged.count(FOUND)} of {len(judged.true_labels)} objects found"
    caption = element(
        "figcaption", element("strong", f"{rank}. {one.name}"), f" {counts}{found}", " " if link else "", link
    )
    head = ["kind", "class", "score", "true class", "IoU", "x1, y1, x2, y2"]
    listed = folded(
        "All errors of this image", table(f"Errors in {one.name}", head, [row for *_, row in errors])
    )
    return element("figure", caption, picture, listed)


def _errors(judged: Judged, classes: Sequence[str]) -> Iterator[tuple[str, np.ndarray, str, str, tuple]]:
    """Of each error the kind, the box, what stands beside it, what the pointer tells, and a table's row."""
    for i in np.flatnonzero(judged.is_missed):
        name, box = classes[judged.true_labels[i]], judged.true_boxes[i]
        row = (MISSED, "–", "–", name, "–", _corners(box))
        yield MISSED, box, name, f"{MISSED}: {name}", row
    for i in np.flatnonzero(np.isin(judged.kinds, KINDS)):
        kind, box, overlap, partner = judged.kinds[i], judged.boxes[i], judged.overlaps[i], judged.partners[i]
        name, score = classes[judged.labels[i]], f"{judged.scores[i]:.2f}"
        true = classes[judged.true_labels[partner]] if partner >= 0 else "–"
        told = f"{kind}: {name} {score}, IoU {overlap:.2f}" + (f" with a {true}" if partner >= 0 else "")
        row = (kind, name, score, true, f"{overlap:.2f}", _corners(box))
        yield kind, box, f"{name} {score}", told, row


def _corners(box: np.ndarray) -> str:
    return ", ".join(f"{x:.0f}" for x in box)


def _mark(box: np.ndarray, kind: str, told: str, width: int, label: str = "", size: float = 0) -> Element:
    """A box in an image of a ``width``, dark beneath so that it shows on any; ``size`` is of the letters."""
    x1, y1, x2, y2 = box.tolist()
    rect = element("rect", x=f"{x1:.1f}", y=f"{y1:.1f}", width=f"{x2 - x1:.1f}", height=f"{y2 - y1:.1f}")
    group = _twice(rect, _key(kind))
    group.insert(0, element("title", told))
    if label:
        y = y1 - size / 4 if y1 > size else y1 + size
        place = dict(x=f"{max(x1, 0):.1f}") if x1 < 0.8 * width else dict(x=f"{x2:.1f}", text_anchor="end")
        group.append(element("text", label, y=f"{y:.1f}", font_size=f"{size:.1f}", **place))
    return group


def _twice(rect: Element, key: str) -> Element:
    return element("g", element("rect", class_="under", **rect.attrib), rect, class_=f"box {key}")


def _key(kind: str) -> str:
    return kind.replace(" ", "-")
