"""What is random about an image depends on seed, epoch and image alone."""

import random

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader, SequentialSampler

from projects.reliable_runner.data.sampler import DefaultSampler, EpochIndex, InfiniteSampler
from projects.reliable_runner.data.seeded_items import RepeatDataset, SeededItems


class Draws(BaseDataset):
    """Four items that are what an augmentation would draw."""

    METAINFO = dict(classes=("thing",))

    def load_data_list(self) -> list[dict]:
        return [{} for _ in range(4)]

    def __getitem__(self, index: int) -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(()).item()


class SeededDraws(SeededItems, Draws):
    pass


def draws(dataset, sampler=None, epoch: int = 0, **loader_options) -> dict[int, tuple]:
    """What each image of ``dataset`` draws in an epoch, by index."""
    sampler = sampler or DefaultSampler(dataset, seed=5)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, sampler=sampler, collate_fn=list, **loader_options)
    items = [item for batch in loader for item in batch]
    return dict(zip(map(int, sampler), items, strict=True))


def test_an_image_draws_the_same_in_any_batch_and_worker():
    expected = draws(SeededDraws())
    assert len({number for item in expected.values() for number in item}) == 4 * 3
    assert draws(SeededDraws(), batch_size=3) == expected
    assert draws(SeededDraws(), batch_size=2, num_workers=2) == expected
    unshuffled = DefaultSampler(SeededDraws(), shuffle=False, seed=5)
    assert draws(SeededDraws(), unshuffled) == expected
    assert draws(SeededDraws(), DefaultSampler(SeededDraws(), seed=6)) != expected


def test_workers_that_outlive_an_epoch_draw_anew():
    dataset = SeededDraws()
    sampler = DefaultSampler(dataset, seed=5)
    loader = DataLoader(dataset, sampler=sampler, collate_fn=list, num_workers=1, persistent_workers=True)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        got = [item for batch in loader for item in batch]
        assert got == list(draws(SeededDraws(), epoch=epoch).values())


def test_the_process_keeps_its_own_generators():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = Draws()[0]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    assert SeededDraws().__getitems__([EpochIndex.of(0, seed=5, epoch=0)]) != [expected]
    assert Draws()[0] == expected


@pytest.mark.parametrize("num_workers", [0, 1])
def test_tests_and_other_samplers_are_left_alone(num_workers):
    test_set = SeededDraws(test_mode=True)
    for dataset, sampler in (
        (test_set, DefaultSampler(test_set, seed=5)),
        (SeededDraws(), SequentialSampler(SeededDraws())),
    ):
        loader = DataLoader(dataset, sampler=sampler, collate_fn=list, num_workers=num_workers)
        assert len({number for (item,) in loader for number in item}) == 4 * 3


def test_each_repetition_draws_anew():
    repeated = draws(RepeatDataset(SeededDraws(), times=3))
    assert len({number for item in repeated.values() for number in item}) == 4 * 3 * 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ConcatDataset", dict(datasets=[Draws(), Draws()])),
        ("RepeatDataset", dict(dataset=Draws(), times=2)),
        ("ClassBalancedDataset", dict(dataset=Draws(), oversample_thr=0.1)),
        ("MultiImageMixDataset", dict(dataset=Draws(), pipeline=[])),
    ],
)
def test_wrappers_are_ours_and_seed(name, options, monkeypatch):
    monkeypatch.setattr(Draws, "get_cat_ids", lambda self, index: [0])
    wrapper = DATASETS.build(dict(type=name, **options))
    assert isinstance(wrapper, SeededItems)
    assert draws(wrapper) == draws(wrapper, batch_size=2)


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_endless_sampler_counts_its_passes(world_size, monkeypatch):
    passes = [[] for _ in range(6)]
    for rank in range(world_size):
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, world_size))
        indices = iter(InfiniteSampler(Draws(), seed=5))
        for index in (next(indices) for _ in range(4 * 6 // world_size)):
            passes[index.epoch].append(int(index))
    assert all(sorted(indices) == [0, 1, 2, 3] for indices in passes)
