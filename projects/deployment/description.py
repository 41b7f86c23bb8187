"""What an exported file says of its detector."""

import ast
import json
import math
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
        return cls(detector.cfg, list(detector.dataset_meta["classes"]), input_channels(detector))

    @classmethod
    def read(cls, texts: dict[str, str], path: object) -> "Description":
        """From what `texts` has written into the file ``path``; `InputError` if there is none of it."""
        if not set(cls._fields) <= texts.keys():
            raise InputError(f"{path}: it was not written by tools/deployment/export.py: it names no classes")
        config = Config(ast.literal_eval(texts["config"]))
        if "custom_imports" in config:
            import_modules_from_strings(**config.custom_imports)
        return cls(config, json.loads(texts["classes"]), int(texts["num_channels"]))

    def texts(self) -> dict[str, str]:
        """The config as a Python literal, which keeps tuples, the others as JSON.

        `InputError` if the config has a value that is no literal.
        """
        config, *others = self
        others = dict(zip(self._fields[1:], map(json.dumps, others), strict=True))
        return dict(config=repr(_plain(config.to_dict())), **others)


def _plain(value: object, key: str = "") -> object:
    """Without the dicts of mmengine and the tensors that models put into their configs."""
    if isinstance(value, dict):
        return {name: _plain(item, f"{key}.{name}".lstrip(".")) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item, key) for item in value)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, float) and math.isinf(value):
        return _Infinity(value)
    try:
        ast.literal_eval(repr(value))
    except (ValueError, SyntaxError) as error:
        raise InputError(
            f"{key} is {value!r}, which is no literal of Python: an exported file can't keep such a config"
        ) from error
    return value


class _Infinity(float):
    """Whose ``repr`` is a literal."""

    def __repr__(self) -> str:
        return "1e999" if self > 0 else "-1e999"
