"""Reading of data in pickles and YAML files so that nothing in them is run.

Through mmengine's handlers of both ``mmengine.load`` reads annotations, proposals and saved predictions, and
runs what a file tells it to.
"""

import io
from typing import BinaryIO, TextIO

import torch
import yaml
from mmengine.fileio.handlers import PickleHandler, YamlHandler
from torch import _weights_only_unpickler

from ..errors import InputError, first_line
from .checkpoint_file import allowed_globals


class SafePickleHandler(PickleHandler):
    """Pickles of plain values, arrays and tensors, as ``tools/test.py --out`` writes them."""

    def load_from_fileobj(self, file: BinaryIO, **_) -> object:
        """Read an open file; `InputError` if it is damaged or holds other objects. Nothing in it is run."""
        try:
            with torch.serialization.safe_globals(
                [*allowed_globals(), (_storage, "torch.storage._load_from_bytes")]
            ):
                return _weights_only_unpickler.load(file)
        except Exception as error:  # what a damaged file raises has no bounds
            raise InputError(
                f"{getattr(file, 'name', 'the file')}: not a complete pickle of plain values, arrays and "
                f"tensors ({first_line(error)}); nothing in it was run"
            ) from error


class SafeYamlHandler(YamlHandler):
    """YAML of plain values."""

    def load_from_fileobj(self, file: TextIO, **_) -> object:
        """Read an open file; `InputError` if it is damaged or holds other objects. Nothing in it is run."""
        try:
            return yaml.safe_load(file)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(
                f"{getattr(file, 'name', 'the file')}: this is no YAML of plain values "
                f"({first_line(error)}); nothing in it was run"
            ) from error


def _storage(content: bytes) -> object:
    """Stand in for torch's own reader of a tensor's storage, which reads anything."""
    return torch.load(io.BytesIO(content), weights_only=True)
