"""Arrays of numbers as small text, which a page in a browser unpacks."""

import base64
import zlib

import numpy as np
from torch import Tensor

_DTYPES = ("uint8", "int16", "int32")


def pack(values: Tensor, step: float) -> dict:
    """Round to multiples of ``step``: ``dtype``, ``shape``, ``step``, and ``data``, which packed.js reads.

    ``data`` is base64 of zlib's format. Of all integers the first bytes come first, then all second ones, low
    ones before high ones: neighbouring numbers share their high bytes, so it deflates to less.
    """
    numbers = (values.double() / step).round().numpy()
    low, high = numbers.min(initial=0), numbers.max(initial=0)
    dtype = next(name for name in _DTYPES if np.iinfo(name).min <= low and high <= np.iinfo(name).max)
    numbers = np.ascontiguousarray(numbers, np.dtype(dtype).newbyteorder("<"))
    planes = numbers.view(np.uint8).reshape(-1, numbers.itemsize).T
    data = base64.b64encode(zlib.compress(planes.tobytes())).decode()
    return dict(dtype=dtype, shape=list(values.shape), step=step, data=data)
