"""Optimizer steps of several batches, all known before the first is trained on."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from mmengine.optim import OptimWrapper
from torch import Tensor


class CompleteSteps:
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


def complete_steps(batches: Iterable[dict], optim_wrapper: OptimWrapper) -> Iterator[list[dict]]:
    """Group ``batches`` into optimizer steps of ``accumulative_counts``; the last may be of fewer.

    If a step has several batches, the metainfo ``step_num_objects`` of their samples holds, for each batch of
    the step, how many objects each image has.
    """
    if not isinstance(optim_wrapper, CompleteSteps):
        yield from ([batch] for batch in batches)
        return
    batches = iter(batches)
    while step := list(islice(batches, optim_wrapper.accumulative_counts)):
        optim_wrapper.begin_step(len(step))
        if len(step) > 1:
            _note_num_objects(step)
        yield step


def _note_num_objects(step: list[dict]) -> None:
    samples = [batch["data_samples"] for batch in step]
    num_objects = [[len(sample.gt_instances) for sample in batch] for batch in samples]
    for sample in chain(*samples):
        sample.set_field(num_objects, "step_num_objects", field_type="metainfo")
