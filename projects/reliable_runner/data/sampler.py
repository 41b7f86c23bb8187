"""Samplers whose indices know in which pass over the data they are drawn."""

from collections.abc import Iterator
from itertools import chain

from mmengine import dataset
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader


class EpochIndex(int):
    """The index of an image, with the pass over the data and the seed of the run.

    What is random about an image is drawn from these three (`SeededItems`), and not from generators that
    depend on which process and which worker load it.
    """

    seed: int
    epoch: int

    @classmethod
    def of(cls, index: int, seed: int, epoch: int) -> "EpochIndex":
        self = cls(index)
        self.seed, self.epoch = seed, epoch
        return self


class DefaultSampler(dataset.DefaultSampler):
    """mmengine's ``DefaultSampler``, which yields `EpochIndex`."""

    def __iter__(self) -> Iterator[EpochIndex]:
        return (EpochIndex.of(index, self.seed, self.epoch) for index in super().__iter__())


class InfiniteSampler(dataset.InfiniteSampler):
    """mmengine's ``InfiniteSampler``, which yields `EpochIndex`."""

    def _indices_of_rank(self) -> Iterator[EpochIndex]:
        """The indices of this process, pass after pass; the base class keeps one such iterator."""
        for num_drawn, index in enumerate(super()._indices_of_rank()):
            epoch = (num_drawn * self.world_size + self.rank) // self.size
            yield EpochIndex.of(index, self.seed, epoch)


def batches_after(loader: DataLoader, num_seen: int) -> _InfiniteDataloaderIterator:
    """The batches of an iteration-based run after the first ``num_seen``, which are not loaded again."""
    sampler, batch_sampler = loader.sampler, loader.batch_sampler
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()  # from the beginning
    epoch, indices = 0, iter(batch_sampler)
    for _ in range(num_seen + 1):
        if (first := next(indices, None)) is None:
            epoch += 1
            sampler.set_epoch(epoch)
            indices = iter(batch_sampler)
            first = next(indices)
    loader._iterator = None  # persistent workers have indices of the beginning
    # torch allows no other batch sampler after the first.
    object.__setattr__(loader, "batch_sampler", _Continued(chain([first], indices), batch_sampler))
    batches = _InfiniteDataloaderIterator(loader)
    batches._epoch = epoch
    return batches


class _Continued:
    """A batch sampler whose first pass has begun."""

    def __init__(self, rest: Iterator[list[int]], batch_sampler) -> None:
        self.sampler = batch_sampler.sampler
        self._rest, self._batch_sampler = rest, batch_sampler

    def __iter__(self) -> Iterator[list[int]]:
        rest, self._rest = self._rest, None
        yield from self._batch_sampler if rest is None else rest

    def __len__(self) -> int:
        return len(self._batch_sampler)
