"""Categories of a file beside the classes of a data set."""

from collections.abc import Sequence

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import shorten

from .finding import Finding


def labels_by_category(coco: dict, classes: Sequence[str]) -> dict[int | str, int]:
    """The label of each category that is a class, by its id; for names in the file's order mmdet's."""
    labels = {name: label for label, name in enumerate(classes)}
    return {
        category["id"]: labels[category["name"]]
        for category in coco["categories"]
        if category["name"] in labels
    }


def compare_names(classes: Sequence[str] | str, categories: list[str], ann_file: str) -> None:
    """Compare the classes of a data set with the categories of its file.

    Args:
        classes: names by label.
        categories: names in the file's order; more than the classes are allowed.
        ann_file: the file, for the message.

    Raises:
        InputError: ``classes`` is a string, or the file does not have these names in this order.
    """
    if isinstance(classes, str):
        raise InputError(
            f"metainfo: classes is the string {classes!r}; for one class write "
            f"metainfo=dict(classes=({classes!r},))"
        )
    classes = list(classes)
    if [name for name in categories if name in classes] != classes:
        # mmdet and its metric number the labels by the file's order, so the order counts too.
        absent = [name for name in classes if name not in categories]
        fault = f"it has no category {shorten(absent)}" if absent else "names repeat or differ in order"
        raise InputError(
            f"{ann_file}: classes and categories disagree, {fault}{both_lists(classes, categories)}\n"
            "Give the data sets the names in the file's order, and the model as many num_classes:\n"
            f"  metainfo=dict(classes={tuple(categories)})"
        )


def both_lists(classes: Sequence[str], categories: list[str]) -> str:
    """Two lines for a message."""
    return (
        f"\n  classes of the data set ({len(classes)}): {list(classes)}"
        f"\n  categories of the file ({len(categories)}): {categories}"
    )


def check_classes(coco: dict, classes: Sequence[str] | str, ann_file: str) -> list[Finding]:
    """Classes that no category serves, in any order, and categories that are no class."""
    categories = [category["name"] for category in coco["categories"]]
    findings = []
    try:
        compare_names(classes, categories, ann_file)
    except InputError as error:
        remedy = f"metainfo=dict(classes={tuple(categories)})"
        findings.append(Finding("classes", str(error), remedy=remedy, is_error=True))
    ignored = [name for name in categories if name not in classes]
    if ignored:
        message = "categories that are not among the classes; their boxes are not used"
        findings.append(Finding("categories_ignored", message, ignored))
    return findings
