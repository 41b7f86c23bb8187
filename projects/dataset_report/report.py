"""All findings and numbers of a config's data sets, as text and as JSON."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from projects.reliable_runner.data.categories import labels_by_category
from projects.reliable_runner.data.finding import Finding
from projects.reliable_runner.data.statistics import SMALL, Statistics, share

from .sources import Source

_SHOWN = 10  # findings of a kind, and classes
_BINS = (0, 8, 16, 32, 64, 96, 128, 256, 512, np.inf)


@dataclass
class CheckedSource:
    """An annotation file after the checks.

    Args:
        source: where it is.
        categories: its complete ones.
        statistics: of its complete entries.
        input_sides: (num_objects,), see `Statistics.sides_at_input`; None if that is not known.
    """

    source: Source
    categories: list[dict]
    statistics: Statistics
    input_sides: np.ndarray | None = None

    def mapping(self) -> list[dict]:
        """Id, name and label (None if it is no class) of each category, in the file's order."""
        labels = labels_by_category(self.categories, self.statistics.classes)
        return [dict(id=c["id"], name=c["name"], label=labels.get(c["id"])) for c in self.categories]

    def numbers(self) -> dict:
        """The statistics as JSON holds them; sides and sizes in pixels."""
        statistics, sides = self.statistics, self.statistics.sides
        per_image = statistics.objects_per_image
        per_class = zip(
            statistics.classes, statistics.objects_per_class, statistics.images_per_class, strict=True
        )
        numbers = dict(
            num_images=len(per_image),
            num_images_without_objects=int((per_image == 0).sum()),
            num_objects=statistics.num_objects,
            num_crowds=statistics.num_crowds,
            most_objects_in_an_image=int(per_image.max(initial=0)),
            mean_objects_in_an_image=share(per_image),
            classes=[dict(name=name, objects=int(n), images=int(images)) for name, n, images in per_class],
            coco_sizes=statistics.coco_shares,
            share_below_32_px=share(sides < SMALL),
            median_side=float(np.median(sides)) if len(sides) else None,
            sides=[
                dict(at_least=low, count=n)
                for low, n in zip(_BINS[:-1], np.histogram(sides, _BINS)[0].tolist(), strict=True)
            ],
        )
        if self.input_sides is not None:
            numbers["share_below_32_px_at_input"] = share(self.input_sides < SMALL)
        return numbers

    def to_dict(self) -> dict:
        """As JSON holds it."""
        return dict(
            ann_file=self.source.ann_file,
            folder=self.source.folder,
            categories=self.mapping(),
            statistics=self.numbers(),
        )

    def lines(self) -> Iterator[str]:
        """As text."""
        mapping, numbers, sizes = self.mapping(), self.numbers(), self.statistics.image_sizes
        yield from _listed(
            "category id -> name -> label",
            ["{id} {name} {}".format("none" if c["label"] is None else c["label"], **c) for c in mapping],
        )
        ids = {category["label"]: category["id"] for category in mapping}
        yield from _listed(
            "label -> name -> category id",
            [f"{label} {c['name']} {ids.get(label, 'none')}" for label, c in enumerate(numbers["classes"])],
        )
        yield from _listed(
            "objects (images) a class",
            [
                "{name} {objects} ({images})".format(**c)
                for c in sorted(numbers["classes"], key=lambda c: -c["objects"])
            ],
        )
        yield (
            "{num_images} images, {num_images_without_objects} of them without objects; "
            "{num_objects} objects, {num_crowds} crowds".format(**numbers)
        )
        yield (
            "objects an image: mean {mean_objects_in_an_image:.1f}, most {most_objects_in_an_image}".format(
                **numbers
            )
        )
        if len(sizes):
            yield "width x height of the images: " + ", ".join(
                f"{name} {width:g} x {height:g}"
                for name, (width, height) in zip(
                    ("smallest", "median", "largest"), np.quantile(sizes, [0, 0.5, 1], axis=0), strict=True
                )
            )
        yield "COCO's sizes (area): " + ", ".join(
            f"{name} {part:.1%}" for name, part in numbers["coco_sizes"].items()
        )
        yield "boxes by sqrt(width * height) in pixels: " + ", ".join(
            f"{one['at_least']}-{end:g}: {one['count']}"
            for one, end in zip(numbers["sides"], _BINS[1:], strict=True)
        )
        below = f"below {SMALL} px: {numbers['share_below_32_px']:.1%}"
        if self.input_sides is not None:
            below += f"; after the test pipeline's resize {numbers['share_below_32_px_at_input']:.1%}"
        yield below


@dataclass
class Report:
    """What the checks of all splits have found."""

    checked: dict[str, CheckedSource] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Sequence[Finding], where: str = "") -> None:
        """Add findings of a split; by default of several."""
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
            errors=[asdict(finding) | dict(count=len(finding.items)) for finding in self.errors],
            warnings=[asdict(finding) | dict(count=len(finding.items)) for finding in self.warnings],
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
            lines += [f"  {line}" for line in checked.lines()]
        return "\n".join([*lines, "", self.verdict])


def _listed(title: str, items: Sequence[str]) -> list[str]:
    more = [f"and {len(items) - _SHOWN} more"] * (len(items) > _SHOWN)
    text = f"{title}: {', '.join([*items[:_SHOWN], *more])}"
    return textwrap.wrap(text, 108, subsequent_indent="  ")
