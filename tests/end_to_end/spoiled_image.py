"""A transform for tests that spoils one image; a config imports it with ``custom_imports``."""

import os
import signal

import numpy as np
from mmcv.transforms import BaseTransform

from projects.deformable_detr.registry import TRANSFORMS


@TRANSFORMS.register_module(force=True)
class SpoilImage(BaseTransform):
    """Makes the image ``name`` NaN, or kills the process that loads it.

    Args:
        name: of the file.
        kill: name of the signal; "" makes the image NaN, "exit" leaves with status 3.
    """

    def __init__(self, name: str, kill: str = "") -> None:
        self.name, self.kill = name, kill

    def transform(self, results: dict) -> dict:
        if results["img_path"].endswith(self.name):
            if self.kill == "exit":
                os._exit(3)
            if self.kill:
                os.kill(os.getpid(), getattr(signal, self.kill))
            results["img"] = np.full(results["img"].shape, np.nan, np.float32)
        return results
