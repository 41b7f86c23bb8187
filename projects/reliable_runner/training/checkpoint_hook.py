"""Checkpoints that outlive a kill at any instant, and the early stopping that they hold."""

import inspect
from pathlib import Path

from mmengine import hooks
from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend, LocalBackend
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from ..files.atomic_file import remove_unfinished
from ..files.disk_space import check_disk_space, check_writable


class _LateRemover:
    """A file backend, but what it is told to remove from ``folder`` is only noted in ``outdated``."""

    def __init__(self, backend: BaseStorageBackend, folder: str, outdated: list[str]) -> None:
        self.backend, self.folder, self.outdated = backend, folder, outdated

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.outdated.append(Path(path).name)

    def remove_outdated(self) -> None:
        while self.outdated:
            path = self.backend.join_path(self.folder, self.outdated.pop())
            if is_main_process() and self.backend.isfile(path):
                self.backend.remove(path)


class CheckpointHook(hooks.CheckpointHook):
    """mmengine's hook with another order: a file is removed after those that replace it are on the disk.

    What the validation after an epoch has found (the best score, the count of early stopping) goes into the
    checkpoint of that epoch, which is written once more for it. A run that was killed before that repeats
    the validation when it is resumed, so that it ends like a run that was never killed.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # mmengine hands on what it does not know, and that fails when the first checkpoint is saved.
        for name in self.args.keys() - inspect.signature(Runner.save_checkpoint).parameters.keys():
            raise TypeError(f"got an unexpected keyword argument {name!r}")

    def before_train(self, runner: Runner) -> None:
        """Clear up after a killed run; `InputError` if there is no room, or the folder can't be written."""
        super().before_train(runner)
        noted = runner.message_hub.runtime_info
        self._find_in_out_dir(noted)
        # What a checkpoint notes as outdated, the killed run may not have come to remove.
        outdated = [Path(path).name for path in noted.get("outdated_ckpts", [])]  # of no other folder
        runner.message_hub.update_info("outdated_ckpts", outdated)
        self.file_backend = _LateRemover(self.file_backend, self.out_dir, outdated)
        self.file_backend.remove_outdated()
        if is_main_process() and isinstance(self.file_backend.backend, LocalBackend):
            check_writable(Path(self.out_dir), "out_dir", "default_hooks.checkpoint.out_dir")
            for folder in {runner.work_dir, self.out_dir}:
                for path in remove_unfinished(folder):
                    runner.logger.info(f"{path}, half written by a killed run, is removed")
            check_disk_space(runner, self)
        if runner._resume and self._owes_validation(runner):
            runner.logger.info(f"the run was stopped before the validation of epoch {runner.epoch}")
            runner.val_loop.run()

    def _find_in_out_dir(self, noted: dict) -> None:
        """Take the files that a resumed checkpoint notes from this run's folder: it may be a copy."""

        def here(path: str | None) -> str | None:
            return path and self.file_backend.join_path(self.out_dir, Path(path).name)

        self.last_ckpt = here(noted.get("last_ckpt"))
        if hasattr(self, "best_ckpt_path"):
            self.best_ckpt_path = here(self.best_ckpt_path)
        elif hasattr(self, "best_ckpt_path_dict"):
            self.best_ckpt_path_dict = {key: here(path) for key, path in self.best_ckpt_path_dict.items()}

    def _owes_validation(self, runner: Runner) -> bool:
        loop, epoch = runner.train_loop, runner.epoch
        if not isinstance(loop, EpochBasedTrainLoop) or runner.val_loop is None:
            return False
        is_due = epoch % loop.val_interval == 0 or epoch == loop.max_epochs
        validated = runner.message_hub.runtime_info.get("epoch_validated")
        return is_due and epoch >= loop.val_begin and epoch != validated

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note what the weights that the run has started from want of a config: its own want it as well."""
        if settings := runner.cfg.get("weights_settings"):
            checkpoint["meta"]["cfg_options"] = dict(settings)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Save the best checkpoint, and what the validation has found with the last one."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        runner.message_hub.update_info("epoch_validated", runner.epoch)
        self._is_noted = False
        super().after_val_epoch(runner, metrics or {})
        if self._is_saved(runner) and not self._is_noted:
            self._save(runner)

    def save_unsaved(self, runner: Runner) -> None:
        """Save what was trained since the last checkpoint."""
        if not self._is_saved(runner):
            self._save(runner)
            runner.logger.error(f"a validation has failed; {self.last_ckpt} holds what was trained before")

    def _step(self, runner: Runner) -> int:
        return runner.epoch if self.by_epoch else runner.iter

    def _is_saved(self, runner: Runner) -> bool:
        name = self.filename_tmpl.format(self._step(runner))
        return self.last_ckpt == self.file_backend.join_path(self.out_dir, name)

    def _save(self, runner: Runner) -> None:
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        self._save_checkpoint_with_step(runner, self._step(runner), meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self.file_backend.remove_outdated()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save, note it in ``last_checkpoint``, and only then remove what is one too many."""
        super()._save_checkpoint_with_step(runner, step, meta)
        self.file_backend.remove_outdated()
        self._is_noted = True


class EarlyStoppingHook(hooks.EarlyStoppingHook):
    """mmengine's hook, whose best score and count are in the checkpoints.

    ``min_delta`` is what counts as better; mmengine's 0.1 is ten points of AP.
    """

    priority = "LOW"  # before CheckpointHook, which saves what is counted here

    def __init__(self, *args, min_delta: float = 0.001, **kwargs) -> None:
        super().__init__(*args, min_delta=min_delta, **kwargs)

    def before_train(self, runner: Runner) -> None:
        """Continue where a resumed run has stopped; if it has stopped early, stop again."""
        monitor, *state = runner.message_hub.runtime_info.get("early_stopping", [None])
        if monitor != self.monitor:
            return
        self.best_score, self.wait_count = state
        if self.wait_count >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.warning(
                f"this run has stopped early: {self.monitor} had not improved in {self.wait_count} "
                f"validations. A patience above {self.patience} lets it continue"
            )

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        super().after_val_epoch(runner, metrics)
        state = [self.monitor, float(self.best_score), self.wait_count]
        runner.message_hub.update_info("early_stopping", state)
