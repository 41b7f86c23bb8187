"""A validation that fails loses nothing that was trained."""

from mmengine.runner import BaseLoop
from mmengine.runner import ValLoop as _ValLoop

from .checkpoint_hook import CheckpointHook


class ValLoop(_ValLoop):
    """mmengine's loop; if it fails in a training, the weights are saved first."""

    def run(self) -> dict:
        """Validate."""
        try:
            return super().run()
        except Exception:
            for hook in self.runner.hooks:
                if isinstance(hook, CheckpointHook) and isinstance(self.runner._train_loop, BaseLoop):
                    hook.save_unsaved(self.runner)
            raise
