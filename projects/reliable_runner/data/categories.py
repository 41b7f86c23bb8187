"""Categories of a COCO file and classes of a data set."""

from collections.abc import Iterator, Sequence

from ..errors import InputError
from ..files.coco_file import shorten
from .finding import Finding


def labels_by_category(categories: Sequence[dict], classes: Sequence[str]) -> dict[int | str, int]:
    """The label of each category that is a class, by category id."""
    labels = {name: label for label, name in enumerate(classes)}
    return {category["id"]: labels[category["name"]] for category in categories if category["name"] in labels}


def compare_names(classes: Sequence[str] | str, categories: Sequence[str], ann_file: str) -> None:
    """Compare the classes of a data set with the categories of its file, which may be more, in any order.

    `InputError` if ``classes`` is a string, or a class is no category or more than one.
    """
    if isinstance(classes, str):
        raise InputError(
            f"metainfo: classes is the string {classes!r}; for one class write "
            f"metainfo=dict(classes=({classes!r},))"
        )
    if doubled := [name for name in dict.fromkeys(classes) if [*classes].count(name) > 1]:
        raise InputError(
            f"metainfo: classes has {shorten(doubled)} more than once; each label has its own name"
        )
    if doubled := [name for name in classes if categories.count(name) > 1]:
        raise InputError(
            f"{ann_file}: several categories are named {shorten(doubled)}, which labels follow: give each a "
            "name of its own in the file, or their annotations one category_id"
        )
    if absent := [name for name in classes if name not in categories]:
        single = tuple(name for name in categories if categories.count(name) == 1)
        raise InputError(
            f"{ann_file}: it has no category {shorten(absent)}{both_lists(classes, categories)}\n"
            "Name categories of the file, and give the model as many num_classes:\n"
            f"  metainfo=dict(classes={single})"
        )


def compare_labels(sources: Sequence[tuple[str, list[str]]]) -> Iterator[Finding]:
    """Data sets of one model, (name, classes), whose labels are not those of the first.

    Only a name that has another label is an error: two splits may spell their classes differently.
    """
    for source, classes in sources[1:]:
        first, names = sources[0]
        if classes == names:
            continue
        labels = {name: label for label, name in enumerate(names)}
        moved = [name for label, name in enumerate(classes) if labels.get(name, label) != label]
        message = f"the labels of {source} are {classes}, those of {first} {names}"
        if moved:
            message = f"classes of {source} have another label than in {first}"
        remedy = "Give all data sets one metainfo=dict(classes=...)."
        yield Finding("labels_differ", message, moved, remedy, is_error=bool(moved))


def both_lists(classes: Sequence[str], categories: Sequence[str]) -> str:
    """Classes and categories on a line each, for a message."""
    return (
        f"\n  classes of the data set ({len(classes)}): {list(classes)}"
        f"\n  categories of the file ({len(categories)}): {list(categories)}"
    )
