"""What a COCO file holds, as arrays: objects with their faults, counts and sizes."""

from collections.abc import Callable, Sequence

import numpy as np

from .categories import labels_by_category
from .finding import Finding

SMALL, LARGE = 32, 96  # sides in pixels that part COCO's small, medium and large objects
BOX_FAULTS = (
    "NaN or infinite",
    "of zero or negative width or height",
    "whose 'area' is zero or negative",
    "thinner than a pixel",
    "outside the image",
)
_TOLERANCE = 1.0  # annotation tools round; a pixel more or less is no fault
_FEW_BOXES = 10


class Statistics:
    """The annotations that a data set looks at: of its images and classes, and not marked ``ignore``.

    Counts and sizes are of objects, the annotations that a model is trained on: neither crowds nor faulty.

    Attributes:
        file_names, image_sizes: of the images; (num_images, 2), width and height in pixels.
        ids, boxes: of the annotations; (n, 4), x, y, width, height in pixels, as in the file.
        box_image_sizes: (n, 2), those of the image of each box.
        faults: (n,), see `box_faults`.
        num_objects, num_crowds: how many annotations a model is trained on, and how many hold a crowd.
        objects_per_image: (num_images,).
        objects_per_class, images_per_class: (num_classes,).
        sides: (num_objects,), the square root of width * height of each box, in pixels.
        coco_shares: those of COCO's small, medium and large objects, by ``area``, the mask's if there is one.
    """

    def __init__(self, coco: dict, classes: Sequence[str]) -> None:
        label_of = labels_by_category(coco["categories"], classes)
        index_of = {image["id"]: i for i, image in enumerate(coco["images"])}
        anns = [
            ann
            for ann in coco["annotations"]
            if ann["image_id"] in index_of and ann["category_id"] in label_of and not ann.get("ignore")
        ]
        self.classes = list(classes)
        self.ids = [ann["id"] for ann in anns]
        self.file_names = [image["file_name"] for image in coco["images"]]
        sizes = [(image["width"], image["height"]) for image in coco["images"]]
        self.image_sizes = np.array(sizes, float).reshape(-1, 2)
        self.boxes = np.array([ann["bbox"] for ann in anns], float).reshape(-1, 4)
        self._images = np.array([index_of[ann["image_id"]] for ann in anns], int)
        self.box_image_sizes = self.image_sizes[self._images]
        areas = np.array([ann["area"] for ann in anns], float)
        self.faults = box_faults(self.boxes, areas, self.box_image_sizes)

        is_crowd = np.array([bool(ann.get("iscrowd")) for ann in anns], bool)
        self._is_object = (self.faults < 0) & ~is_crowd
        self.num_objects = int(self._is_object.sum())
        self.num_crowds = int((self.faults < 0).sum()) - self.num_objects
        images, areas = self._images[self._is_object], areas[self._is_object]
        labels = np.array([label_of[ann["category_id"]] for ann in anns], int)[self._is_object]
        self.objects_per_image = np.bincount(images, minlength=len(sizes))
        self.objects_per_class = np.bincount(labels, minlength=len(classes))
        pairs = np.unique(np.stack((images, labels)), axis=1)
        self.images_per_class = np.bincount(pairs[1], minlength=len(classes))
        self.sides = np.sqrt(self.boxes[self._is_object, 2:].prod(1))
        is_small, is_large = areas < SMALL**2, areas >= LARGE**2
        chosen = dict(small=is_small, medium=~is_small & ~is_large, large=is_large)
        self.coco_shares = {name: share(which) for name, which in chosen.items()}

    def names(self, chosen: np.ndarray) -> list[str]:
        """Annotations where ``chosen``, (n,), is True, each with its image."""
        indices = np.flatnonzero(chosen)
        return [f"annotation {self.ids[i]} in {self.file_names[self._images[i]]}" for i in indices]

    def faulty(self) -> dict[str, list[str]]:
        """The `names` of annotations that can't be trained on, by what is wrong with their boxes."""
        found = {fault: self.names(self.faults == i) for i, fault in enumerate(BOX_FAULTS)}
        return {fault: names for fault, names in found.items() if names}

    def sides_at_input(self, resize: Callable[[float, float], tuple[float, float]]) -> np.ndarray:
        """`sides` in the network's input; ``resize`` makes factors of an image's width and height."""
        factors = np.array([resize(*size) for size in self.image_sizes]).reshape(-1, 2)[self._images]
        return np.sqrt((self.boxes[:, 2:] * factors)[self._is_object].prod(1))

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
        findings = check_corners(self.boxes, self.box_image_sizes)
        if absent:
            findings.append(Finding("class_without_objects", "classes without any object", absent))
        return findings


def share(chosen: np.ndarray) -> float:
    """The share of True (the mean of numbers), 0 of nothing."""
    return float(chosen.mean()) if len(chosen) else 0.0


@np.errstate(invalid="ignore")
def box_faults(boxes: np.ndarray, areas: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Why a model can't be trained on boxes: (n,), the index of the first of `BOX_FAULTS`, -1 without one.

    ``boxes`` (n, 4) are x, y, width, height; ``areas`` (n,); ``sizes`` (n, 2) width and height of the images.
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
    """Whether boxes were written as x1, y1, x2, y2 instead of x, y, width, height; see `box_faults`.

    A box speaks for it if it leaves its image as x, y, width, height, but lies in it, with x2 > x1 and
    y2 > y1, as corners. In a file of corners every box lies in its image as corners, and about three in four
    speak for it: those whose centre is right of the middle or below it. So it is an error if 99% of the boxes
    could be corners and half of them (at least ten) speak for it; a warning if a twentieth does.
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
