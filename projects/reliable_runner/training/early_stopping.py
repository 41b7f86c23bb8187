"""Early stopping that a resumed run continues."""

from mmengine.hooks import EarlyStoppingHook as _EarlyStoppingHook
from mmengine.runner import Runner

_KEY = "early_stopping"


class EarlyStoppingHook(_EarlyStoppingHook):
    """mmengine's hook, whose best score and count are in the checkpoints.

    ``min_delta`` is what counts as better; mmengine's 0.1 is ten points of AP.
    """

    priority = "LOW"  # before CheckpointHook, which saves what is counted here

    def __init__(self, *args, min_delta: float = 0.001, **kwargs) -> None:
        super().__init__(*args, min_delta=min_delta, **kwargs)

    def before_train(self, runner: Runner) -> None:
        """Continue where a resumed run has stopped; if it has stopped early, stop again."""
        monitor, *state = runner.message_hub.runtime_info.get(_KEY, [None])
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
        """Count, and note the count for the checkpoint."""
        super().after_val_epoch(runner, metrics)
        state = [self.monitor, float(self.best_score), self.wait_count]
        runner.message_hub.update_info(_KEY, state)
