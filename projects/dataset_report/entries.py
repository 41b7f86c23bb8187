"""Entries of a COCO file: complete, unique, and of images and categories that exist."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from projects.reliable_runner.data.finding import Finding
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_completion import complete, name_categories
from projects.reliable_runner.files.coco_file import FIELDS, entry_faults


def split_entries(content: dict, folder: str, classes: Sequence[str]) -> tuple[dict, list[Finding]]:
    """Complete the entries of a parsed file, and separate those that have what COCO wants from the others.

    Returns:
        The file with complete entries alone, each id once among images and categories; and the findings.
    """
    findings = [Finding("filled_in", f"filled in: {line}") for line in complete(content, folder)]
    result = {section: [] for section in FIELDS}
    for section, kept in result.items():
        entries = content.get(section)
        if not isinstance(entries, list):
            message = f"the file has no list {section!r}"
            findings.append(Finding("section_missing", message, is_error=True))
            continue
        faulty, repeated, seen = defaultdict(list), [], set()
        for index, entry in enumerate(entries):
            faults = list(entry_faults(section, index, entry, folder))
            for key, text in faults:
                faulty[key].append(text)
            if faults:
                continue
            if entry["id"] in seen:
                repeated.append(entry["id"])
            if entry["id"] not in seen or section == "annotations":
                kept.append(entry)
            seen.add(entry["id"])
        for key, texts in faulty.items():
            message = f"{section} with a missing or wrong {key!r}" if key else f"{section} that are no object"
            findings.append(Finding(f"{section}_{key}", message, texts, is_error=True))
        if repeated:
            message = f"{section} whose id another one has"
            findings.append(Finding(f"repeated_id_{section}", message, repeated, is_error=True))
    if content.get("categories") == []:
        try:
            name_categories(result, classes)
        except InputError as error:
            findings.append(Finding("categories_empty", str(error), is_error=True))
    return result, findings


def check_references(coco: dict) -> Iterator[Finding]:
    """Annotations whose image or category is not in the file; they are skipped."""
    for key, section in ("image_id", "images"), ("category_id", "categories"):
        known = {entry["id"] for entry in coco[section]}
        if unknown := [ann["id"] for ann in coco["annotations"] if ann[key] not in known]:
            remedy = "They are skipped. Ids are equal only if their types are."
            used = {ann[key] for ann in coco["annotations"]}
            is_shifted = key == "category_id" and _is_shifted(used, known)
            if is_shifted:
                remedy = "The ids are off by one, so every label is that of a neighbour: correct them."
            message = f"annotations whose {key} the file does not hold"
            yield Finding(f"unknown_{key}", message, unknown, remedy, is_error=is_shifted)


def _is_shifted(used: set, known: set) -> bool:
    """Whether ids run as those of the categories do, but one step up or down."""
    if not (used and known) or not all(isinstance(i, int) for i in used | known):
        return False
    return min(used) - min(known) == max(used) - max(known) and abs(min(used) - min(known)) == 1


def check_repeats(coco: dict) -> Iterator[Finding]:
    """Annotations with image, category and box of another one."""
    seen, repeats = set(), []
    for ann in coco["annotations"]:
        key = ann["image_id"], ann["category_id"], *ann["bbox"]
        if key in seen:
            repeats.append(ann["id"])
        seen.add(key)
    if repeats:
        message = "annotations that repeat image, category and box of another one"
        remedy = "The model learns to find such an object twice; keep one."
        yield Finding("repeated_annotation", message, repeats, remedy)
