"""A stand-in for mmcv's compiled ops where mmcv is installed without them.

``mmdet.models`` imports every op of ``mmcv.ops`` when it is imported, also those that are never called.
mmcv-lite has none of them, so the import fails. The stand-in lets the import pass; an op raises when it is
called. Where a full mmcv is installed nothing happens.
"""

import importlib.util
import sys
from types import ModuleType

from torch import nn

_EXTENSION = "mmcv._ext"

HOW_TO_GET_OPS = (
    "mmcv is installed without its compiled ops. To get them: pip uninstall mmcv-lite, then build the "
    "full mmcv (MMCV_WITH_OPS=1 pip install mmcv==2.1.0 --no-build-isolation)."
)


class _MissingOps(ModuleType):
    """Has every name; each is a function that raises."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def missing_op(*args, **kwargs):
            raise NotImplementedError(
                f"the compiled op '{name}' of mmcv was called, which Deformable DETR itself does not "
                f"need. {HOW_TO_GET_OPS}"
            )

        return missing_op


def provide_missing_ops() -> None:
    """Put the stand-in where ``mmcv._ext`` would be, unless that is installed."""
    if _EXTENSION not in sys.modules and importlib.util.find_spec(_EXTENSION) is None:
        module = _MissingOps(_EXTENSION)
        module.__spec__ = importlib.util.spec_from_loader(_EXTENSION, loader=None)
        sys.modules[_EXTENSION] = module


def callers_of_ops(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and module of each part of ``model`` that calls a compiled op of mmcv."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if type(module).__module__.startswith("mmcv.ops.")
    ]


def are_missing() -> bool:
    """Whether mmcv has no compiled ops, so that the stand-in has their place."""
    return isinstance(sys.modules.get(_EXTENSION), _MissingOps)
