"""A detector for files and arrays in one call, with the habits of MMDetection's ``DetInferencer``.

inferencer = DetInferencer("ddetr_r50_50e_two_stage")
inferencer("photos/", out_dir="outputs")  # outputs/vis/*.jpg
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import Config

from .drawing import build_visualizer, draw_sample
from .files.media import MediaWriter, find_media, is_video
from .files.model_index import published_models
from .inference import Image, detect_each, file_name, init_detector, is_address, load_image, prepare
from .log import warn
from .metric.coco_results import CocoResults, write_json
from .progress import progress
from .slicing import detect_sliced


class DetInferencer:
    """Detects objects in images, draws them and writes both.

    Beyond MMDetection's there are slices, an image may be a pattern, a `pathlib.Path`, an image of PIL or a
    tensor, and several may come from a generator; files of one name do not overwrite each other. Pictures are
    returned only if asked for, and the config is not read out of the weights, as this would run code of the
    file.

    Arguments are those of `init_detector`; ``weights`` are by default the published ones of a model's name.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        device: str | None = None,
        show_progress: bool = True,
        cfg_options: dict | None = None,
    ) -> None:
        pretrained = weights is None and not isinstance(model, Config) and str(model) in published_models()
        if weights is None and not pretrained:
            warn("DetInferencer has no weights: what it finds means nothing")
        self.model = init_detector(model, weights, device, cfg_options, pretrained)
        self.classes = self.model.dataset_meta["classes"]
        self.visualizer = build_visualizer(self.model.cfg, self.classes)
        self.show_progress = show_progress
        self.num_unnamed = 0

    def __call__(
        self,
        inputs: Image | Iterable[Image],
        batch_size: int = 1,
        return_vis: bool = False,
        no_save_vis: bool = False,
        pred_score_thr: float = 0.3,
        return_datasamples: bool = False,
        print_result: bool = False,
        no_save_pred: bool = True,
        out_dir: str | Path = "",
        slice_size: int | None = None,
    ) -> dict[str, list]:
        """Detect objects in images.

        Args:
            inputs: one, or several (a list or a generator, say), of what `inference_detector` takes; also
                folders, without their subfolders, and patterns such as ``data/**/*.jpg``.
            batch_size: how many go through the model at once.
            pred_score_thr: detections of a lower score are neither drawn nor printed.
            return_datasamples: return what `inference_detector` does in place of lists.
            print_result: print class, score and x, y, width, height of each detection.
            out_dir: folder for ``vis/NAME.jpg`` and ``preds/NAME.json``; nothing is written if it is empty.
                Images without a name are numbered, on from those of the calls before.
            slice_size: detect in slices of this many pixels too, see `detect_sliced`.

        Returns ``predictions``, a dict an image, as the JSON has: ``labels`` (n), indices into ``classes``,
        ``scores`` (n), falling, in [0, 1], and ``bboxes`` (n, 4), x1, y1, x2, y2 in pixels; and
        ``visualization``, an array an image, (h, w, 3), uint8, RGB, empty unless ``return_vis``. `InputError`
        if an image can't be read, or something not be written.
        """
        results: dict[str, list] = dict(predictions=[], visualization=[])
        images = _expand(inputs)
        if isinstance(inputs, Image | Sequence):
            images = list(images)
        total = len(images) if isinstance(images, list) else None
        prepared = self._prepared(images)
        if slice_size:
            pairs = (
                (item, detect_sliced(self.model, item[1], whole, slice_size, batch_size=batch_size))
                for item, whole in prepared
            )
        else:
            pairs = detect_each(self.model, prepared, batch_size)
        with (
            progress(total, "image", smoothing=0, disable=not self.show_progress) as bar,
            MediaWriter(Path(out_dir, "vis")) as pictures,
        ):
            for (name, image), sample in pairs:
                found = sample.pred_instances
                shown = DetDataSample(
                    pred_instances=found[found.scores >= pred_score_thr], metainfo=sample.metainfo
                )
                prediction = {key: found[key].tolist() for key in ("labels", "scores", "bboxes")}
                results["predictions"].append(sample if return_datasamples else prediction)
                if return_vis or out_dir and not no_save_vis:
                    picture = draw_sample(self.visualizer, image, shown)
                    if return_vis:
                        results["visualization"].append(picture[..., ::-1])
                    if out_dir and not no_save_vis:
                        pictures.write(name, picture)
                if out_dir and not no_save_pred:
                    write_json(Path(out_dir, "preds", f"{Path(name).stem}.json"), prediction)
                if print_result:
                    lines = CocoResults(self.classes, range(len(self.classes)))
                    bar.write("\n".join([name, *map(lines.describe, lines.add(name, shown))]))
                bar.update()
        return results

    def _prepared(self, images: Iterable[Image]) -> Iterator[tuple[tuple[str, np.ndarray], dict]]:
        """The name, with its suffix, and pixels of each image, and what the test pipeline makes of it."""
        taken: set[str] = set()
        for image in images:
            if isinstance(image, str | Path):
                path, name = image, Path(file_name(image))
            else:
                path, name = None, Path(f"{self.num_unnamed:08d}.jpg")
                self.num_unnamed += 1
            stem, number = name.stem, 1
            while name.stem in taken:
                name, number = name.with_stem(f"{stem}_{number}"), number + 1
            taken.add(name.stem)
            pixels = load_image(self.model, image)
            yield (name.name, pixels), prepare(self.model, pixels, path)


def _expand(inputs: Image | Iterable[Image]) -> Iterator[Image]:
    for entry in [inputs] if isinstance(inputs, Image) else inputs:
        if isinstance(entry, str | Path) and not is_address(entry):
            yield from (
                path for path in find_media([entry]) if path == Path(entry).expanduser() or not is_video(path)
            )
        else:
            yield entry
