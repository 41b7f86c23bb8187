"""Entries of a COCO file: complete, unique, and of images and categories that exist."""

from collections import defaultdict

from projects.reliable_runner.data.finding import Finding
from projects.reliable_runner.files.coco_file import (
    FIELDS,
    METRIC_FIELDS,
    REMEDIES,
    entry_faults,
    entry_name,
    fields_of,
)


def split_entries(content: dict, scored: bool) -> tuple[dict, list[Finding]]:
    """Separate the entries that have what COCO wants from those that do not.

    Args:
        content: the parsed file.
        scored: whether the COCO metric reads it too; see `CocoFile`.

    Returns:
        The file with complete entries alone, each id once among images and categories; where only ``area`` or
        ``iscrowd`` are missing they are filled in, so that the other checks can go on. And the findings.
    """
    complete, findings = {}, []
    for section in FIELDS:
        entries, is_annotation = content.get(section), section == "annotations"
        complete[section] = []
        if not isinstance(entries, list):
            if not (scored and is_annotation and entries is None):
                message = f"the file has no list {section!r}"
                findings.append(Finding("section_missing", message, is_error=True))
            continue
        faulty, repeated, seen = defaultdict(list), [], set()
        fields = fields_of(section, scored=True)
        for index, entry in enumerate(entries):
            faults = list(entry_faults(entry, fields))
            for fault in faults:
                faulty[fault.key].append(f"{entry_name(section, index, entry)} {fault.text}")
            if not all(f.key in METRIC_FIELDS or f.is_missing and f.key in REMEDIES for f in faults):
                continue
            for fault in faults:
                width, height = entry["bbox"][2:]
                entry = {**entry, fault.key: float(width * height) if fault.key == "area" else 0}
            is_new = entry["id"] not in seen
            seen.add(entry["id"])
            if not is_new:
                repeated.append(entry["id"])
            if is_new or is_annotation:
                complete[section].append(entry)
        for key, texts in faulty.items():
            message = f"{section} with a missing or wrong {key!r}" if key else f"{section} that are no object"
            remedy = f"Add {key!r}{REMEDIES[key]}." if key in REMEDIES else ""
            is_error = scored or key not in METRIC_FIELDS
            findings.append(Finding(f"{section}_{key}", message, texts, remedy, is_error))
        if repeated:
            message = f"{section} whose id another one has"
            findings.append(Finding(f"repeated_id_{section}", message, repeated, is_error=True))
    return complete, findings


def check_references(coco: dict) -> list[Finding]:
    """Annotations whose image or category is not in the file; they are skipped."""
    findings = []
    for key, section in ("image_id", "images"), ("category_id", "categories"):
        known = {entry["id"] for entry in coco[section]}
        unknown = [ann["id"] for ann in coco["annotations"] if ann[key] not in known]
        if unknown:
            message = f"annotations whose {key} the file does not hold"
            remedy = "They are skipped. Ids are equal only if their types are."
            findings.append(Finding(f"unknown_{key}", message, unknown, remedy))
    return findings


def check_repeats(coco: dict) -> list[Finding]:
    """Annotations with image, category and box of another one."""
    seen, repeats = set(), []
    for ann in coco["annotations"]:
        key = ann["image_id"], ann["category_id"], *ann["bbox"]
        if key in seen:
            repeats.append(ann["id"])
        seen.add(key)
    message = "annotations that repeat image, category and box of another one"
    remedy = "The model learns to find such an object twice; keep one."
    return [Finding("repeated_annotation", message, repeats, remedy)] if repeats else []
