"""A checkpoint fits what the run does with it, or the run stops."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from .coco_file import shorten
from .errors import InputError
from .registry import HOOKS
from .run_state import bare_model, must_fit_whole


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Refuse weights of another model, and to resume from weights without the state of a training run.

    A training may start (``load_from``) from weights that fit in part; resuming and testing want all.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check what the runner is going to read.

        Raises:
            InputError: The checkpoint lacks what the run needs, or its weights are of another model.
        """
        path = runner._load_from or find_latest_checkpoint(runner.work_dir)
        missing = {"meta", "message_hub", "optimizer"} - set(checkpoint)
        if runner._resume and missing:
            raise InputError(
                f"{path}: a run can't be resumed from this checkpoint, it lacks "
                f"{', '.join(sorted(missing))}. To start from its weights alone, leave --resume out and "
                f"set --cfg-options load_from={path}"
            )
        expected = _shapes(bare_model(runner).state_dict())
        found = _shapes(checkpoint.get("state_dict", checkpoint))
        misfits = [
            f"{key} is {found.get(key, 'not there')} instead of {shape}"
            for key, shape in expected.items()
            if found.get(key) != shape
        ]
        if len(misfits) == len(expected):
            raise InputError(
                f"{path}: none of its weights fits the model: {shorten(misfits)}. For a backbone's weights "
                f'set model.backbone.init_cfg=dict(type="Pretrained", checkpoint="{path}")'
            )
        if misfits and must_fit_whole(runner):
            raise InputError(
                f"{path}: its weights are of another model: {shorten(misfits)}. Resume and test with the "
                "config that it was trained with; a new training can start from what fits (load_from)"
            )


def _shapes(state_dict: dict) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight; counters of batches, which old checkpoints lack, are left out."""
    return {
        key.removeprefix("module."): tuple(value.shape)
        for key, value in state_dict.items()
        if isinstance(value, torch.Tensor) and not key.endswith("num_batches_tracked")
    }
