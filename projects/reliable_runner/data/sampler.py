"""Samplers whose indices know in which pass over the data they are drawn."""

from collections.abc import Iterator

from mmengine.dataset import DefaultSampler as _DefaultSampler
from mmengine.dataset import InfiniteSampler as _InfiniteSampler


class EpochIndex(int):
    """The index of an image, with the pass over the data and the seed of the run.

    What is random about an image is drawn from these three (`SeededItems`), and not from generators that
    depend on which process and which worker load it.
    """

    seed: int
    epoch: int

    @classmethod
    def of(cls, index: int, seed: int, epoch: int) -> "EpochIndex":
        """``index`` in the pass ``epoch`` of a run with ``seed``."""
        self = cls(index)
        self.seed, self.epoch = seed, epoch
        return self


class DefaultSampler(_DefaultSampler):
    """mmengine's ``DefaultSampler``, which yields `EpochIndex`."""

    def __iter__(self) -> Iterator[EpochIndex]:
        """The indices of this process in the order of this epoch."""
        return (EpochIndex.of(index, self.seed, self.epoch) for index in super().__iter__())


class InfiniteSampler(_InfiniteSampler):
    """mmengine's ``InfiniteSampler``, which yields `EpochIndex`."""

    def _indices_of_rank(self) -> Iterator[EpochIndex]:
        """The indices of this process, pass after pass; the base class keeps one such iterator."""
        for num_drawn, index in enumerate(super()._indices_of_rank()):
            epoch = (num_drawn * self.world_size + self.rank) // self.size
            yield EpochIndex.of(index, self.seed, epoch)
