"""Categories of a COCO file and classes of a data set."""

from collections.abc import Sequence

from ..errors import InputError
from ..files.coco_file import shorten


def labels_by_category(categories: Sequence[dict], classes: Sequence[str]) -> dict[int | str, int]:
    """The label of each category that is a class, by category id; mmdet's if names are in the file's order."""
    labels = {name: label for label, name in enumerate(classes)}
    return {category["id"]: labels[category["name"]] for category in categories if category["name"] in labels}


def compare_names(classes: Sequence[str] | str, categories: Sequence[str], ann_file: str) -> None:
    """Compare the classes of a data set with the categories of its file.

    Args:
        classes: names by label.
        categories: names in the file's order; the file may have more of them than there are classes.
        ann_file: the file, for the message.

    Raises:
        InputError: ``classes`` is a string, or the file does not have these names in this order.
    """
    if isinstance(classes, str):
        raise InputError(
            f"metainfo: classes is the string {classes!r}; for one class write "
            f"metainfo=dict(classes=({classes!r},))"
        )
    if [name for name in categories if name in classes] != list(classes):
        # mmdet and its metric number the labels by the file's order, so the order counts too.
        absent = [name for name in classes if name not in categories]
        fault = f"it has no category {shorten(absent)}" if absent else "names repeat or differ in order"
        raise InputError(
            f"{ann_file}: classes and categories disagree, {fault}{both_lists(classes, categories)}\n"
            "Give the data sets the names in the file's order, and the model as many num_classes:\n"
            f"  metainfo=dict(classes={tuple(categories)})"
        )


def both_lists(classes: Sequence[str], categories: Sequence[str]) -> str:
    """Classes and categories on a line each, for a message."""
    return (
        f"\n  classes of the data set ({len(classes)}): {list(classes)}"
        f"\n  categories of the file ({len(categories)}): {list(categories)}"
    )
