"""Data sets in which an image's random numbers depend on nothing but the image, the epoch and the seed."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmdet import datasets
from mmengine import dataset
from mmengine.structures import BaseDataElement

from .sampler import EpochIndex
from .step_errors import name_steps


class SeededItems:
    """Mixin of data sets: seeds python, numpy and torch from (seed, epoch, index) before an item is loaded.

    Augmentation is then the same for any number of processes and workers, any batch size, and after a
    resume. So is what a model draws from a generator that it seeds with the sample's metainfo ``item_seed``.
    It takes the indices of our samplers (`EpochIndex`); others leave the generators alone. Only the data set
    that the data loader holds seeds, so that each repetition of a ``RepeatDataset`` draws anew.
    """

    def __getitems__(self, indices: Sequence[int]) -> list:
        """The items of a batch; torch's data loader calls this if there is one."""
        in_epoch = all(isinstance(index, EpochIndex) for index in indices)
        if getattr(self, "test_mode", False) or not in_epoch:
            return [self[index] for index in indices]
        with generators_kept():
            return [self._seeded_item(index) for index in indices]

    def _seeded_item(self, index: EpochIndex) -> object:
        item_seed = seed_generators(index.seed, index.epoch, index)
        item = self[int(index)]
        if isinstance(item, dict) and isinstance(sample := item.get("data_samples"), BaseDataElement):
            sample.set_metainfo(dict(item_seed=item_seed))
        return item


@contextmanager
def generators_kept() -> Iterator[None]:
    """Within this numbers may be drawn on the CPU; after it the generators are as before, for dropout e.g."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def seed_generators(*entropy: int) -> int:
    """Seed python, numpy and torch's CPU generator from integers >= 0, each by its own; return one more."""
    python_seed, numpy_seed, torch_seed, another = map(int, np.random.SeedSequence(entropy).generate_state(4))
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    torch.default_generator.manual_seed(torch_seed)  # torch.manual_seed would touch CUDA's too
    return another


class ConcatDataset(datasets.ConcatDataset, SeededItems):
    """mmdet's ``ConcatDataset`` with `SeededItems`."""


class RepeatDataset(dataset.RepeatDataset, SeededItems):
    """mmengine's ``RepeatDataset`` with `SeededItems`."""


class ClassBalancedDataset(dataset.ClassBalancedDataset, SeededItems):
    """mmengine's ``ClassBalancedDataset`` with `SeededItems`."""


class MultiImageMixDataset(datasets.MultiImageMixDataset, SeededItems):
    """mmdet's ``MultiImageMixDataset`` with `SeededItems`."""

    __getitem__ = name_steps(datasets.MultiImageMixDataset.__getitem__)
