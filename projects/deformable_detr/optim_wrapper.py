"""Gradient accumulation whose steps the train loop delimits."""

from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import Tensor

from .registry import OPTIM_WRAPPERS


class WholeSteps:
    """Mixin of mmengine's wrappers: an optimizer step is made of as many batches as `begin_step` says.

    mmengine steps on every ``accumulative_counts``-th batch of the training, so that a step may hold batches
    of two epochs. Where nothing calls `begin_step` it is still so.
    """

    _step_size: int | None = None
    _step_end: int

    @property
    def accumulative_counts(self) -> int:
        """The batches of a full step."""
        return self._accumulative_counts

    def begin_step(self, num_batches: int) -> None:
        """Step after ``num_batches`` more batches, with the mean of their gradients."""
        self._step_size, self._step_end = num_batches, self._inner_count + num_batches

    def should_update(self) -> bool:
        """Whether the step's last batch has gone backward."""
        if self._step_size is None:
            return super().should_update()
        return self._inner_count == self._step_end

    def should_sync(self) -> bool:
        """Whether the processes exchange the gradients of the batch that is going forward."""
        if self._step_size is None:
            return super().should_sync()
        return self._inner_count + 1 == self._step_end

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The batch's share of the step."""
        if self._step_size is None:
            return super().scale_loss(loss)
        return loss / self._step_size


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(WholeSteps, _OptimWrapper):
    """mmengine's ``OptimWrapper`` with `WholeSteps`; same arguments."""
