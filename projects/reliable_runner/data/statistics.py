"""What a COCO file holds, as arrays: objects with their faults, counts and sizes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .categories import labels_by_category
from .finding import Finding

SMALL, LARGE = 32, 96  # sides in pixels that part COCO's small, medium and large objects
BOX_FAULTS = (
    "not finite",
    "of zero or negative width or height",
    "whose 'area' is zero or negative",
    "thinner than a pixel",
    "outside the image",
)
_TOLERANCE = 1.0  # annotation tools round; a pixel more or less is no fault
_FEW_BOXES = 10


@dataclass
class Statistics:
    """The annotations that a data set looks at: of its images and classes, and not marked ``ignore``.

    Counts and sizes are of objects, the annotations that a model is trained on: crowds and annotations with a
    fault do not count.

    Args:
        classes: names by label.
        file_names: of the images.
        image_sizes: (num_images, 2), width and height in pixels.
        ids: of the annotations.
        images: (n,), the index of each annotation's image.
        labels: (n,).
        boxes: (n, 4), x, y, width, height in pixels, as in the file.
        areas: (n,), as in the file: of the mask where there is one.
        is_crowd: (n,), bool.
    """

    classes: list[str]
    file_names: list[str]
    image_sizes: np.ndarray
    ids: list[int | str]
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray

    def __post_init__(self) -> None:
        self.faults = box_faults(self.boxes, self.areas, self.image_sizes[self.images])
        is_object = (self.faults < 0) & ~self.is_crowd
        self._object_images, self._object_labels = self.images[is_object], self.labels[is_object]
        self._object_areas, self._object_sides = self.areas[is_object], self.boxes[is_object, 2:]

    @classmethod
    def of(cls, coco: dict, classes: Sequence[str]) -> "Statistics":
        """Read a parsed file.

        Args:
            coco: its entries have all that COCO wants.
            classes: names by label.
        """
        labels = labels_by_category(coco["categories"], classes)
        index = {image["id"]: i for i, image in enumerate(coco["images"])}
        anns = [
            ann
            for ann in coco["annotations"]
            if ann["image_id"] in index and ann["category_id"] in labels and not ann.get("ignore")
        ]
        rows = [
            (index[a["image_id"]], labels[a["category_id"]], bool(a.get("iscrowd")), a["area"], *a["bbox"])
            for a in anns
        ]
        table = np.array(rows, float).reshape(-1, 8)
        sizes = [(image["width"], image["height"]) for image in coco["images"]]
        return cls(
            classes=list(classes),
            file_names=[image["file_name"] for image in coco["images"]],
            image_sizes=np.array(sizes, float).reshape(-1, 2),
            ids=[ann["id"] for ann in anns],
            images=table[:, 0].astype(int),
            labels=table[:, 1].astype(int),
            is_crowd=table[:, 2].astype(bool),
            areas=table[:, 3],
            boxes=table[:, 4:],
        )

    def names(self, chosen: np.ndarray) -> list[str]:
        """Annotations where ``chosen``, (n,), is True, each with its image."""
        return [
            f"annotation {self.ids[i]} in {self.file_names[self.images[i]]}" for i in np.flatnonzero(chosen)
        ]

    def faulty(self) -> dict[str, list[str]]:
        """The `names` of annotations that can't be trained on, by what is wrong with their boxes."""
        found = {fault: self.names(self.faults == i) for i, fault in enumerate(BOX_FAULTS)}
        return {fault: names for fault, names in found.items() if names}

    @property
    def num_objects(self) -> int:
        """How many annotations a model is trained on."""
        return len(self._object_images)

    @property
    def num_crowds(self) -> int:
        """How many boxes hold a crowd."""
        return int((self.is_crowd & (self.faults < 0)).sum())

    @property
    def objects_per_image(self) -> np.ndarray:
        """(num_images,)."""
        return np.bincount(self._object_images, minlength=len(self.image_sizes))

    @property
    def objects_per_class(self) -> np.ndarray:
        """(num_classes,)."""
        return np.bincount(self._object_labels, minlength=len(self.classes))

    @property
    def images_per_class(self) -> np.ndarray:
        """(num_classes,), the number of images that hold a class."""
        pairs = np.unique(np.stack((self._object_images, self._object_labels)), axis=1)
        return np.bincount(pairs[1], minlength=len(self.classes))

    @property
    def sides(self) -> np.ndarray:
        """(num_objects,), the square root of width * height of each box, in pixels."""
        return np.sqrt(self._object_sides.prod(1))

    @property
    def coco_shares(self) -> dict[str, float]:
        """The shares of COCO's small, medium and large objects, by the stated ``area``."""
        is_small, is_large = self._object_areas < SMALL**2, self._object_areas >= LARGE**2
        return dict(small=share(is_small), medium=share(~is_small & ~is_large), large=share(is_large))

    def sides_at_input(self, resize: Callable[[float, float], tuple[float, float]]) -> np.ndarray:
        """`sides` in the image that the network gets.

        Args:
            resize: from width and height of an image to the factors of both.
        """
        factors = np.array([resize(*size) for size in self.image_sizes]).reshape(-1, 2)
        return np.sqrt((self._object_sides * factors[self._object_images]).prod(1))

    def summary(self) -> list[str]:
        """Three lines for a log."""
        per_image, per_class = self.objects_per_image, self.objects_per_class
        order = np.argsort(-per_class, kind="stable")
        counts = ", ".join(f"{self.classes[label]} {per_class[label]}" for label in order)
        sizes = ", ".join(f"{name} {part:.0%}" for name, part in self.coco_shares.items())
        return [
            f"{len(per_image)} images ({(per_image == 0).sum()} without objects), {self.num_objects} objects "
            f"and {self.num_crowds} crowds, at most {per_image.max(initial=0)} objects in an image",
            f"objects a class: {counts}",
            f"{share(self.sides < SMALL):.0%} of the boxes are below {SMALL} px (square root of width * "
            f"height); COCO's sizes: {sizes}",
        ]

    def suspicions(self) -> list[Finding]:
        """Boxes that look like corners, and classes without an object."""
        absent = [self.classes[label] for label in np.flatnonzero(self.objects_per_class == 0)]
        findings = check_corners(self.boxes, self.image_sizes[self.images])
        if absent:
            findings.append(Finding("class_without_objects", "classes without any object", absent))
        return findings


def share(chosen: np.ndarray) -> float:
    """The share of True, 0 of nothing."""
    return float(chosen.mean()) if len(chosen) else 0.0


@np.errstate(invalid="ignore")
def box_faults(boxes: np.ndarray, areas: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Why a model can't be trained on boxes.

    Args:
        boxes: (n, 4), x, y, width, height.
        areas: (n,).
        sizes: (n, 2), width and height of the image of each.

    Returns:
        (n,), the index of the first of `BOX_FAULTS` that a box has, -1 if it has none.
    """
    start, extent = boxes[:, :2], boxes[:, 2:]
    has_fault = [
        ~np.isfinite(np.c_[boxes, areas]).all(1),
        (extent <= 0).any(1),
        areas <= 0,
        (extent < 1).any(1),
        ((start >= sizes) | (start + extent <= 0)).any(1),
    ]
    return np.select(has_fault, range(len(BOX_FAULTS)), -1)


@np.errstate(invalid="ignore")
def reach_out(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which boxes leave their image by more than a pixel, (n,), bool; arguments as in `box_faults`."""
    end = boxes[:, :2] + boxes[:, 2:]
    return ((boxes[:, :2] < -_TOLERANCE) | (end > sizes + _TOLERANCE)).any(1)


def check_corners(boxes: np.ndarray, sizes: np.ndarray) -> list[Finding]:
    """Find out whether boxes were written as x1, y1, x2, y2 instead of x, y, width, height.

    A box speaks for it if it leaves its image as x, y, width, height, but lies in it, with x2 > x1 and
    y2 > y1, as corners. In a file of corners every box lies in its image as corners, and about three in four
    speak for it: those whose centre is right of the middle or below it. So it is an error if 99% of the boxes
    could be corners and half of them (at least ten) speak for it; a warning if a twentieth does.

    Args:
        boxes: (n, 4), as in the file.
        sizes: (n, 2), width and height of the image of each.
    """
    if not len(boxes):
        return []
    first, second = boxes[:, :2], boxes[:, 2:]
    could_be = ((first >= -_TOLERANCE) & (second > first) & (second <= sizes + _TOLERANCE)).all(1)
    speaks = could_be & reach_out(boxes, sizes)
    if speaks.mean() < 0.05:
        return []
    overwhelming = could_be.mean() >= 0.99 and speaks.mean() >= 0.5 and speaks.sum() >= _FEW_BOXES
    return [
        Finding(
            "boxes_as_corners",
            f"{speaks.mean():.0%} of the {len(boxes)} boxes leave their image as x, y, width, height, but "
            f"lie in it as x1, y1, x2, y2; {could_be.mean():.0%} could be such corners",
            remedy="COCO's boxes are x, y, width, height: write x1, y1, x2 - x1, y2 - y1.",
            is_error=bool(overwhelming),
        )
    ]
