"""The way back to the original image, against pixels that were planted in it."""

import pytest
import torch
from mmengine.dataset import pseudo_collate

from projects.attention_viewer.frame import META_KEYS, ImageFrame
from projects.reliable_runner.inference import prepare

DIRECTIONS = [None, "horizontal", "vertical", "diagonal"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_planted_block_is_found_again(direction, build, picture):
    """Where the network's input is bright, the frame says the place of the block in the original."""
    detector = build("base", direction)
    detector.test_pipeline[-1].meta_keys = META_KEYS
    batch = detector.data_preprocessor(pseudo_collate([prepare(detector, picture)]))
    assert batch["inputs"].shape[-2:] == (64, 64)  # 32 x 32 and padding
    (sample,) = batch["data_samples"]
    frame = ImageFrame.of(sample)
    rows, columns = (batch["inputs"][0, 0, :32, :32] > 0).nonzero().T
    corners = torch.tensor(
        [[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], dtype=torch.float
    )
    found = frame.to_pixels(corners / 32)
    assert found.min(0).values.tolist() == [80, 24] and found.max(0).values.tolist() == [96, 36]
    torch.testing.assert_close(frame.to_units(found), corners / 32)

    width, height = corners[1] - corners[0]
    box = torch.cat((corners.mean(0), torch.stack((width, height)))) / 32
    torch.testing.assert_close(frame.boxes_to_pixels(box), torch.tensor([80.0, 24, 96, 36]))
