"""The name that the official repository compiles its op under: ``import MultiScaleDeformableAttention``.

One that was built and lies elsewhere on the path, in an egg or a development folder, is taken in its place.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from ms_deform_attn.compat.vendored import ms_deform_attn_backward, ms_deform_attn_forward

__all__ = ["ms_deform_attn_backward", "ms_deform_attn_forward"]


def _built() -> ModuleSpec | None:
    """Another module of this name, which is no copy of this file."""
    here = Path(__file__).resolve().parent
    spec = PathFinder.find_spec(__name__, [path for path in sys.path if Path(path).resolve() != here])
    if spec is None or spec.origin is None or b"ms_deform_attn.compat" in Path(spec.origin).read_bytes():
        return None
    return spec


if (_spec := _built()) is not None:
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[__name__] = _module  # an import gives what stands here in the end
    _spec.loader.exec_module(_module)
