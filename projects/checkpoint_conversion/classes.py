"""Which row of a class branch belongs to which class."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# The official code and transformers number the classes of COCO as the annotations do: 91 rows, 80 in use.
_NOT_IN_USE = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(i for i in range(91) if i not in _NOT_IN_USE)
NUMBERED_BY_ID = ("official", "huggingface", "huggingface-resnet")
_LABELS = "dn_query_generator.label_embedding.weight"
# The logit of a class that no class of ours stands for: its score vanishes, in float16 too.
_NEVER = -50.0


def parse_ids(text: str) -> list[int]:
    """The rows that ``--classes`` names: "coco", or numbers with commas between, each once."""
    try:
        ids = list(COCO_IDS) if text == "coco" else [int(part) for part in text.split(",")]
    except ValueError:
        ids = []
    if not ids or min(ids) < 0 or len(set(ids)) < len(ids):
        raise ValueError(
            f"--classes {text}: give coco, all, or the category id of each of our classes in their "
            "order, e.g. 1,2,4"
        )
    return ids


def num_rows(tensors: dict[str, Tensor]) -> int:
    """Rows of a class branch of the decoder."""
    return len(tensors["bbox_head.cls_branches.0.bias"])


def cut_labels(tensors: dict[str, Tensor]) -> Tensor | None:
    """Leave DINO's embedding of labels a row a class; return the others: the official code has one more."""
    if _LABELS not in tensors:
        return None
    rows, labels = num_rows(tensors), tensors[_LABELS]
    if len(labels) < rows:
        raise ValueError(f"its embedding of labels has {len(labels)} rows for {rows} classes")
    tensors[_LABELS] = labels[:rows].clone()
    return labels[rows:].clone()


def add_labels(tensors: dict[str, Tensor], others: Tensor | None) -> None:
    """Undo `cut_labels`; without ``others``, the official code's row for an unknown class is zero."""
    if _LABELS in tensors:
        labels = tensors[_LABELS]
        others = labels.new_zeros(1, labels.shape[1]) if others is None else others
        tensors[_LABELS] = torch.cat((labels, others))


def select(tensors: dict[str, Tensor], ids: Sequence[int], two_stage: bool) -> dict[str, Tensor]:
    """Keep the rows of ``ids``, in this order; return the others, by the name of the tensor.

    The encoder's branch of a two-stage model keeps its first rows: its row 0 means "object" in every code.
    """
    rows = num_rows(tensors)
    if max(ids) >= rows:
        raise ValueError(f"--classes names row {max(ids)}, but the class branches have {rows} rows")
    unused = {}
    for key, kept in _kept_rows(tensors, ids, two_stage):
        unused[key] = tensors[key][_others(kept, rows)]
        tensors[key] = tensors[key][kept]
    return unused


def spread(
    tensors: dict[str, Tensor], ids: Sequence[int], two_stage: bool, unused: dict[str, Tensor]
) -> None:
    """Undo `select`: class i becomes row ``ids[i]``; rows that are not in ``unused`` never score."""
    if num_rows(tensors) != len(ids):
        raise ValueError(f"--classes names {len(ids)} rows, but the model has {num_rows(tensors)} classes")
    rows = max([max(ids) + 1, *(len(ids) + len(rest) for rest in unused.values())])
    for key, kept in _kept_rows(tensors, ids, two_stage):
        tensor = tensors[key]
        tensors[key] = tensor.new_full((rows, *tensor.shape[1:]), _NEVER if tensor.dim() == 1 else 0)
        if key in unused:
            tensors[key][_others(kept, rows)] = unused[key]
        tensors[key][kept] = tensor


def _kept_rows(
    tensors: dict[str, Tensor], ids: Sequence[int], two_stage: bool
) -> Iterator[tuple[str, list[int]]]:
    """The tensors that have a row a class and which rows of each are our classes."""
    if _LABELS in tensors:
        yield _LABELS, ids
    keys = [key for key in tensors if key.startswith("bbox_head.cls_branches.")]
    number = {key: int(key.split(".")[2]) for key in keys}
    for key in keys:
        of_encoder = two_stage and number[key] == max(number.values())
        yield key, list(range(len(ids)) if of_encoder else ids)


def _others(kept: Sequence[int], rows: int) -> list[int]:
    return [row for row in range(rows) if row not in kept]
