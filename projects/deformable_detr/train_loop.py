"""mmengine's training loops, which know the batches of an optimizer step before the first is trained on."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop

from .optim_wrapper import WholeSteps
from .registry import LOOPS


def whole_steps(batches: Iterable[dict], optim_wrapper: OptimWrapper) -> Iterator[dict]:
    """Yield ``batches`` as they come, with each sample told of the whole step that it is part of.

    With ``accumulative_counts=k`` the ``k`` batches of a step are read before the first is yielded; the last
    step may be of fewer. The metainfo ``step_num_objects`` of their samples then holds, for each batch of the
    step, how many objects each image has: losses are normalised by the objects of the step.
    """
    if not isinstance(optim_wrapper, WholeSteps):
        yield from batches
        return
    batches = iter(batches)
    while step := list(islice(batches, optim_wrapper.accumulative_counts)):
        optim_wrapper.begin_step(len(step))
        if len(step) > 1:
            _tell_num_objects(step)
        yield from step


def _tell_num_objects(step: list[dict]) -> None:
    samples = [batch["data_samples"] for batch in step]
    num_objects = [[len(sample.gt_instances) for sample in batch] for batch in samples]
    for sample in chain(*samples):
        sample.set_field(num_objects, "step_num_objects", field_type="metainfo")


@LOOPS.register_module()
class EpochBasedTrainLoop(_EpochBasedTrainLoop):
    """mmengine's loop over epochs, in `whole_steps`; an epoch's last step may be of fewer batches."""

    def run_epoch(self) -> None:
        """Train one epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for idx, batch in enumerate(whole_steps(self.dataloader, self.runner.optim_wrapper)):
            self.run_iter(idx, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


@LOOPS.register_module()
class IterBasedTrainLoop(_IterBasedTrainLoop):
    """mmengine's loop over iterations, in `whole_steps`; the training's last step may be of fewer batches."""

    def run(self):
        """Train, after passing over the batches that a resumed run has seen."""
        seen = islice(self.dataloader_iterator, self._iter)
        left = islice(self.dataloader_iterator, self._max_iters - self._iter)
        self.dataloader_iterator = chain(seen, whole_steps(left, self.runner.optim_wrapper))
        return super().run()
