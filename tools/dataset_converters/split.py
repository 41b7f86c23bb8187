"""Which images are for training, and which are held out."""

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from projects.reliable_runner.errors import InputError
from tools.dataset_converters.export import Picture


def split_pictures(
    pictures: Sequence[Picture], folder: Path, share: float | None, seed: int
) -> dict[str, list[Picture]]:
    """Pictures by split; those of none go to train, and a part of train to val if there is none.

    A hash of ``seed`` and the path below ``folder`` says which part: order and machine play no role, and a
    new image moves few. ``share`` is that of train, above 0, at most 1; None is 0.8. Splits without an image
    are left out. `InputError` if there is a val although a ``share`` is given, or nothing to split.
    """
    splits: dict[str, list[Picture]] = dict(train=[], val=[], test=[])
    for picture in pictures:
        splits[picture.split or "train"].append(picture)
    if splits["val"] and share is not None:
        raise InputError(f"{folder}: it has {len(splits['val'])} images for val already; leave out --split")
    if not splits["val"] and share != 1:
        train, num = splits["train"], len(splits["train"])
        if num < 2:
            raise InputError(f"{folder}: {num} images for train can't be split; --split 1 leaves out val")

        def rank(picture: Picture) -> bytes:
            name = Path(os.path.relpath(picture.path, folder)).as_posix()
            return blake2b(f"{seed}/{name}".encode()).digest()

        num_train = min(max(round((share or 0.8) * num), 1), num - 1)
        last = sorted(map(rank, train))[num_train - 1]
        splits["train"] = [picture for picture in train if rank(picture) <= last]
        splits["val"] = [picture for picture in train if rank(picture) > last]
    return {split: part for split, part in splits.items() if part}
