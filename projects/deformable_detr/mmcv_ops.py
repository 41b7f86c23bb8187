"""A stand-in for mmcv's compiled ops where mmcv is installed without them.

``mmdet.models`` imports every op of ``mmcv.ops`` when it is imported, also those that are never called.
mmcv-lite has none of them, so the import fails. The stand-in lets the import pass; an op raises when it is
called. Where a full mmcv is installed nothing happens.
"""

import importlib.util
import sys
from types import ModuleType

_EXTENSION = "mmcv._ext"


class _MissingOps(ModuleType):
    """Has every name; each is a function that raises."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def missing_op(*args, **kwargs):
            raise NotImplementedError(
                f"mmcv was installed without its compiled op '{name}'. Deformable DETR does not need it; "
                "what was called does. To get it: pip uninstall mmcv-lite, then build the full mmcv "
                "(pip install mmcv==2.1.0 --no-build-isolation with MMCV_WITH_OPS=1)."
            )

        return missing_op


def provide_missing_ops() -> None:
    """Put the stand-in where ``mmcv._ext`` would be, unless that is installed."""
    if _EXTENSION not in sys.modules and importlib.util.find_spec(_EXTENSION) is None:
        module = _MissingOps(_EXTENSION)
        module.__spec__ = importlib.util.spec_from_loader(_EXTENSION, loader=None)
        sys.modules[_EXTENSION] = module
