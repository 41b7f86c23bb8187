"""The entries of a COCO file: whole, unique, and of use."""

from collections import defaultdict
from collections.abc import Container, Iterator

import numpy as np

from projects.reliable_runner.files.coco_file import FIELDS, METRIC_FIELDS, REMEDIES, entry_fault, entry_name

from .boxes import box_fault, check_corners, reaches_out
from .finding import Finding


def part_entries(content: dict, scored: bool) -> tuple[dict, list[Finding]]:
    """Part the entries that have what COCO wants from those that do not.

    Args:
        content: the parsed file.
        scored: whether the COCO metric reads it too; see `CocoFile`.

    Returns:
        The file with whole entries alone, each id once among images and categories; where only ``area`` or
        ``iscrowd`` are missing they are filled in, so that the other checks can go on. And the findings.
    """
    whole, findings = {}, []
    for section, fields in FIELDS.items():
        entries = content.get(section)
        whole[section] = []
        if not isinstance(entries, list):
            if not (scored and section == "annotations" and entries is None):
                message = f"the file has no list {section!r}"
                findings.append(Finding("section_missing", message, is_error=True))
            continue
        if section == "annotations":
            fields = {**fields, **METRIC_FIELDS}
        broken, repeated, seen = defaultdict(list), [], set()
        for index, entry in enumerate(entries):
            fault = entry_fault(entry, fields)
            while fault and (fault.key in METRIC_FIELDS or fault.is_missing and fault.key in REMEDIES):
                broken[fault.key].append(entry_name(section, index, entry))
                entry = {**entry, fault.key: _area(entry) if fault.key == "area" else 0}
                fault = entry_fault(entry, fields)
            if fault:
                broken[fault.key].append(f"{entry_name(section, index, entry)} {fault.text}")
                continue
            is_new = entry["id"] not in seen
            seen.add(entry["id"])
            if not is_new:
                repeated.append(entry["id"])
            if is_new or section == "annotations":
                whole[section].append(entry)
        findings += [_broken(section, key, names, scored) for key, names in broken.items()]
        if repeated:
            message = f"{section} whose id another one has"
            findings.append(Finding(f"repeated_id_{section}", message, repeated, is_error=True))
    return whole, findings


def _area(entry: dict) -> float:
    box = entry.get("bbox")
    try:
        return float(box[2] * box[3])
    except (TypeError, IndexError, KeyError):
        return 0.0


def _broken(section: str, key: str, names: list[str], scored: bool) -> Finding:
    remedy = f"Add {key!r}{REMEDIES[key]}." if key in REMEDIES else ""
    only_for_the_metric = key in METRIC_FIELDS and not scored
    message = f"{section} with a missing or wrong {key!r}" if key else f"{section} that are no object"
    return Finding(f"{section}_{key}", message, names, remedy, is_error=not only_for_the_metric)


def objects(coco: dict, taken: Container) -> Iterator[tuple[dict, dict]]:
    """Yield the annotations that a data set would look at, with their images.

    Args:
        coco: the file, of whole entries.
        taken: ids of the categories that are classes.
    """
    images = {image["id"]: image for image in coco["images"]}
    for ann in coco["annotations"]:
        image = images.get(ann["image_id"])
        if image is not None and ann["category_id"] in taken and not ann.get("ignore", False):
            yield ann, image


def boxes_and_sizes(coco: dict, taken: Container) -> tuple[np.ndarray, np.ndarray]:
    """All boxes as they are in the file, (n, 4), and width and height of their images, (n, 2)."""
    rows = [(*ann["bbox"], image["width"], image["height"]) for ann, image in objects(coco, taken)]
    table = np.array(rows, float).reshape(-1, 6)
    return table[:, :4], table[:, 4:]


def check_references(coco: dict) -> list[Finding]:
    """Annotations whose image or category is not in the file; they are skipped."""
    findings = []
    for key, section in ("image_id", "images"), ("category_id", "categories"):
        known = {entry["id"] for entry in coco[section]}
        lost = [ann["id"] for ann in coco["annotations"] if ann[key] not in known]
        if lost:
            message = f"annotations whose {key} the file does not hold"
            remedy = "They are skipped. Ids are equal only if their types are."
            findings.append(Finding(f"unknown_{key}", message, lost, remedy))
    return findings


def check_repeats(coco: dict) -> list[Finding]:
    """Annotations that say what another one says: same image, category and box."""
    seen, repeats = set(), []
    for ann in coco["annotations"]:
        key = ann["image_id"], ann["category_id"], *ann["bbox"]
        if key in seen:
            repeats.append(ann["id"])
        seen.add(key)
    message = "annotations that repeat image, category and box of another one"
    remedy = "The model learns to find such an object twice; keep one."
    return [Finding("repeated_annotation", message, repeats, remedy)] if repeats else []


def check_boxes(coco: dict, taken: Container) -> list[Finding]:
    """Boxes that cannot be learnt, that leave their image, or that look like corners."""
    faulty, leaving, num_good = defaultdict(list), [], 0
    boxes, sizes = boxes_and_sizes(coco, taken)
    out = reaches_out(boxes, sizes)
    for (ann, image), is_out in zip(objects(coco, taken), out, strict=True):
        fault = box_fault(ann, image["width"], image["height"])
        name = f"annotation {ann['id']} in {image['file_name']}"
        if fault is not None:
            faulty[fault].append(name)
            continue
        num_good += 1
        if is_out:
            leaving.append(name)
    findings = [
        Finding("box_" + fault.replace(" ", "_").replace("'", ""), f"boxes {fault}", names)
        for fault, names in faulty.items()
    ]
    for finding in findings:
        finding.remedy = "They are not trained on; the COCO metric counts them all the same."
    if leaving:
        message = "boxes that leave their image by more than a pixel"
        findings.append(Finding("box_partly_outside", message, leaving, "A training clips them."))
    findings += check_corners(boxes, sizes)
    if not num_good:
        message = f"none of the {len(coco['annotations'])} annotations can be learnt from"
        remedy = "Boxes are x, y, width, height in pixels; categories must be classes."
        findings.append(Finding("nothing_usable", message, remedy=remedy, is_error=True))
    return findings
