"""What a check of a data set finds."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..files.coco_file import shorten


@dataclass
class Finding:
    """Entries with the same fault.

    Args:
        key: identifies the fault in ``report.json``.
        message: what they are, in the plural; a full sentence if there are no ``items``.
        items: all of them: ids, file names, or words.
        remedy: what to do; "" if that is plain.
        is_error: whether it stops training or silently spoils it.
        where: the split; "" if it concerns several.
    """

    key: str
    message: str
    items: Sequence = ()
    remedy: str = ""
    is_error: bool = False
    where: str = ""

    def __str__(self) -> str:
        text = self.message.partition("\n")[0]
        if self.items:
            text = f"{len(self.items)} {text}: {shorten(list(map(str, self.items)))}"
        place = f"{self.where}: " if self.where else ""
        return place + text + (f"\n    {self.remedy}" if self.remedy else "")
