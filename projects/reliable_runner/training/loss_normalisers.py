"""Exact gradient accumulation for models whose losses are divided by the objects of a single batch."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from .saved_step import state_kept

Call = tuple[nn.Module, int]  # a loss module, and how often it was called before in the forward pass


class LossNormalisers:
    """Replaces the ``avg_factor`` of each loss by the step's, shared equally by its batches.

    A step's gradient is the mean over its k batches. If each divides its sums by the step's total / k, it is
    the gradient of one batch of all the images. The totals are found by a forward pass of each batch without
    gradients. A model with ``normalises_by_step = True`` does this by itself, from the metainfo
    ``step_num_objects`` of its samples, and costs no additional pass. The loss modules of another one are
    those whose ``forward`` takes ``avg_factor``.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = () if getattr(model, "normalises_by_step", False) else model.modules()
        self._model = model
        self._losses = [m for m in modules if "avg_factor" in signature(m.forward).parameters]
        self._shares: dict[Call, Tensor | float] = {}

    def measure(self, step: Sequence[dict], optim_wrapper: OptimWrapper) -> None:
        """Find the normalisers of a step, the batches of the data loader; random numbers and buffers stay."""
        self._shares.clear()
        if len(step) == 1 or not self._losses:
            return
        factors: dict[Call, list] = defaultdict(list)
        with torch.no_grad(), state_kept(self._model), optim_wrapper.optim_context(self._model):
            for batch in step:
                is_empty = _is_empty(batch, next(self._model.parameters()).device)

                def note(call: Call, factor, is_empty=is_empty):
                    # Without objects mmdet divides by 1, which must not add to the others' objects.
                    factors[call].append(factor * 0 if is_empty and factor == 1 else factor)
                    return factor

                with self._each_factor(note):
                    self._model(**self._model.data_preprocessor(batch, True), mode="loss")
        self._shares = {call: (sum(found) or 1) / len(step) for call, found in factors.items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this a forward pass of one of the step's batches uses the step's normalisers."""
        with self._each_factor(lambda call, factor: self._shares.get(call, factor)):
            yield

    @contextmanager
    def _each_factor(self, replace: Callable) -> Iterator[None]:
        num_calls: Counter[nn.Module] = Counter()

        def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            if kwargs.get("avg_factor") is None:
                return None
            call = module, num_calls[module]
            num_calls[module] += 1
            return args, {**kwargs, "avg_factor": replace(call, kwargs["avg_factor"])}

        with ExitStack() as handles:
            for loss in self._losses:
                handles.callback(loss.register_forward_pre_hook(hook, with_kwargs=True).remove)
            yield


def _is_empty(batch: dict, device: torch.device) -> bool:
    """Whether no process has an object in its part of the batch."""
    num_objects = torch.tensor(sum(len(s.gt_instances) for s in batch["data_samples"]), device=device)
    all_reduce(num_objects)
    return not num_objects
