"""A checkpoint fits what the run does with it, or the run stops."""

import logging
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from ..errors import InputError
from ..files.checkpoint_family import foreign_weights, guess_family
from ..files.coco_file import shorten
from ..run_state import bare_model, missing_state, must_fit_exactly
from .adaptation import Misfit, adapt, misfits, unknown, untied
from .class_names import class_difference

_BACKBONE = "backbone."


class CheckpointCheckHook(Hook):
    """Refuse weights of another model, and to resume from weights without the state of a training run.

    Resuming and testing want all weights and no others. A training may start (``load_from``) from weights
    that fit in part: what does not fit stays as it was initialised, and the log names it. That is the way to
    other classes and queries.
    """

    priority = "HIGH"  # after the classes are compared, before EMAHook copies the weights

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check what the runner is going to read, and adapt it if a training starts from it.

        Raises:
            InputError: The checkpoint lacks what the run needs, or its weights are of another model.
        """
        path = runner._load_from or find_latest_checkpoint(runner.work_dir)
        weights = checkpoint.get("state_dict", checkpoint)
        model = bare_model(runner)
        exact = must_fit_exactly(runner)
        missing = missing_state(checkpoint)
        if runner._resume and missing:
            raise InputError(
                f"{path}: a run can't be resumed from this checkpoint, it lacks "
                f"{', '.join(missing)}. To start from its weights alone, leave --resume out and "
                f"set --cfg-options load_from={path}"
            )
        check_fits(path, weights, model, exact)
        if not exact and (report := adapt(weights, model, class_difference(runner, checkpoint))):
            print_log(f"{path}: {report}", logger="current", level=logging.WARNING)


def check_fits(path: str | Path, weights: dict, model: nn.Module, exact: bool = True) -> None:
    """Refuse weights of another model.

    Args:
        path: where they are from, for the message.
        weights: a state dict.
        model: what is to have them.
        exact: whether it wants all of them and no others; else some must fit that are not its backbone's.

    Raises:
        InputError: They are of another code base or of another model.
    """
    foreign = foreign_weights(weights, path)
    if foreign and guess_family(weights) != guess_family(model.state_dict()):
        raise InputError(f"{path}: {foreign}")
    left = misfits(weights, model)
    _check_fits_in_part(path, weights, model, left)
    if not exact:
        return
    problems = [*map(str, left)]
    problems += [f"{key} is unknown to the model" for key in unknown(weights, model)]
    if problems := problems or list(untied(weights, model)):
        raise InputError(
            f"{path}: its weights are of another model: {shorten(problems)}. Resume and test with the config "
            "that it was trained with; a new training can start from what fits (load_from)"
        )


def _check_fits_in_part(path: str | Path, weights: dict, model: nn.Module, left: list[Misfit]) -> None:
    all_keys = {misfit.key for misfit in misfits({}, model)}
    fitting = all_keys - {misfit.key for misfit in left}
    if any(not key.startswith(_BACKBONE) for key in fitting):
        return
    found = "none of its weights fits the model"
    if fitting:
        found = (
            f"only weights of the backbone fit, {len(fitting)} of the model's {len(all_keys)}: this is "
            "half a checkpoint, or one of another detector"
        )
    others = [str(misfit) for misfit in left if not fitting or _BACKBONE not in misfit.key]
    prefix = f', prefix="{_BACKBONE}"' if any(_BACKBONE in key for key in weights) else ""
    raise InputError(
        f"{path}: {found}: {shorten(others)}; it holds {shorten(list(weights)) or 'nothing'}. For a "
        "backbone's weights set "
        f'model.backbone.init_cfg=dict(type="Pretrained", checkpoint="{path}"{prefix})'
    )
