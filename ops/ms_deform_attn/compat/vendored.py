"""The compiled module of the official repository, which research code bases carry inside themselves.

Its functions have the names and arguments of the official ``MultiScaleDeformableAttention``
(fundamentalvision/Deformable-DETR, models/ops), and run on our op.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from .. import _library
from ..functional import checked_geometry, common_dtype, ms_deform_attn


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """`ms_deform_attn` without a graph; ``im2col_step`` is ignored, whether it divides the batch or not."""
    with torch.no_grad():
        return ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    im2col_step: int = 64,
) -> list[Tensor]:
    """The gradients of ``value``, ``sampling_locations`` and ``attention_weights``, each of its dtype.

    ``grad_output`` is (bs, num_queries, num_heads * head_dims); the rest, and what is raised, as for
    `ms_deform_attn`.
    """
    sampling = dict(sampling_locations=sampling_locations, attention_weights=attention_weights)
    geometry = checked_geometry(value, (spatial_shapes, level_start_index), sampling, grad_output=grad_output)
    inputs = [x.detach() for x in (value, *sampling.values())]
    grad_output = grad_output.to(value.dtype)
    if not _library.serves(value.device):
        inputs = [x.requires_grad_() for x in inputs]
        with torch.enable_grad():
            output = ms_deform_attn(inputs[0], *geometry, *inputs[1:])
        return list(torch.autograd.grad(output, inputs, grad_output))
    dtype = common_dtype(value, sampling.values())
    others = (x.to(dtype) for x in inputs[1:])
    grads = torch.ops.ms_deform_attn.backward(grad_output, inputs[0], *geometry, *others)
    return [grad.to(x.dtype) for grad, x in zip(grads, inputs, strict=True)]


def provide(name: str) -> ModuleType:
    """Give a code base the compiled module that it was not built with.

    Call it before the code base is imported: ``provide("groundingdino._C")``, ``provide("detrex._C")``. It
    warns if the package is imported already: what has looked for the module before goes on without it.

    Args:
        name: of the module, as the code base imports it.

    Returns:
        The module that an import of ``name`` gives, the same at each call.

    Raises:
        ImportError: another module of this name is there already.
        ValueError: ``name`` is no name of a module.
    """
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r} is no name of a module, such as 'groundingdino._C'")
    if name in _finder.modules:
        return _finder.modules[name]
    if name in sys.modules or _is_installed(name):
        raise ImportError(
            f"{name} is there already: it was built, or a module that imports it came before provide()"
        )
    parent = name.rpartition(".")[0]
    if parent in sys.modules:
        warnings.warn(f"{parent} is imported already: call provide({name!r}) before it", stacklevel=2)
    module = ModuleType(name, __doc__)
    module.ms_deform_attn_forward = ms_deform_attn_forward
    module.ms_deform_attn_backward = ms_deform_attn_backward
    _finder.modules[name] = module
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    return module


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads the modules that were provided, after all others have not found them."""

    def __init__(self) -> None:
        self.modules: dict[str, ModuleType] = {}

    def find_spec(self, name: str, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name in self.modules else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It is complete."""


_finder = _Finder()


def _is_installed(name: str) -> bool:
    """Whether a file would be imported as ``name``; its packages are not run to find out."""
    first, *others = name.split(".")
    spec = importlib.util.find_spec(first)
    for part in others:
        if spec is None:
            return False
        folders = [str(Path(folder)) for folder in spec.submodule_search_locations or ()]
        spec = importlib.machinery.PathFinder.find_spec(part, folders)
    return spec is not None
