"""All findings and numbers of a config's data sets, as text and as JSON."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .categories import labels_by_category
from .finding import Finding
from .sources import Source
from .statistics import SMALL, Statistics, share

_SHOWN = 10  # findings of a kind, and classes
_BINS = np.array([0, 8, 16, 32, 64, 96, 128, 256, 512, np.inf])


@dataclass
class CheckedSource:
    """An annotation file after the checks.

    Args:
        source: where it is.
        coco: its whole entries.
        statistics: of these.
        input_sides: (num_objects,), see `Statistics.sides_at_input`; None if that is not known.
    """

    source: Source
    coco: dict
    statistics: Statistics
    input_sides: np.ndarray | None = None

    def mapping(self) -> list[tuple[int | str, str, int | None]]:
        """Category id, name and label (None if it is no class) of each category, in the file's order."""
        labels = labels_by_category(self.coco, self.statistics.classes)
        return [(c["id"], c["name"], labels.get(c["id"])) for c in self.coco["categories"]]

    def to_dict(self) -> dict:
        """As JSON holds it."""
        sides, bins = self.statistics.sides, _BINS
        counts = np.histogram(sides, bins)[0].tolist()
        by_category = [dict(id=i, name=name, label=label) for i, name, label in self.mapping()]
        numbers = self.statistics.to_dict() | dict(
            sides=[dict(at_least=low, count=n) for low, n in zip(bins.tolist(), counts, strict=False)]
        )
        if self.input_sides is not None:
            numbers["share_below_32_px_at_input"] = share(self.input_sides < SMALL)
        return dict(
            ann_file=self.source.ann_file,
            folder=self.source.folder,
            categories=by_category,
            classes=[
                dict(
                    label=label,
                    name=name,
                    category_ids=[i for i, _, of in self.mapping() if of == label],
                )
                for label, name in enumerate(self.statistics.classes)
            ],
            statistics=numbers,
        )


@dataclass
class Report:
    """What the checks of all splits have found."""

    checked: dict[str, CheckedSource] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Sequence[Finding], where: str = "") -> None:
        """Add findings of a split, or of none alone."""
        for finding in findings:
            finding.where = where
        self.findings += findings

    @property
    def errors(self) -> list[Finding]:
        """What stops or spoils a training."""
        return [finding for finding in self.findings if finding.is_error]

    @property
    def warnings(self) -> list[Finding]:
        """All other findings."""
        return [finding for finding in self.findings if not finding.is_error]

    @property
    def verdict(self) -> str:
        """One line."""
        number = len(self.errors)
        return f"cannot train: {number} error{'s' * (number > 1)}" if number else "can train"

    def to_dict(self) -> dict:
        """As JSON holds it."""
        return dict(
            can_train=not self.errors,
            errors=[finding.to_dict() for finding in self.errors],
            warnings=[finding.to_dict() for finding in self.warnings],
            splits={split: checked.to_dict() for split, checked in self.checked.items()},
        )

    def __str__(self) -> str:
        lines = []
        for title, findings in ("Errors", self.errors), ("Warnings", self.warnings):
            lines += [f"{title}: {len(findings) or 'none'}"]
            lines += [f"  {finding}" for finding in findings[:_SHOWN]]
            lines += [f"  and {len(findings) - _SHOWN} more"] * (len(findings) > _SHOWN)
        for split, checked in self.checked.items():
            lines += ["", f"{split}: {checked.source.ann_file}, images in {checked.source.folder}"]
            lines += [f"  {line}" for line in _numbers(checked)]
        return "\n".join([*lines, "", self.verdict])


def _numbers(checked: CheckedSource) -> Iterator[str]:
    statistics, mapping = checked.statistics, checked.mapping()
    yield from _listed(
        "category id -> name -> label",
        [f"{i} {name} {'none' if label is None else label}" for i, name, label in mapping],
    )
    ids = {label: i for i, _, label in mapping}
    yield from _listed(
        "label -> name -> category id",
        [f"{label} {name} {ids.get(label, 'none')}" for label, name in enumerate(statistics.classes)],
    )
    numbers, images = statistics.to_dict(), statistics.images_per_class
    per_class = sorted(enumerate(statistics.objects_per_class), key=lambda pair: -pair[1])
    yield from _listed(
        "objects (images) a class",
        [f"{statistics.classes[label]} {n} ({images[label]})" for label, n in per_class],
    )
    yield (
        f"{numbers['num_images']} images, {numbers['num_images_without_objects']} of them without objects; "
        f"{numbers['num_objects']} objects, {numbers['num_crowds']} crowds"
    )
    yield (
        f"objects an image: mean {numbers['mean_objects_in_an_image']:.1f}, "
        f"most {numbers['most_objects_in_an_image']}"
    )
    if len(statistics.image_sizes):
        low, middle, high = np.quantile(statistics.image_sizes, [0, 0.5, 1], axis=0)
        names = zip(("smallest", "median", "largest"), (low, middle, high), strict=True)
        yield "width x height of the images: " + ", ".join(
            f"{name} {width:g} x {height:g}" for name, (width, height) in names
        )
    yield "COCO's sizes (area): " + ", ".join(
        f"{name} {part:.1%}" for name, part in numbers["coco_sizes"].items()
    )
    counts = np.histogram(statistics.sides, _BINS)[0]
    yield "boxes by sqrt(width * height) in pixels: " + ", ".join(
        f"{low:g}-{high:g}: {n}" for low, high, n in zip(_BINS, _BINS[1:], counts, strict=False)
    )
    below = f"below {SMALL} px: {numbers['share_below_32_px']:.1%}"
    if checked.input_sides is not None:
        below += f"; after the test pipeline's resize {share(checked.input_sides < SMALL):.1%}"
    yield below


def _listed(title: str, items: Sequence[str]) -> list[str]:
    more = [f"and {len(items) - _SHOWN} more"] * (len(items) > _SHOWN)
    text = f"{title}: {', '.join([*items[:_SHOWN], *more])}"
    return textwrap.wrap(text, 108, subsequent_indent="  ")
