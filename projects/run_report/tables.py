"""What is counted: precision, errors by kind, classes taken for others."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from .error_kinds import BACKGROUND, BOTH, CLASS, DOUBLED, MISSED, PLACE, Judged
from .gains import gains
from .markup import element, folded, number, section, table
from .precision import Precision

_METRICS = [f"bbox_mAP{end}" for end in ("", "_50", "_75", "_s", "_m", "_l")]
_COLUMNS = ["AP", "AP50", "AP75", "AP small", "AP medium", "AP large"]  # those of `Precision.of_class`
_MEANINGS = {
    MISSED: "an object that nothing found, nor is there a detection of the next two kinds about it",
    CLASS: "on an object of another class (IoU of 0.5 or more)",
    PLACE: "about an object of its class, but with an IoU of 0.1 to 0.5",
    BOTH: "about an object of another class, with an IoU of 0.1 to 0.5",
    DOUBLED: "on an object that a more certain detection has found",
    BACKGROUND: "on nothing (IoU of 0.1 or less with all objects)",
}
_MOST_CLASSES = 25  # of the confusion matrix, that are shown at once
_MOST_PAIRS = 10


def precision_section(precision: Precision, classes: Sequence[str], num_objects: Sequence[int]) -> Element:
    """AP of all classes and each, of all sizes and each; -1 of the metric is a dash."""
    overall = [precision.metrics[key] for key in _METRICS]
    rows = [("all classes", sum(num_objects), *(number(None if x < 0 else x) for x in overall))]
    for label, name in enumerate(classes):
        rows.append((name, num_objects[label], *map(number, precision.of_class(label))))
    text = (
        "COCO's: AP is the mean over IoU 0.5 to 0.95; small objects are below 32 x 32 pixels, large ones "
        "96 x 96 or above."
    )
    by_class = table("By class and size", ["class", "objects", *_COLUMNS], rows)
    return section("Average precision", "precision", element("p", text), by_class)


def kind_section(
    sure: Sequence[Judged], judged: Sequence[Judged], num_classes: int, score_thr: float
) -> Element:
    """How many errors of each kind there are, and what each costs.

    Of all images ``sure`` are the detections of ``score_thr`` or more, ``judged`` all.
    """
    ap50, gained = gains(judged, num_classes)
    rows = []
    for kind, meaning in _MEANINGS.items():
        number_of = sum(image.count(kind) for image in sure)
        rows.append((kind, number_of, f"{100 * gained[kind]:+.2f}", element("td", meaning, class_="words")))
    paper = "https://arxiv.org/abs/2008.08050"
    return section(
        "Errors by kind",
        "kinds",
        element(
            "p",
            "TIDE's kinds (Bolya et al., ",
            element("a", "arXiv:2008.08050", href=paper, rel="noreferrer"),
            f"). Counted are detections with a score of {score_thr:g} or more. AP50, which is "
            f"{100 * ap50:.2f} with all detections, would gain so many points without the errors of a kind; "
            "gains do not add up.",
        ),
        table("Errors by kind", ["kind", f"errors, score ≥ {score_thr:g}", "gain of AP50", "meaning"], rows),
    )


def confusion_section(matrix: np.ndarray, classes: Sequence[str], score_thr: float) -> Element:
    """Which class is taken for which, see `confusion_matrix`."""
    names = [*classes, "background"]
    shares = matrix / matrix.sum(1, keepdims=True).clip(min=1)
    rows = [
        (name, *map(_shaded, counts, row)) for name, counts, row in zip(names, matrix, shares, strict=True)
    ]
    cells = table("Rows are true classes, columns predicted ones", ["true", *names], rows)
    cells[0].set("class", "confusion")
    most = sorted(np.ndenumerate(matrix[:-1, :-1]), key=lambda cell: -cell[1])
    pairs = [(names[i], names[j], count) for (i, j), count in most if i != j and count][:_MOST_PAIRS]
    right, missed, of_nothing = np.trace(matrix), matrix[:-1, -1].sum(), matrix[-1].sum()
    text = (
        f"Of {matrix[:-1].sum()} objects {right} are found with their class and {missed} are missed; "
        f"{of_nothing} detections are of nothing. Counted are scores of {score_thr:g} and IoU of 0.5 or "
        "more; colours are shares of a row."
    )
    many = len(classes) > _MOST_CLASSES
    return section(
        "Confusion matrix",
        "confusion",
        element("p", text),
        table("Most often taken for another", ["true", "predicted", "objects"], pairs) if pairs else None,
        folded(f"All {len(classes)} classes", cells) if many else cells,
    )


def _shaded(count: int, share: float) -> Element:
    return element("td", count, style=f"--share:{100 * share:.0f}%" if count else None)
