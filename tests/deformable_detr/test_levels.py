"""Masks, sizes and ratios against cases that can be counted by hand."""

import torch

from projects.deformable_detr.levels import Levels

CPU = torch.device("cpu")


def test_masks_cover_what_is_not_image():
    levels = Levels.of_batch([(8, 16), (4, 8)], (8, 16), [(2, 4), (1, 2)], CPU)
    fine, coarse = levels.masks
    assert not fine[0].any()
    assert fine[1].tolist() == [[False, False, True, True], [True] * 4]
    assert levels.shapes == [(2, 4), (1, 2)] and levels.starts == [0, 8]
    assert levels.valid_sizes.tolist() == [[[4, 2], [2, 1]], [[2, 1], [1, 1]]]
    assert levels.valid_ratios.tolist() == [[[1, 1], [1, 1]], [[0.5, 0.5], [0.5, 1]]]
    assert torch.equal(levels.padding_mask, torch.cat([fine.flatten(1), coarse.flatten(1)], 1))


def test_without_padding_there_is_no_mask_to_apply():
    assert Levels.of_batch([(8, 16)] * 2, (8, 16), [(2, 4)], CPU).padding_mask is None
