"""Repeat a NaN step and show the output of each module.

python tools/replay_batch.py work_dirs/first/ddetr_r50_50e.py work_dirs/first/nonfinite_iter_1234.pth
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.registry import init_default_scope

from projects.deformable_detr.registry import MODELS
from projects.fast_cpu import speed_up
from projects.reliable_runner.checks.weights import check_fits
from projects.reliable_runner.launcher import config_parser, parse_config, run_tool
from projects.reliable_runner.training.diagnosis import Forward, faulty_gradients, faulty_weights
from projects.reliable_runner.training.saved_step import SavedStep, image_paths

SHOWN = 15  # modules before the first fault


def main(argv: list[str] | None = None) -> None:
    parser = config_parser(__doc__.splitlines()[0])
    parser.add_argument("step", help="nonfinite_iter_N.pth, which the run has left in its work_dir")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--all", action="store_true", help="show all modules")
    args = parser.parse_args(argv)

    cfg = parse_config(args)
    step = SavedStep.load(args.step)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    check_fits(args.step, step.state_dict, model)
    model.load_state_dict(step.state_dict)
    model.to(args.device).train()
    if torch.device(args.device).type == "cpu":
        speed_up(model)  # as in the run

    print(f"iteration {step.iteration}, {step.dtype or 'float32'}")
    weights = faulty_weights(step.state_dict)
    passes = step.repeat(model)
    for batch, done in zip(step.batches, passes, strict=True):
        print(f"\nimages: {', '.join(image_paths(batch))}")
        print(table(done, args.all))
    first = next(filter(None, (done.first_fault() for done in passes)), None)
    if not (weights or first):
        sum(loss for done in passes for loss in done.losses.values()).backward()
    print(f"\nfirst: {weights or first or faulty_gradients(model) or 'everything is finite'}")


def table(done: Forward, all_modules: bool) -> str:
    """The largest magnitude of each module's output, in their order, and the losses."""
    outputs, first = done.outputs, done.first_output()
    if not all_modules:
        end = outputs.index(first) + 1 if first else len(outputs)
        outputs = outputs[max(end - SHOWN, 0) : end]
    width = max(len(output.name) for output in outputs)
    lines = [f"{o.name:{width}}  {o.max_abs:10.4g}  {o.kind}" for o in outputs]
    losses = [f"{name} {loss.item():.4g}" for name, loss in done.losses.items()]
    return "\n".join(["largest magnitude of each output:", *lines, ", ".join(losses)])


if __name__ == "__main__":
    sys.exit(run_tool(main))
