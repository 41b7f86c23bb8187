"""mmengine's training loops: whole steps, and what becomes of one that is not finite."""

from itertools import chain, islice

from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop

from ..errors import NonFiniteError
from .complete_steps import whole_steps
from .step_guard import StepGuard


class _GuardedLoop:
    def __init__(self, *args, skip_nonfinite: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._guard = StepGuard(self.runner, skip_nonfinite)

    def run_iter(self, *args) -> None:
        """Learn from one batch.

        Args:
            *args: the batch, after its number where the run counts epochs.

        Raises:
            NonFiniteError: See `StepGuard.give_up`.
        """
        *idx, data_batch = args
        batch_idx = idx[0] if idx else self._iter
        self.runner.call_hook("before_train_iter", batch_idx=batch_idx, data_batch=data_batch)
        self._guard.begin(data_batch)
        outputs = None
        try:
            outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
        except NonFiniteError as error:
            self._guard.give_up(error)
        self._guard.end()
        self.runner.call_hook("after_train_iter", batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1


class EpochBasedTrainLoop(_GuardedLoop, _EpochBasedTrainLoop):
    """mmengine's loop over epochs, in `whole_steps`; an epoch's last step may be of fewer batches.

    Args:
        skip_nonfinite: how many steps that are not finite are left out before one stops the run.
        **kwargs: As in `mmengine.runner.EpochBasedTrainLoop`.
    """

    def run_epoch(self) -> None:
        """Train one epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for idx, batch in enumerate(whole_steps(self.dataloader, self.runner.optim_wrapper)):
            self.run_iter(idx, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


class IterBasedTrainLoop(_GuardedLoop, _IterBasedTrainLoop):
    """mmengine's loop over iterations, in `whole_steps`; the training's last step may be of fewer batches.

    Args:
        skip_nonfinite: how many steps that are not finite are left out before one stops the run.
        **kwargs: As in `mmengine.runner.IterBasedTrainLoop`.
    """

    def run(self):
        """Train, after passing over the batches that a resumed run has seen."""
        seen = islice(self.dataloader_iterator, self._iter)
        left = islice(self.dataloader_iterator, self._max_iters - self._iter)
        self.dataloader_iterator = chain(seen, whole_steps(left, self.runner.optim_wrapper))
        return super().run()
