"""What a check has found."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from projects.reliable_runner.files.coco_file import shorten


@dataclass
class Finding:
    """Things with the same fault.

    Args:
        key: the name of the fault, for machines.
        message: what they are, in the plural; a whole sentence if there are no ``items``.
        items: all of them: ids, file names, or words.
        remedy: what to do; "" if that is plain.
        is_error: whether it stops training or silently spoils it.
        where: the split, "" if it is none alone.
    """

    key: str
    message: str
    items: Sequence = field(default_factory=list)
    remedy: str = ""
    is_error: bool = False
    where: str = ""

    def __str__(self) -> str:
        found = self.message.partition("\n")[0]
        if self.items:
            found = f"{len(self.items)} {found}: {shorten(list(map(str, self.items)))}"
        place = f"{self.where}: " if self.where else ""
        return place + found + (f"\n    {self.remedy}" if self.remedy else "")

    def to_dict(self) -> dict:
        """As JSON holds it."""
        return dict(
            key=self.key,
            where=self.where,
            message=self.message,
            count=len(self.items),
            items=list(self.items),
            remedy=self.remedy,
        )
