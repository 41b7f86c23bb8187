"""What is in a data set: classes, sizes of boxes, objects an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .annotations import objects
from .boxes import box_fault
from .categories import labels_by_category
from .finding import Finding

SMALL, LARGE = (
    32,
    96,
)  # sides, in pixels: COCO's small objects are below the one, its large from the other


@dataclass
class Statistics:
    """Numbers of one annotation file; only objects that are trained on count, crowds are counted apart.

    Args:
        classes: names by label.
        image_sizes: (num_images, 2), width and height.
        num_crowds: how many boxes hold a crowd.
        images: (num_objects,), the index of the image of each object.
        labels: (num_objects,).
        sizes: (num_objects, 2), width and height of the boxes.
        areas: (num_objects,), as the file states them: of the mask where there is one.
    """

    classes: list[str]
    image_sizes: np.ndarray
    num_crowds: int
    images: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    areas: np.ndarray

    @classmethod
    def of(cls, coco: dict, classes: Sequence[str]) -> "Statistics":
        """Count.

        Args:
            coco: the parsed file, of whole entries.
            classes: names by label.
        """
        labels = labels_by_category(coco, classes)
        index = {image["id"]: i for i, image in enumerate(coco["images"])}
        rows, num_crowds = [], 0
        for ann, image in objects(coco, labels):
            if box_fault(ann, image["width"], image["height"]):
                continue
            if ann.get("iscrowd"):
                num_crowds += 1
            else:
                width, height = ann["bbox"][2:]
                label = labels[ann["category_id"]]
                rows.append((index[image["id"]], label, width, height, ann["area"]))
        table = np.array(rows, float).reshape(-1, 5)
        sizes = [(image["width"], image["height"]) for image in coco["images"]]
        return cls(
            classes=list(classes),
            image_sizes=np.array(sizes, float).reshape(-1, 2),
            num_crowds=num_crowds,
            images=table[:, 0].astype(int),
            labels=table[:, 1].astype(int),
            sizes=table[:, 2:4],
            areas=table[:, 4],
        )

    @property
    def objects_per_image(self) -> np.ndarray:
        """(num_images,)."""
        return np.bincount(self.images, minlength=len(self.image_sizes))

    @property
    def objects_per_class(self) -> np.ndarray:
        """(num_classes,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def images_per_class(self) -> np.ndarray:
        """(num_classes,), in how many images a class is."""
        pairs = np.unique(np.stack((self.images, self.labels)), axis=1)
        return np.bincount(pairs[1], minlength=len(self.classes))

    @property
    def sides(self) -> np.ndarray:
        """(num_objects,), the square root of width * height of each box, in pixels."""
        return np.sqrt(self.sizes.prod(1))

    @property
    def coco_shares(self) -> dict[str, float]:
        """The shares of COCO's small, medium and large objects, after the stated ``area``."""
        is_small, is_large = self.areas < SMALL**2, self.areas >= LARGE**2
        return dict(small=share(is_small), medium=share(~is_small & ~is_large), large=share(is_large))

    def sides_at_input(self, resize: Callable[[float, float], tuple[float, float]]) -> np.ndarray:
        """`sides` in the image that the network gets.

        Args:
            resize: from width and height of an image to the factors of both.
        """
        factors = np.array([resize(*size) for size in self.image_sizes]).reshape(-1, 2)
        return np.sqrt((self.sizes * factors[self.images]).prod(1))

    def summary(self) -> list[str]:
        """A few lines for a log."""
        per_image = self.objects_per_image
        counts = ", ".join(
            f"{self.classes[label]} {count}"
            for label, count in sorted(enumerate(self.objects_per_class), key=lambda pair: -pair[1])
        )
        sizes = ", ".join(f"{name} {part:.0%}" for name, part in self.coco_shares.items())
        return [
            f"{len(per_image)} images ({(per_image == 0).sum()} without objects), {len(self.labels)} objects "
            f"and {self.num_crowds} crowds, at most {per_image.max(initial=0)} objects in an image",
            f"objects a class: {counts}",
            f"{share(self.sides < SMALL):.0%} of the boxes are below {SMALL} px (square root of width * "
            f"height); COCO's sizes: {sizes}",
        ]

    def to_dict(self) -> dict:
        """As JSON holds it."""
        per_image = self.objects_per_image
        per_class = zip(self.classes, self.objects_per_class, self.images_per_class, strict=True)
        return dict(
            num_images=len(per_image),
            num_images_without_objects=int((per_image == 0).sum()),
            num_objects=len(self.labels),
            num_crowds=self.num_crowds,
            most_objects_in_an_image=int(per_image.max(initial=0)),
            mean_objects_in_an_image=float(per_image.mean()) if len(per_image) else 0.0,
            classes=[
                dict(name=name, objects=int(count), images=int(images)) for name, count, images in per_class
            ],
            coco_sizes=self.coco_shares,
            share_below_32_px=share(self.sides < SMALL),
            median_side=float(np.median(self.sides)) if len(self.sides) else None,
        )


def share(chosen: np.ndarray) -> float:
    """The share of True, 0 of nothing."""
    return float(chosen.mean()) if len(chosen) else 0.0


def check_counts(statistics: Statistics) -> list[Finding]:
    """Classes without an object."""
    counts = zip(statistics.classes, statistics.objects_per_class, strict=True)
    absent = [name for name, count in counts if not count]
    message = "classes without any object"
    return [Finding("class_without_objects", message, absent)] if absent else []


def check_limit(
    statistics: Statistics, coco: dict, key: str, limit: int | None, remedy: str
) -> list[Finding]:
    """Images with more objects than something takes.

    Args:
        statistics: of ``coco``.
        coco: the parsed file.
        key: what sets the limit, e.g. "model.num_queries".
        limit: None if there is none.
        remedy: what to do.
    """
    if limit is None:
        return []
    counts = zip(coco["images"], statistics.objects_per_image, strict=True)
    crowded = [f"{image['file_name']} ({count})" for image, count in counts if count > limit]
    message = f"images with more objects than {key}, which is {limit}"
    return [Finding(f"more_than_{key}", message, crowded, remedy)] if crowded else []
