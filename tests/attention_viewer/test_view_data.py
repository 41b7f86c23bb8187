"""What a page gets is what was recorded, rounded; and never more than fits."""

import base64
import json
import zlib

import numpy as np
import pytest
import torch

from projects.attention_viewer.layer_data import pack
from projects.attention_viewer.view_data import view_data

PLENTY = 10**7


def numbers(packed: dict) -> torch.Tensor:
    """What `pack` has packed."""
    dtype = np.dtype(packed["dtype"]).newbyteorder("<")
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    numbers = np.ascontiguousarray(planes.reshape(dtype.itemsize, -1).T).view(dtype)
    return torch.from_numpy(numbers.reshape(packed["shape"]) * np.float64(packed["step"])).float()


def assert_near(packed: dict, expected: torch.Tensor, step: float) -> None:
    torch.testing.assert_close(numbers(packed), expected.float(), rtol=0, atol=0.501 * step)


@pytest.mark.parametrize(
    ("values", "step", "dtype"),
    [
        (torch.rand(2, 3, 5), 1 / 255, "uint8"),
        (torch.linspace(-3000, 3000, 77).view(7, 11), 0.1, "int16"),
        (torch.tensor([-4000.0, 4000.1, 123.4]), 0.1, "int32"),
        (torch.tensor([3, 0, 255]), 1, "uint8"),
        (torch.zeros(0, 4), 0.1, "uint8"),
    ],
)
def test_numbers_come_back_to_half_a_step(values, step, dtype):
    packed = pack(values, step)
    assert packed["dtype"] == dtype and packed["shape"] == list(values.shape)
    assert_near(packed, values, step)


def test_bytes_lie_in_planes():
    """The first bytes of all numbers, then the second ones; as packed.js reads them."""
    packed = pack(torch.tensor([1, 258, -1]), 1)
    assert list(zlib.decompress(base64.b64decode(packed["data"]))) == [1, 2, 255, 0, 1, 255]


def best_first(view) -> torch.Tensor:
    return view.detections.scores[-1].argsort(descending=True)


@pytest.mark.parametrize(
    ("variant", "direction"), [("base", None), ("two_stage", "diagonal"), ("levelwise", None)]
)
def test_points_are_those_recorded(variant, direction, see):
    view = see(variant, direction, size=60)
    data = view_data(view, PLENTY)
    queries = best_first(view)
    tokens = (~view.record["encoder"][0].padding[0]).nonzero()[:, 0]  # all of them fit
    assert data["detections"]["queries"] == queries.tolist() and data["backbone"] == []
    assert_near(data["detections"]["scores"], view.detections.scores[:, queries], 1e-4)
    assert_near(data["detections"]["boxes"], view.detections.boxes[:, queries], 0.1)
    assert numbers(data["detections"]["labels"]).tolist() == view.detections.labels[:, queries].tolist()
    for stage, chosen in (("decoder", queries), ("encoder", tokens)):
        assert len(data[stage]) == len(view.record[stage])
        for layer, attention in zip(data[stage], view.record[stage], strict=True):
            places = numbers(layer["references"])[:, None, None, None] + numbers(layer["offsets"])
            expected = view.frame.to_pixels(attention.locations[0, chosen])
            torch.testing.assert_close(places, expected, rtol=0, atol=0.051)
            assert_near(
                layer["references"], view.frame.to_pixels(attention.reference_points[0, chosen, :2]), 0.1
            )
            assert_near(layer["weights"], attention.weights[0, chosen], 1 / 255)
            assert layer["heads"] == 4 and len(layer["levels"]) == 2
    levels = torch.cat([torch.full_like(m[0].flatten(), i, dtype=int) for i, m in enumerate(attention.masks)])
    assert torch.equal(numbers(layer["token_levels"]), levels[tokens].float())


def test_dense_maps_are_those_recorded(see):
    view = see("detr", size=96)  # 3 x 3 tokens of 4 x 4 are image
    data = view_data(view, PLENTY)
    for layer, attention in zip(data["decoder"], view.record["decoder"], strict=True):
        expected = attention.weights[0, best_first(view)].unflatten(-1, (4, 4))[..., :3, :3].flatten(2)
        found = numbers(layer["weights"]) * numbers(layer["peaks"])[..., None]
        torch.testing.assert_close(found, expected, rtol=0, atol=float(expected.max()) / 255)
        assert layer["levels"] == [(3, 3)] and "references" not in layer
    assert len(numbers(data["encoder"][0]["references"])) == 9


def test_a_backbones_points_are_those_recorded(see):
    view = see("dat", "horizontal", size=60)
    data = view_data(view, PLENTY)
    for layer, block in zip(data["backbone"], view.record["backbone"], strict=True):
        grid, points = block.moved()
        assert_near(layer["grid"], view.input_frame.to_pixels(grid), 0.1)
        assert_near(layer["points"], view.input_frame.to_pixels(points), 0.1)
        for row, place in enumerate(numbers(layer["references"])):
            centre, _, weights = block.seen_from(view.input_frame.to_units(place))
            torch.testing.assert_close(view.input_frame.to_pixels(centre), place, rtol=0, atol=0.05)
            torch.testing.assert_close(numbers(layer["weights"])[row], weights, rtol=0, atol=0.501 / 255)


def test_what_is_too_much_is_left_out_evenly(see):
    view = see("base", size=640)  # 40 x 40 and 20 x 20 tokens
    sizes = []
    for limit in (PLENTY, 40_000, 8_000):
        data = view_data(view, limit)
        assert len(json.dumps(data, separators=(",", ":"))) <= 1.05 * limit
        (layer,) = data["encoder"]
        levels = numbers(layer["token_levels"])
        sizes.append((len(data["detections"]["queries"]), [int((levels == i).sum()) for i in (0, 1)]))
        for level in (0, 1):
            places = numbers(layer["references"])[levels == level]
            columns, rows = (places[:, axis].unique() for axis in (0, 1))
            assert len(places) == len(columns) * len(rows)
            for line, length in ((columns, 128), (rows, 96)):
                steps = line.diff()
                assert not len(steps) or float(steps.max() - steps.min()) <= 0.21
                # The cells reach to both borders alike, but for a step.
                assert abs(float(line[0] + line[-1]) - length) <= length / len(line)
    assert sizes[0] == (10, [1600, 400])
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[1][1][0] > 50


def test_a_matched_query_is_told_by_its_row(see):
    view = see("base")
    queries = best_first(view).tolist()
    view.matches = torch.tensor([[queries[4], -1, queries[0]]])
    assert view_data(view, PLENTY)["matches"] == [[4, -1, 0]]
    assert view_data(see("base"), PLENTY)["matches"] is None
