"""Times training iterations: our model, ours with the reference for the op, and mmdet's own class.

python benchmarks/train.py configs/shapes/ddetr_r18_shapes.py --shape 128 128

All three hold the same weights, and their losses on one batch, in float32 and without dropout, must be
equal before any is timed. An iteration is all that mmengine does with a batch that is loaded:
preprocessing, losses, backward, clipping and the optimizer's step, as the config says. Times are medians
over rounds in which all take turns.
"""

import copy
import statistics
import sys
from argparse import ArgumentParser, Namespace
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from torch import nn

from benchmarks.models import use_ours_in_mmcv
from benchmarks.random_batch import random_batch
from benchmarks.timing import add_arguments, milliseconds, peak_megabytes, use_threads
from ms_deform_attn import _library
from projects.deformable_detr.registry import MODELS
from projects.fast_cpu import speed_up
from projects.reliable_runner.launcher import add_common_arguments, read_config, run_tool

TOLERANCE = 1e-4  # relative difference of any two losses


@dataclass
class Candidate:
    """A model, its optimizer, and what must hold while it computes."""

    name: str
    model: nn.Module
    optim_wrapper: OptimWrapper
    context: AbstractContextManager

    def losses(self, batch: dict) -> dict[str, float]:
        """Every loss by name, without dropout."""
        for module in self.model.modules():
            if isinstance(module, nn.Dropout | nn.MultiheadAttention):
                module.eval()
        with self.context, torch.no_grad():
            data = self.model.data_preprocessor(copy.deepcopy(batch), training=True)
            losses = self.model(**data, mode="loss")
        self.model.train()
        return {name: loss.item() for name, loss in losses.items()}

    def train_on(self, batch: dict) -> None:
        """One iteration, all of it."""
        with self.context:
            self.model.train_step(batch, self.optim_wrapper)


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/shapes/ddetr_r18_shapes.py")
    parser.add_argument("--amp", choices=["float16", "bfloat16"], help="mixed precision")
    parser.add_argument("--batch-size", type=int, help="images a batch; the config's if not given")
    what = "draw random images of this size; without it the config's training set is read"
    parser.add_argument("--shape", nargs=2, type=int, metavar=("H", "W"), help=what)
    add_arguments(parser, rounds=9)
    add_common_arguments(parser)
    args = parser.parse_args(argv)

    cfg = read_config(args)
    use_ours_in_mmcv(False, args.device)  # mmdet's model samples as mmcv does
    MMLogger.get_current_instance().setLevel("WARNING")  # initialisation reports every parameter
    init_default_scope(cfg.default_scope)
    use_threads(args.threads)
    if args.batch_size:
        cfg.train_dataloader.batch_size = args.batch_size
    if args.amp:
        cfg.optim_wrapper.update(type="AmpOptimWrapper", dtype=args.amp)
    torch.manual_seed(0)
    if args.shape:
        num_images, num_classes = cfg.train_dataloader.batch_size, cfg.model.bbox_head.num_classes
        batch = random_batch(num_images, *args.shape, num_classes)
    else:
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    found = candidates(cfg, args.device)
    check_losses(found, batch)
    print(f"equal losses (within {TOLERANCE:g})\n", flush=True)
    print(table(bench(found, batch, args)))


def candidates(cfg: Config, device: str) -> list[Candidate]:
    """The three, with the same weights; nothing pretrained is read."""
    cfg.model.backbone.init_cfg = None
    ours = MODELS.build(cfg.model)
    ours.init_weights()
    theirs = build_mmdets(cfg.model)
    theirs.load_state_dict(ours.state_dict())
    if torch.device(device).type == "cpu":
        speed_up(ours)  # as the tools do
    without_op = mock.patch.object(_library, "serves", return_value=False)
    optim = cfg.optim_wrapper
    rows = [
        ("ours", ours, optim, nullcontext()),
        ("ours, reference for the op", copy.deepcopy(ours), optim, without_op),
        ("mmdet's DeformableDETR", theirs, mmdets_optim(optim), nullcontext()),
    ]
    return [
        Candidate(name, model.to(device).train(), build_optim_wrapper(model, how), context)
        for name, model, how, context in rows
    ]


def mmdets_optim(cfg: ConfigDict) -> ConfigDict:
    """The same optimizer as mmdet's config has it: neither fused nor with parameters in groups."""
    cfg = copy.deepcopy(cfg)
    cfg.pop("constructor", None)
    cfg.optimizer.pop("fused", None)
    return cfg


def build_mmdets(cfg: ConfigDict) -> nn.Module:
    """mmdet's own ``DeformableDETR``, with its own parts, from the config of ours."""
    cfg = copy.deepcopy(cfg)
    if cfg.get("denoising") is None:
        cfg.pop("denoising", None)  # a setting that it lacks
    cfg.decoder.update(return_intermediate=True, post_norm_cfg=None)
    parts = [cfg.positional_encoding]
    for stack in (cfg.encoder, cfg.decoder):
        layer = stack.layer_cfg
        attentions = [layer[name] for name in layer if name.endswith("attn_cfg")]
        for attention in attentions:
            attention.batch_first = True
        parts += [stack, layer, layer.ffn_cfg, *attentions]
    for part in parts:
        part.pop("type", None)  # mmdet takes its own
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg)
    if cfg.get("as_two_stage"):
        # It takes the width of the proposals' embedding for 256 whatever the config says.
        model.get_proposal_pos_embed = partial(
            model.get_proposal_pos_embed, num_pos_feats=model.embed_dims // 2
        )
    return model


def check_losses(found: list[Candidate], batch: dict) -> None:
    """Raise `SystemExit` unless all candidates give the losses of the first."""
    expected = found[0].losses(batch)
    for candidate in found[1:]:
        losses = candidate.losses(batch)
        for name, loss in expected.items():
            if not abs(losses[name] - loss) <= TOLERANCE * abs(loss):
                raise SystemExit(f"{name} of {candidate.name} is {losses[name]}, ours is {loss}")


def bench(found: list[Candidate], batch: dict, args: Namespace) -> dict[str, dict]:
    """Milliseconds of each round and peak memory of an iteration, by candidate."""

    def run(candidate: Candidate):
        return partial(candidate.train_on, copy.deepcopy(batch))

    for candidate in found:  # warms up, and makes the optimizer's state
        run(candidate)()
    rows = {c.name: {"peak": peak_megabytes(run(c), args.device), "times": []} for c in found}
    for candidate in found * args.rounds:
        rows[candidate.name]["times"].append(milliseconds(run(candidate), args.device))
    return rows


def table(rows: dict[str, dict]) -> str:
    """Markdown: seconds an iteration, and how many times those of the first row."""
    lines = ["| model | s an iteration | least | ratio | peak MB |", "| --- " * 5 + "|"]
    first = statistics.median(next(iter(rows.values()))["times"])
    for name, row in rows.items():
        median, least = statistics.median(row["times"]), min(row["times"])
        cells = f"{median / 1e3:.3f} | {least / 1e3:.3f} | {median / first:.2f}x"
        lines.append(f"| {name} | {cells} | {row['peak']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_tool(main))
