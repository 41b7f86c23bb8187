"""Boxes with class and score drawn into an image, and names in letters that the font of a figure has."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from unicodedata import bidirectional

import matplotlib.pyplot as plt
import numpy as np
from anyascii import anyascii
from matplotlib.font_manager import FontProperties, findfont, get_font
from mmdet.engine.hooks import DetVisualizationHook as _DetVisualizationHook
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer

from .data.image_arrays import as_shown
from .data.image_loading import image_loader
from .files.media import picture_name
from .run_state import leaf_datasets


def build_visualizer(cfg: Config, classes: list[str] | None) -> Visualizer:
    """Build the visualizer that ``cfg`` names, by default mmdet's; it draws, and writes nothing.

    Up to ten ``classes``, names by label, get colours that are easy to tell apart.
    """
    settings = dict(cfg.get("visualizer") or dict(type="DetLocalVisualizer"), vis_backends=None)
    settings.pop("name", None)
    # Not build(), which returns the one that was built first under a name.
    visualizer = VISUALIZERS.get(settings.pop("type"))(**settings)
    visualizer.dataset_meta = dict(classes=classes, palette="random")
    if classes and len(classes) <= 10:
        colours = (np.array(plt.get_cmap("tab10").colors) * 255).round().astype(int)
        visualizer.dataset_meta["palette"] = [tuple(colour) for colour in colours.tolist()]
    return visualizer


def draw_sample(
    visualizer: Visualizer, image: np.ndarray, sample: DetDataSample, draw_gt: bool = False
) -> np.ndarray:
    """Draw all predictions of ``sample``, or its true boxes, into a copy of an image.

    ``image`` is (h, w, 3), BGR, or what `as_shown` takes, in the size that the boxes are for. Returns
    (h, w, 3), uint8, BGR.
    """
    with warnings.catch_warnings():
        # A box that ends at the last pixel counts as one.
        warnings.filterwarnings("ignore", message=".*out of bounds")
        visualizer.add_datasample(
            "image",
            as_shown(image)[..., ::-1],
            sample,
            draw_gt=draw_gt,
            draw_pred=not draw_gt,
            pred_score_thr=float("-inf"),
        )
    # Not get_image(), which renders what was rendered again, and that moves pixels a second time.
    return visualizer._image[..., ::-1]


class DetVisualizationHook(_DetVisualizationHook):
    """mmdet's hook, which reads images as the data set does, and draws those of any depth and channels.

    Pictures of what is neither JPEG nor PNG get ``.png`` after their name.
    """

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        step = runner.iter + batch_idx
        if self.draw and step % self.interval == 0:
            self._draw(runner.val_loop, outputs[0], "val_img", step)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        for sample in outputs if self.draw else ():
            self._test_index += 1
            file = None
            if self.test_out_dir is not None:
                name = picture_name(Path(sample.img_path).name)
                file = str(Path(runner.work_dir, runner.timestamp, self.test_out_dir, name))
            self._draw(runner.test_loop, sample, "test_img", self._test_index, file)

    def _draw(self, loop: BaseLoop, sample: DetDataSample, name: str, step: int, file=None) -> None:
        read = image_loader(next(leaf_datasets(loop.dataloader.dataset)))
        self._visualizer.add_datasample(
            Path(sample.img_path).name if self.show else name,
            as_shown(read(dict(img_path=sample.img_path))["img"])[..., ::-1],
            data_sample=sample,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=file,
            step=step,
        )


def readable(text: str) -> str:
    """``text`` as it is if the font of ``rcParams["font.family"]`` has it; else in Latin letters."""
    if text.isascii():
        return text
    known = _characters(findfont(FontProperties()))
    return "".join(x if x in known or x == "\n" else anyascii(x) for x in text)


@cache
def _characters(font: str) -> set[str]:
    """Those of a font but for scripts from right to left, which Matplotlib neither turns nor joins."""
    return {x for x in map(chr, get_font(font).get_charmap()) if bidirectional(x) not in ("R", "AL")}


def set_readable(set_text: Callable) -> Callable:
    """``Text.set_text`` of Matplotlib, which would draw a box for each character that the font lacks."""

    @wraps(set_text)
    def set_readable_text(self, s: object) -> None:
        set_text(self, readable(s) if isinstance(s, str) else s)

    return set_readable_text
