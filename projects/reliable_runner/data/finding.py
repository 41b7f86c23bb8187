"""What a check of a data set finds."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..files.coco_file import shorten


@dataclass
class Finding:
    """Entries with the same fault."""

    key: str  # in ``report.json``
    message: str  # what they are, in the plural; a full sentence if there are no ``items``
    items: Sequence = ()  # all of them: ids, file names, or words
    remedy: str = ""
    is_error: bool = False  # whether it stops training or silently spoils it
    where: str = ""  # the split; "" if it concerns several

    def __str__(self) -> str:
        text = self.message.partition("\n")[0]
        if self.items:
            text = f"{len(self.items)} {text}: {shorten(list(map(str, self.items)))}"
        place = f"{self.where}: " if self.where else ""
        return place + text + (f"\n    {self.remedy}" if self.remedy else "")
