"""All findings and numbers of a config's data sets, as text and as JSON."""

import textwrap
from collections.abc import Iterable, Sequence
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
    """An annotation file after the checks."""

    source: Source
    categories: list[dict]  # its complete ones
    statistics: Statistics  # of its complete entries
    input_sides: np.ndarray | None = None  # (num_objects,), see `Statistics.sides_at_input`, if it is known

    def to_dict(self) -> dict:
        """As JSON holds it; the label of a category that is no class is None, sides are in pixels."""
        statistics, sides = self.statistics, self.statistics.sides
        per_image, counts = statistics.objects_per_image, np.histogram(sides, _BINS)[0].tolist()
        labels = labels_by_category(self.categories, statistics.classes)
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
            sides=[dict(at_least=low, count=n) for low, n in zip(_BINS[:-1], counts, strict=True)],
        )
        if self.input_sides is not None:
            numbers["share_below_32_px_at_input"] = share(self.input_sides < SMALL)
        return dict(
            ann_file=self.source.ann_file,
            folder=self.source.folder,
            categories=[dict(id=c["id"], name=c["name"], label=labels.get(c["id"])) for c in self.categories],
            statistics=numbers,
        )

    def lines(self) -> list[str]:
        content, sizes = self.to_dict(), self.statistics.image_sizes
        numbers = content["statistics"]
        classes = sorted(numbers["classes"], key=lambda c: -c["objects"])
        quantiles = np.quantile(sizes, [0, 0.5, 1], axis=0) if len(sizes) else np.full((3, 2), np.nan)
        extremes = zip(("smallest", "median", "largest"), quantiles, strict=True)
        bins = zip(numbers["sides"], _BINS[1:], strict=True)
        below = "below {} px: {share_below_32_px:.1%}"
        if self.input_sides is not None:
            below += "; after the test pipeline's resize {share_below_32_px_at_input:.1%}"
        return [
            *_listed("category id -> name -> label", (c.values() for c in content["categories"])),
            *_listed(
                "objects (images) a class", ((c["name"], c["objects"], f"({c['images']})") for c in classes)
            ),
            "{num_images} images, {num_images_without_objects} of them without objects; "
            "{num_objects} objects, {num_crowds} crowds".format(**numbers),
            "objects an image: mean {mean_objects_in_an_image:.1f}, most {most_objects_in_an_image}".format(
                **numbers
            ),
            "width x height of the images: " + ", ".join(f"{k} {w:g} x {h:g}" for k, (w, h) in extremes),
            "COCO's sizes (area): " + ", ".join(f"{k} {v:.1%}" for k, v in numbers["coco_sizes"].items()),
            "boxes by sqrt(width * height) in pixels: "
            + ", ".join(f"{one['at_least']}-{end:g}: {one['count']}" for one, end in bins),
            below.format(SMALL, **numbers),
        ]


@dataclass
class Report:
    """What the checks of all splits have found."""

    checked: dict[str, CheckedSource] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding], where: str = "") -> None:
        """Add findings of a split; by default of several."""
        for finding in findings:
            finding.where = where
            self.findings.append(finding)

    @property
    def errors(self) -> list[Finding]:
        """What stops or spoils a training."""
        return [finding for finding in self.findings if finding.is_error]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_error]

    @property
    def verdict(self) -> str:
        number = len(self.errors)
        return f"cannot train: {number} error{'s' * (number > 1)}" if number else "can train"

    def to_dict(self) -> dict:
        return dict(
            can_train=not self.errors,
            errors=[asdict(finding) | dict(count=len(finding.items)) for finding in self.errors],
            warnings=[asdict(finding) | dict(count=len(finding.items)) for finding in self.warnings],
            splits={split: checked.to_dict() for split, checked in self.checked.items()},
        )

    def __str__(self) -> str:
        lines = []
        for title, findings in ("Errors", self.errors), ("Warnings", self.warnings):
            lines += [f"{title}: {len(findings) or 'none'}", *(f"  {item}" for item in _first(findings))]
        for split, checked in self.checked.items():
            lines += ["", f"{split}: {checked.source.ann_file}, images in {checked.source.folder}"]
            lines += [f"  {line}" for line in checked.lines()]
        return "\n".join([*lines, "", self.verdict])


def _first(items: Sequence) -> list[str]:
    return [*map(str, items[:_SHOWN]), *[f"and {len(items) - _SHOWN} more"] * (len(items) > _SHOWN)]


def _listed(title: str, rows: Iterable[Iterable]) -> list[str]:
    items = [" ".join("none" if value is None else str(value) for value in row) for row in rows]
    return textwrap.wrap(f"{title}: {', '.join(_first(items))}", 108, subsequent_indent="  ")
