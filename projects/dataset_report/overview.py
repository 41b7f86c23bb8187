"""An annotation file at a glance, as a training tells it."""

from collections.abc import Sequence

from .annotations import boxes_and_sizes
from .boxes import check_corners
from .categories import labels_by_category
from .finding import Finding
from .statistics import Statistics, check_counts


def overview(coco: dict, classes: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Lines about what is in a file, and what looks wrong with it as a whole.

    Args:
        coco: the parsed file, of whole entries.
        classes: names by label.
    """
    statistics = Statistics.of(coco, classes)
    boxes, sizes = boxes_and_sizes(coco, labels_by_category(coco, classes))
    return statistics.summary(), [*check_corners(boxes, sizes), *check_counts(statistics)]
