"""What is done with a NaN step."""

import shlex
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import nn

from ..errors import NonFiniteError
from ..files.coco_file import shorten
from ..log import warn
from ..run_state import bare_model
from .diagnosis import faulty_gradients, faulty_weights
from .saved_step import SavedStep, image_paths, random_states, restore_buffers

_COUNT = "train/nonfinite_steps"


class StepGuard:
    """Keeps what a step needs to be repeated, and reports a NaN step.

    A step is one of the optimizer: several batches if their gradients are summed. ``skip_nonfinite`` steps of
    the run may be left out; one more stops it. A resumed run goes on counting.
    """

    def __init__(self, runner: Runner, skip_nonfinite: int) -> None:
        self._runner = runner
        self._skip_nonfinite = skip_nonfinite
        self._batches: list[dict] = []

    def begin(self, data_batch: dict) -> None:
        """Note a batch that is going to be trained on, and what its step begins with."""
        if not self._batches:
            self._random_states = random_states()
            self._buffers = [buffer.clone() for buffer in bare_model(self._runner).buffers()]
        self._batches.append(data_batch)

    def end(self) -> None:
        """Forget the batches if their step is done."""
        if self._runner.optim_wrapper.should_update():
            self._batches.clear()

    def give_up(self, error: NonFiniteError) -> None:
        """Report the step that ``error`` has stopped, and leave it out; all processes come here at once.

        `NonFiniteError` if as many as allowed were left out before. The message names the images, what was
        NaN or infinite first, and a file that holds the step.
        """
        runner, model = self._runner, bare_model(self._runner)
        # A forward pass moves the running statistics of batch norms; a step that is left out must not.
        restore_buffers(model, self._buffers)
        dtype = getattr(runner.optim_wrapper, "cast_dtype", None)
        step = SavedStep(
            iteration=runner.iter + 1,
            dtype=str(dtype).removeprefix("torch.") if dtype else None,
            batches=self._batches,
            random_states=self._random_states,
            state_dict=model.state_dict(),
        )
        images, fault = _diagnose(step, model)
        faulty = all_gather_object(fault is not None)
        reporter = faulty.index(True) if any(faulty) else 0
        report = None
        if reporter == get_rank():
            fault = fault or faulty_gradients(model) or "the norm of the gradients"
            report = f"{error}\n  images: {shorten(images)}\n  first: {fault}\n  {_save(step, runner)}"
        report = all_gather_object(report)[reporter]

        self._batches.clear()
        runner.optim_wrapper.zero_grad()
        hub = MessageHub.get_current_instance()
        number = int(hub.get_scalar(_COUNT).current()) + 1 if _COUNT in hub.log_scalars else 1
        if number > self._skip_nonfinite:
            raise NonFiniteError(report)
        hub.update_scalar(_COUNT, number)
        warn(f"step {number} of {self._skip_nonfinite} that may be left out: {report}")


def _diagnose(step: SavedStep, model: nn.Module) -> tuple[list[str], str | None]:
    """The images to blame, or all of the step, and what of this process is NaN or infinite first."""
    with torch.no_grad():
        # In any case: other processes may wait for their part of a sum.
        passes = step.repeat(model)
    weights = faulty_weights(step.state_dict)
    for batch, done in zip(step.batches, passes, strict=True):
        if (fault := done.first_fault()) and not weights:
            output, paths = done.first_output(), image_paths(batch)
            return [paths[i] for i in output.faulty_images] if output else paths, fault
    return [path for batch in step.batches for path in image_paths(batch)], weights


def _save(step: SavedStep, runner: Runner) -> str:
    """Write the step into the work_dir, and say where or why not."""
    path = Path(runner.work_dir, f"nonfinite_iter_{step.iteration}.pth")
    try:
        step.save(path)
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        return f"the step can't be saved as {path}: {error}"
    config = Path(runner.work_dir, Path(runner.cfg.filename or "CONFIG").name)
    return f"to repeat it: python tools/replay_batch.py {shlex.join(map(str, (config, path)))}"
