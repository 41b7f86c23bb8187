"""mmengine's loops: complete steps, what becomes of a NaN step, a failed validation that loses nothing."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat

from mmengine import optim, runner

from ..data.sampler import batches_after
from ..data.seeded_items import SeededItems
from ..errors import InputError, NonFiniteError
from ..run_state import bare_model
from .checkpoint_hook import CheckpointHook
from .loss_normalisers import LossNormalisers
from .optim_wrapper import OptimWrapper
from .step_guard import StepGuard


def complete_steps(batches: Iterable[dict], optim_wrapper: optim.OptimWrapper) -> Iterator[list[dict]]:
    """Group ``batches`` into optimizer steps of ``accumulative_counts``; the last may be of fewer.

    If a step has several batches, the metainfo ``step_num_objects`` of their samples holds, for each batch of
    the step, how many objects each image has.
    """
    if not isinstance(optim_wrapper, OptimWrapper):
        yield from ([batch] for batch in batches)
        return
    batches = iter(batches)
    while step := list(islice(batches, optim_wrapper._accumulative_counts)):
        optim_wrapper.begin_step(len(step))
        if len(step) > 1:
            samples = [batch["data_samples"] for batch in step]
            num_objects = [[len(sample.gt_instances) for sample in batch] for batch in samples]
            for sample in chain(*samples):
                sample.set_field(num_objects, "step_num_objects", field_type="metainfo")
        yield step


class _GuardedLoop:
    """Mixin of mmengine's loops; ``skip_nonfinite`` NaN steps are left out before one stops the run."""

    def __init__(self, *args, skip_nonfinite: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.val_interval < 1:  # the first validation would divide by it
            raise InputError(
                f"train_cfg.val_interval is {self.val_interval} instead of 1 or more; to train without "
                "validation set val_dataloader, val_evaluator and val_cfg to None"
            )
        self._guard = StepGuard(self.runner, skip_nonfinite)

    def run_iter(self, *args) -> None:
        """Train on a batch, before which stands its number where the run counts epochs."""
        *idx, data_batch = args
        batch_idx = idx[0] if idx else self._iter
        self.runner.call_hook("before_train_iter", batch_idx=batch_idx, data_batch=data_batch)
        self._guard.begin(data_batch)
        outputs = None
        try:
            with self._normalisers.applied():
                outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
        except NonFiniteError as error:
            self._guard.give_up(error)
        self._guard.end()
        self.runner.call_hook("after_train_iter", batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _batches(self, batches: Iterable[dict]) -> Iterator[dict]:
        """Yield ``batches``; before the first of a step the loss normalisers of the step are known."""
        self._normalisers = LossNormalisers(bare_model(self.runner))
        for step in complete_steps(batches, self.runner.optim_wrapper):
            self._normalisers.measure(step, self.runner.optim_wrapper)
            yield from step


class EpochBasedTrainLoop(_GuardedLoop, runner.EpochBasedTrainLoop):
    """mmengine's loop over epochs, in `complete_steps`; an epoch's last step may be of fewer batches."""

    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for idx, batch in enumerate(self._batches(self.dataloader)):
            self.run_iter(idx, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


class IterBasedTrainLoop(_GuardedLoop, runner.IterBasedTrainLoop):
    """mmengine's loop over iterations, in `complete_steps`; the last of all may be of fewer batches."""

    def run(self):
        """Train on the batches that a resumed run has not seen."""
        self.dataloader_iterator = self._batches_left(self._iter, self.dataloader_iterator)
        return super().run()

    def _batches_left(self, num_seen: int, batches: Iterator[dict]) -> Iterator[dict | None]:
        if num_seen and isinstance(self.dataloader.dataset, SeededItems):
            yield from repeat(None, num_seen)  # mmengine passes over them
            batches = batches_after(self.dataloader, num_seen)
        else:
            yield from islice(batches, num_seen)
        yield from self._batches(islice(batches, self._max_iters - num_seen))


class ValLoop(runner.ValLoop):
    """mmengine's loop; if it fails in a training, the weights are saved first."""

    def run(self) -> dict:
        try:
            return super().run()
        except Exception:
            for hook in self.runner.hooks:
                if isinstance(hook, CheckpointHook) and isinstance(self.runner._train_loop, runner.BaseLoop):
                    hook.save_unsaved(self.runner)
            raise
