"""A hook that writes what attention and matching do in training, for studies/convergence.py."""

import csv
from itertools import pairwise
from pathlib import Path
from statistics import mean

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from projects.attention_viewer.detections import predict
from projects.attention_viewer.record import record_attention
from projects.attention_viewer.sparsity import SparsityMeter
from projects.attention_viewer.truth import matched_queries, true_boxes
from studies.table import write_rows

NUM_IMAGES = 50


@HOOKS.register_module()
class ObserveHook(Hook):
    """Before training and after each validation, on the first images of the validation set.

    Adds to two files of the run's folder: ``attention.csv``, the negative entropy of each layer (Sun et al.,
    arXiv 2011.10881, section 3), and ``matches.csv``, the query that the last layer's loss matches with each
    object, by which Li et al. (DN-DETR, arXiv 2203.01305) measure the instability of matching.
    """

    priority = "LOW"

    def before_train(self, runner: Runner) -> None:
        """The attention of the weights that a run begins with."""
        if runner.epoch == 0:
            runner.model.eval()
            self._write(runner, "attention.csv", self._observe(runner)[0])

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        sparsity, matches = self._observe(runner)
        self._write(runner, "attention.csv", sparsity)
        self._write(runner, "matches.csv", matches)

    def _observe(self, runner: Runner) -> tuple[list[dict], list[dict]]:
        """Run the model on each image once more; the rows of both files."""
        dataset, model = runner.val_loop.dataloader.dataset, runner.model
        model.dataset_meta = dataset.metainfo
        meter, matches = SparsityMeter(), []
        for image in range(min(NUM_IMAGES, len(dataset))):
            batch = {key: [value] for key, value in dataset[image].items()}
            with record_attention(model) as record:
                (sample,), *outputs = predict(model, batch)
            meter.add(record)
            truth = true_boxes(dataset.get_data_info(image)["instances"], dataset.metainfo["classes"])
            queries = matched_queries(model, sample, *outputs, truth)[-1].tolist()
            matches += [dict(image=image, object=index, query=query) for index, query in enumerate(queries)]
        return meter.rows(), matches

    def _write(self, runner: Runner, name: str, rows: list[dict]) -> None:
        rows = [dict(epoch=runner.epoch, **row) for row in rows]
        write_rows(Path(runner.work_dir, name), rows, append=True)


def read_matches(path: Path) -> dict[int, dict[tuple[str, str], str]]:
    """By epoch the query of each (image, object); what a resumed run has written twice counts once."""
    matches: dict[int, dict[tuple[str, str], str]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            matches.setdefault(int(row["epoch"]), {})[row["image"], row["object"]] = row["query"]
    return matches


def instability(matches: dict[int, dict[tuple[str, str], str]]) -> dict[int, float]:
    """By epoch the share of objects that had another query at the validation before."""
    return {
        epoch: mean(matches[epoch][key] != matches[before][key] for key in matches[epoch])
        for before, epoch in pairwise(sorted(matches))
    }
