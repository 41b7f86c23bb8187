"""The losses on the validation set."""

from collections import Counter

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from ..errors import InputError
from ..run_state import bare_model, leaf_datasets


class ValLossHook(Hook):
    """Adds ``val/loss``, ``val/loss_cls`` and so on to the metrics of a validation.

    They are the means over the batches of the validation, with the weights that it measures (EMAHook's, if
    there is one). They can be monitored by any hook: ``save_best="val/loss"``. It costs a second pass
    through the model. `InputError` if the validation reads no boxes.
    """

    priority = "HIGHEST"  # the metrics are complete before other hooks log and compare them

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting; learn in which pixels the boxes are."""
        self._sums: Counter[str] = Counter()
        self._batches = 0
        datasets = leaf_datasets(runner.val_loop.dataloader.dataset)
        self._resized = all(_boxes_are_resized(dataset) for dataset in datasets)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs=None) -> None:
        """Add the losses of a batch."""
        model = bare_model(runner)
        with torch.no_grad():
            data = model.data_preprocessor(data_batch, False)
            for sample in () if self._resized else data["data_samples"]:
                objects = sample.gt_instances
                factor = objects.bboxes.new_tensor(sample.metainfo.get("scale_factor", (1.0, 1.0)))
                objects.bboxes = objects.bboxes * factor.repeat(2)
            _, losses = model.parse_losses(model(**data, mode="loss"))
        self._sums.update({name: value.item() for name, value in losses.items()})
        self._batches += 1

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Put the means among the metrics."""
        sums = torch.tensor([*self._sums.values(), self._batches], dtype=torch.float64)
        all_reduce(sums)
        *totals, batches = sums.tolist()
        metrics |= {f"val/{name}": total / batches for name, total in zip(self._sums, totals, strict=True)}


def _boxes_are_resized(dataset: Dataset) -> bool:
    """Whether the boxes of ``dataset`` are in pixels of the network's input.

    In test pipelines LoadAnnotations commonly comes after Resize, and the boxes are those of the original
    image.
    """
    names = [type(transform).__name__ for transform in dataset.pipeline.transforms]
    loads = [index for index, name in enumerate(names) if name.endswith("LoadAnnotations")]
    if not loads:
        raise InputError(
            "ValLossHook wants the boxes of the validation images: add dict(type='LoadAnnotations', "
            f"with_bbox=True) to val_dataloader.dataset.pipeline, before PackDetInputs; it has {names}"
        )
    return not any("Resize" in name for name in names[: loads[0]])
