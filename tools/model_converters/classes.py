"""Which row of a class branch belongs to which class."""

from projects.reliable_runner.errors import InputError
from tools.model_converters.weights import Weights

# The official code and transformers number the classes of COCO as the annotations do: 91 rows, 80 in use.
_NOT_IN_USE = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(i for i in range(91) if i not in _NOT_IN_USE)
NUMBERED_BY_ID = ("official", "huggingface", "huggingface-resnet")
# The logit of a class that no class of ours stands for: its score vanishes, in float16 too.
_NEVER = -50.0


def parse_ids(text: str) -> tuple[int, ...]:
    """The rows that ``--classes`` names.

    Args:
        text: "coco", or numbers with commas between.

    Raises:
        InputError: it is neither, or names a row twice.
    """
    try:
        ids = COCO_IDS if text == "coco" else tuple(int(part) for part in text.split(","))
    except ValueError:
        ids = ()
    if not ids or min(ids) < 0 or len(set(ids)) < len(ids):
        raise InputError(
            f"--classes {text}: give coco, all, or the category id of each of our classes in their "
            "order, e.g. 1,2,4"
        )
    return ids


def select(weights: Weights, ids: tuple[int, ...]) -> None:
    """Keep the rows of ``ids``, in this order, and put the others by.

    The encoder's branch of a two-stage model keeps its first rows: its row 0 means "object" in every code.

    Raises:
        InputError: the branches have no such rows.
    """
    rows = weights.num_classes
    if max(ids) >= rows:
        raise InputError(f"--classes names row {max(ids)}, but the class branches have {rows} rows")
    weights.ids = ids
    for key, kept in _rows_of_branches(weights, ids):
        tensor = weights.tensors[key]
        weights.unused[key] = tensor[_others(kept, rows)]
        weights.tensors[key] = tensor[list(kept)]


def spread(weights: Weights, ids: tuple[int, ...]) -> None:
    """Undo `select`: class i becomes row ``ids[i]``; rows that are not known never score.

    Raises:
        InputError: there is not one id a class.
    """
    if weights.num_classes != len(ids):
        raise InputError(f"--classes names {len(ids)} rows, but the model has {weights.num_classes} classes")
    unused = weights.unused if ids == weights.ids else {}
    rows = max([max(ids) + 1, *(len(ids) + len(rest) for rest in unused.values())])
    for key, kept in _rows_of_branches(weights, ids):
        tensor = weights.tensors[key]
        spread_out = tensor.new_full((rows, *tensor.shape[1:]), _NEVER if tensor.dim() == 1 else 0)
        others = _others(kept, rows)
        if key in unused:
            spread_out[others] = unused[key]
        spread_out[list(kept)] = tensor
        weights.tensors[key] = spread_out


def _rows_of_branches(weights: Weights, ids: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The tensors of the class branches and which rows of each are our classes."""
    keys = [key for key in weights.tensors if key.startswith("bbox_head.cls_branches.")]
    number = {key: int(key.split(".")[2]) for key in keys}
    encoder = max(number.values()) if weights.variant == "two-stage" else None
    return [(key, tuple(range(len(ids))) if number[key] == encoder else ids) for key in keys]


def _others(kept: tuple[int, ...], rows: int) -> list[int]:
    return [row for row in range(rows) if row not in kept]
