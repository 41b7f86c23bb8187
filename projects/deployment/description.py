"""What an exported file says of its detector."""

import ast
import json
from typing import NamedTuple

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.run_state import input_channels


class Description(NamedTuple):
    """Config, classes and channels of the input, which the file keeps as texts."""

    config: Config
    classes: list[str]
    num_channels: int

    @classmethod
    def of(cls, detector: nn.Module) -> "Description":
        """Describe what `init_detector` has returned."""
        return cls(detector.cfg, list(detector.dataset_meta["classes"]), input_channels(detector))

    @classmethod
    def read(cls, texts: dict[str, str], path: object) -> "Description":
        """From what `texts` has written into the file ``path``.

        Raises:
            InputError: there is no such text.
        """
        if not set(cls._fields) <= texts.keys():
            raise InputError(f"{path}: it was not written by tools/deployment/export.py: it names no classes")
        config = Config(ast.literal_eval(texts["config"]))
        if "custom_imports" in config:
            import_modules_from_strings(**config.custom_imports)
        return cls(config, json.loads(texts["classes"]), int(texts["num_channels"]))

    def texts(self) -> dict[str, str]:
        """The config as a Python literal, which keeps tuples; the others as JSON."""
        config, *others = self
        others = dict(zip(self._fields[1:], map(json.dumps, others), strict=True))
        return dict(config=repr(_plain(config.to_dict())), **others)


def _plain(value: object) -> object:
    """Without the dicts of mmengine and the tensors that models put into their configs."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value.tolist() if isinstance(value, Tensor) else value
