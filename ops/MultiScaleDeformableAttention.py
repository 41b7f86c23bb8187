"""The name that the official repository compiles its op under: ``import MultiScaleDeformableAttention``.

One that was built and lies elsewhere on the path, in an egg or a development folder, is taken in its place,
if it can be loaded.
"""

import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from ms_deform_attn.compat.vendored import ms_deform_attn_backward, ms_deform_attn_forward

__all__ = ["ms_deform_attn_backward", "ms_deform_attn_forward"]


def _built() -> ModuleSpec | None:
    """Another module of this name, which is no copy of this file and no folder without a module."""
    here = Path(__file__).resolve().parent
    spec = PathFinder.find_spec(__name__, [path for path in sys.path if Path(path).resolve() != here])
    if spec is None or spec.loader is None:
        return None
    return None if "ms_deform_attn.compat" in (spec.loader.get_source(__name__) or "") else spec


if (_spec := _built()) is not None:
    _ours = sys.modules[__name__]
    try:
        # An import gives what stands here in the end: an egg's stub puts the extension in its own place.
        sys.modules[__name__] = _module = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(_module)
    except ImportError as error:
        sys.modules[__name__] = _ours
        warnings.warn(
            f"{_spec.origin} cannot be loaded ({error}); ms_deform_attn serves in its place", stacklevel=2
        )
