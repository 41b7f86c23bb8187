"""Numbers come back from their packed form to half a step."""

import base64
import zlib

import pytest
import torch

from projects.attention_viewer.packed import pack, unpack


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
def test_round_trip(values, step, dtype):
    packed = pack(values, step)
    assert packed["dtype"] == dtype and packed["shape"] == list(values.shape)
    torch.testing.assert_close(torch.from_numpy(unpack(packed)), values.double(), rtol=0, atol=0.5001 * step)


def test_bytes_lie_in_planes():
    """The first bytes of all numbers, then the second ones; as `unpack` of the page reads them."""

    packed = pack(torch.tensor([1, 258, -1]), 1)
    assert list(zlib.decompress(base64.b64decode(packed["data"]))) == [1, 2, 255, 0, 1, 255]
