"""A resumed iteration-based run gets the batches that the run would have had, and loads no others."""

from itertools import islice

import pytest
import torch
from mmengine.runner import loops
from torch.utils.data import DataLoader, Dataset

from projects.reliable_runner.data.sampler import DefaultSampler, InfiniteSampler, batches_after
from projects.reliable_runner.data.seeded_items import SeededItems

NUM, BATCH = 10, 3


class Items(SeededItems, Dataset):
    def __init__(self) -> None:
        self.loaded = []

    def __len__(self) -> int:
        return NUM

    def __getitem__(self, index: int) -> tuple[int, float]:
        self.loaded.append(index)
        return index, torch.rand(()).item()


def loader(cls, workers: int = 0) -> DataLoader:
    items = Items()
    sampler = cls(items, shuffle=True, seed=5)
    return DataLoader(items, BATCH, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)


@pytest.mark.parametrize("cls", [InfiniteSampler, DefaultSampler])
@pytest.mark.parametrize(("num_seen", "workers"), [(2, 0), (4, 0), (7, 0), (7, 2)])
def test_the_batches_are_those_of_the_run(monkeypatch, cls, num_seen, workers):
    monkeypatch.setattr(loops.time, "sleep", lambda _: None)
    whole = loops._InfiniteDataloaderIterator(loader(cls))
    expected = [[x.tolist() for x in batch] for batch in islice(whole, num_seen + 6)][num_seen:]
    resumed = loader(cls, workers)
    loops._InfiniteDataloaderIterator(resumed)  # as mmengine's loop makes it when it is built
    found = [[x.tolist() for x in batch] for batch in islice(batches_after(resumed, num_seen), 6)]
    assert found == expected
    if not workers:
        assert len(resumed.dataset.loaded) == sum(len(batch[0]) for batch in expected)
