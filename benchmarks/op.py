"""Times multi-scale deformable attention: ours, the reference, and every peer that can be imported.

Each is first compared with the reference in float64. Times are medians over rounds in which all take turns,
each twice in a row, of which the second counts: what else the machine does hits all alike.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ms_deform_attn
from benchmarks.timing import add_arguments, milliseconds, peak_megabytes, use_threads

LEVELS = {
    "800x1333": ((100, 167), (50, 84), (25, 42), (13, 21)),
    "640x640": ((80, 80), (40, 40), (20, 20)),
}


@dataclass(frozen=True)
class Case:
    """Sizes; without ``num_queries``, there is one for each pixel, as in an encoder."""

    levels: str = "800x1333"
    bs: int = 1
    num_queries: int | None = None
    num_heads: int = 8
    head_dims: int = 32
    num_points: int = 4

    def inputs(self, device: str, num_queries: int | None = None) -> dict[str, Tensor]:
        """All that any candidate takes. No sample is within a tenth of a pixel of a knot."""
        shapes = torch.tensor(LEVELS[self.levels])
        areas = shapes.prod(-1)
        if self.num_queries is None:
            centres = [
                torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w)
                for h, w in shapes.tolist()
            ]
            points = torch.cat(centres).flip(-1)[:num_queries].expand(self.bs, -1, -1)
        else:
            points = torch.rand(self.bs, min(self.num_queries, num_queries or 10**9), 2)
        points = points[:, :, None].expand(-1, -1, len(shapes), -1).contiguous()
        sizes = (*points.shape[:2], self.num_heads, len(shapes), self.num_points)
        width_height = shapes.flip(-1)[:, None]
        centre = points[:, :, None, :, None] * width_height
        pixels = (centre + 2 * torch.randn(*sizes, 2)).floor() + 0.1 + 0.8 * torch.rand(*sizes, 2)
        logits = torch.randn(sizes)
        inputs = {
            "value": torch.randn(self.bs, int(areas.sum()), self.num_heads, self.head_dims),
            "points": points,
            "offsets": pixels + 0.5 - centre,
            "logits": logits,
            "locations": (pixels + 0.5) / width_height,
            "weights": logits.flatten(3).softmax(-1).view(sizes),
        }
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        return inputs | {"shapes": shapes, "starts": areas.cumsum(0) - areas}


CASES = {
    "encoder": Case(),
    "encoder, batch 2": Case(bs=2),
    "decoder": Case(num_queries=300),
    "decoder, batch 8": Case(num_queries=300, bs=8),
    "RT-DETR decoder": Case("640x640", num_queries=300),
    "RT-DETR encoder": Case("640x640"),
    "33 channels": Case("640x640", num_queries=900, head_dims=33),
}
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Candidate:
    """A function of the shapes, the starts, and of the inputs of these names."""

    run: Callable[..., Tensor]
    names: tuple[str, ...] = ("value", "locations", "weights")
    dtype: torch.dtype = torch.float32  # of the value

    def prepare(self, inputs: dict[str, Tensor]) -> tuple[Callable[..., Tensor], list[Tensor]]:
        tensors = [inputs[name].detach() for name in self.names]
        tensors[0] = tensors[0].to(self.dtype)
        function = partial(self.run, inputs["shapes"], inputs["starts"])
        return function, [tensor.requires_grad_() for tensor in tensors]


def candidates(device: str) -> dict[str, Candidate]:
    """By name; peers that cannot be imported are left out."""
    ours = Candidate(lambda s, i, v, *others: ms_deform_attn.ms_deform_attn(v, s, i, *others))
    names = "value", "points", "offsets", "logits"
    fused = Candidate(lambda s, i, v, *others: ms_deform_attn.ms_deform_attn_fused(v, s, i, *others), names)
    found = {
        "unfused": ours,
        "fused": fused,
        "unfused bfloat16": Candidate(ours.run, dtype=torch.bfloat16),
        "fused bfloat16": Candidate(fused.run, names, torch.bfloat16),
        "unfused float16": Candidate(ours.run, dtype=torch.float16),
        "reference": Candidate(lambda s, i, v, x, w: ms_deform_attn.ms_deform_attn_reference(v, s, i, x, w)),
    }
    with suppress(ImportError):
        from torch_ms_deform_attn import ms_deform_attn as peer

        found["torch-ms-deform-attn"] = Candidate(
            lambda s, i, v, x, w: peer(v, s.to(v.device), i.to(v.device), x, w)
        )
    with suppress(ImportError):
        from mmcv.ops import multi_scale_deform_attn as mmcv

        found["mmcv"] = Candidate(
            (lambda s, i, v, x, w: mmcv.multi_scale_deformable_attn_pytorch(v, s, x, w))
            if device == "cpu"
            else lambda s, i, v, x, w: mmcv.MultiScaleDeformableAttnFunction.apply(
                v, s.to(v.device), i.to(v.device), x, w, 64
            )
        )
    with suppress(ImportError, AttributeError):
        from transformers.models.deformable_detr import modeling_deformable_detr as transformers

        module = transformers.MultiScaleDeformableAttention()
        found["transformers"] = Candidate(
            lambda s, i, v, x, w: module(v, s.to(v.device), s.tolist(), i, x, w, 64)
        )
    return found


def check(candidate: Candidate, inputs: dict[str, Tensor]) -> float:
    """The largest error of output and gradients, relative to the largest number of each."""
    function, tensors = candidate.prepare(inputs)
    kind = "_fused" if "points" in candidate.names else ""
    reference = getattr(ms_deform_attn, f"ms_deform_attn{kind}_reference")
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    output = function(*tensors)
    expected = reference(exact[0], inputs["shapes"], inputs["starts"], *exact[1:])
    direction = torch.randn_like(output)
    results = [output, *torch.autograd.grad(output, tensors, direction)]
    truths = [expected, *torch.autograd.grad(expected, exact, direction.double())]
    return max(
        ((result.double() - truth).abs().max() / truth.abs().max()).item()
        for result, truth in zip(results, truths, strict=True)
    )


def bytes_per_second(device: str, size: int = 2**28) -> float:
    """What the device's memory reads and writes, by copies of ``size`` bytes."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [milliseconds(lambda: target.copy_(source), device) for _ in range(9)]
    return 2e3 * size / min(times)


def bench(case: Case, found: dict[str, Candidate], device: str, rounds: int) -> dict[str, dict]:
    """For each candidate its error, peak memory, and milliseconds forward and with backward.

    ``floor`` is the time in which the memory moves forward's inputs and output once.
    """
    small, inputs = case.inputs(device, num_queries=100), case.inputs(device)
    speed = bytes_per_second(device)
    runs: dict[str, dict[str, Callable]] = {}
    rows: dict[str, dict] = {}
    for name, candidate in found.items():
        error = check(candidate, small)
        if not error < TOLERANCE[candidate.dtype]:
            raise SystemExit(f"{name} is wrong: error {error:.1e} beside float64")
        function, tensors = candidate.prepare(inputs)

        def forward(function=function, tensors=tensors) -> None:
            with torch.no_grad():
                function(*tensors)

        def both(function=function, tensors=tensors) -> None:
            output = function(*tensors)
            torch.autograd.grad(output, tensors, torch.ones_like(output))

        runs[name] = {"forward": forward, "both": both}
        forward()
        moved = sum(t.numel() * t.element_size() for t in [*tensors, function(*tensors).detach()])
        rows[name] = {"error": error, "peak_megabytes": peak_megabytes(both, device)}
        rows[name]["floor"] = 1e3 * moved / speed
    for what in ("forward", "both"):
        times = {name: [] for name in found}
        for _ in range(rounds):
            for name in found:
                runs[name][what]()  # what others left in the caches matters to none
                times[name].append(milliseconds(runs[name][what], device))
        for name, taken in times.items():
            rows[name][what] = statistics.median(taken)
    return rows


def table(case: str, rows: dict[str, dict]) -> str:
    """Markdown: milliseconds, in brackets how many times those of our unfused op in float32."""
    lines = [
        f"| {case} | forward | of it floor | forward and backward | peak MB | error |",
        "| --- " * 6 + "|",
    ]
    for name, row in rows.items():
        cells = [f"{row[k]:.2f} ({row[k] / rows['unfused'][k]:.2f}x)" for k in ("forward", "both")]
        cells.insert(1, f"{row['floor'] / row['forward']:.0%}")
        cells += [f"{row['peak_megabytes']:.0f}", f"{row['error']:.0e}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[str, dict], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(results), 1, figsize=(8, 2.2 * len(results)), squeeze=False)
    for axis, (case, rows) in zip(axes[:, 0], results.items(), strict=True):
        axis.barh(list(rows), [row["both"] for row in rows.values()], color="tab:orange")
        axis.barh(list(rows), [row["forward"] for row in rows.values()], color="tab:blue")
        axis.set(title=case, xscale="log")
        axis.invert_yaxis()
    axes[-1, 0].set_xlabel("milliseconds: forward (blue), forward and backward (orange)")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, rounds=9)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path("work_dirs/bench_op"))
    args = parser.parse_args()
    use_threads(args.threads)
    torch.manual_seed(0)
    found = candidates(args.device)
    results = {}
    for name in args.cases:
        results[name] = bench(CASES[name], found, args.device, args.rounds)
        print(table(name, results[name]) + "\n", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    machine = torch.cuda.get_device_name() if args.device == "cuda" else platform.machine()
    facts = {"machine": machine, "torch": torch.__version__, "cases": results}
    (args.out / "results.json").write_text(json.dumps(facts, indent=2))
    draw(results, args.out / "results.png")
    print(f"wrote {args.out}/results.json and results.png")


if __name__ == "__main__":
    main()
