"""Builds the op on a machine with a CUDA GPU, tests and times it, and writes what came out as one page.

``make gpu`` runs it. A part that fails, or takes longer than it may, is reported and the next one starts; the
page is written anew after each.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
TRAIN = [PYTHON, "benchmarks/train.py", "configs/ddetr_r50_50e.py", "--shape", "800", "1333"]
TRAIN += ["--batch-size", "2", "--rounds", "5"]
SANITIZER = ["compute-sanitizer", "--error-exitcode", "1", "--launch-timeout", "0", "--tool"]
# Small samples: each kernel and data type, with every path that the number of channels decides.
SAMPLES = [*PYTEST, "tests/ops/test_functional.py", "-k"]
SAMPLES += ["cuda and reference_in_float64 and (3_channels or 32_channels or not_aligned or five_levels)"]


@dataclass
class Part:
    """A command, what it shows, and how long it may take."""

    title: str
    command: list[str]
    minutes: float
    result: str = "not run"
    seconds: float = 0
    output: list[str] = field(default_factory=list)

    def run(self) -> None:
        print(f"\n== {self.title}: {' '.join(self.command)}", flush=True)
        start = time.monotonic()
        if shutil.which(self.command[0]) is None:
            self.result = f"{self.command[0]} was not found"
            return
        with subprocess.Popen(
            ["timeout", "--kill-after=10", f"{self.minutes}m", *self.command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                self.output.append(line.rstrip())
        self.seconds = time.monotonic() - start
        failed = {0: "passed", 124: f"stopped after {self.minutes:g} minutes"}
        self.result = failed.get(process.returncode, f"FAILED (exit code {process.returncode})")

    def report(self) -> str:
        """Markdown: the tables that the command printed; where there are none, the end of its output."""
        shown = "\n".join(line for line in self.output if line.startswith("|") or not line).strip()
        if not shown or self.result != "passed":
            last = [line for line in self.output if line][-3 if self.result == "passed" else -40 :]
            shown += "\n\n```text\n" + "\n".join(last) + "\n```"
        return f"## {self.title}\n\n`{self.shown_command}`: {self.result}.\n\n{shown.strip()}\n"

    @property
    def shown_command(self) -> str:
        return shlex.join(self.command).replace(PYTHON, "python")


def all_parts(device: str) -> list[Part]:
    """In order; all together at most 20 minutes."""
    # Where there is no nvcc, pip builds the CPU's kernels alone and is content; `serves` says so.
    build = '"$0" -m pip install --quiet --no-deps --no-build-isolation --editable . && "$0" -c "$1"'
    serves = f'import torch, ms_deform_attn._library as op; exit(not op.serves(torch.device("{device}")))'
    on = ["--device", device]
    return [
        Part("Build", ["bash", "-c", build, PYTHON, serves], 4),
        Part("Tests that need a GPU", [*PYTEST, "-m", "gpu", "--durations=5"], 4),
        Part("Memory errors", [*SANITIZER, "memcheck", *SAMPLES], 2),
        Part("Races", [*SANITIZER, "racecheck", *SAMPLES], 2),
        Part("The op beside its peers", [PYTHON, "benchmarks/op.py", *on], 2),
        Part("A training step of R50, float32", [*TRAIN, *on], 2),
        Part("A training step of R50, bfloat16", [*TRAIN, *on, "--amp", "bfloat16"], 2),
        Part("Whole models", [PYTHON, "benchmarks/models.py", *on], 2),
    ]


def facts() -> str:
    """The card, its driver, and the software."""
    if not torch.cuda.is_available():
        return f"no GPU, torch {torch.__version__}"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines() or ["unknown"]
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    return (
        f"{name} (compute capability {capability[0]}.{capability[1]}), driver {driver[0]}, "
        f"CUDA {torch.version.cuda}, torch {torch.__version__}, Python {sys.version.split()[0]}"
    )


def page(parts: list[Part]) -> str:
    lines = ["# On a GPU", "", f"`make gpu`, {date.today()}: {facts()}.", ""]
    lines += ["| part | result | s |", "| --- | --- | --- |"]
    lines += [f"| {part.title} | {part.result} | {part.seconds:.0f} |" for part in parts]
    return "\n".join(lines) + "\n\n" + "\n".join(part.report() for part in parts if part.output)


def main(argv: list[str] | None = None) -> int:
    """Run every part as ``argv`` (by default the command line) says; returns how many did not pass."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gpu.md", help="the page")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"torch {torch.__version__} finds no CUDA GPU here; --device cpu runs what a CPU can, "
            "with --out for a page of its own"
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    parts = all_parts(args.device)
    for part in parts:
        part.run()
        args.out.write_text(page(parts))
    print(f"\nwrote {args.out}")
    return sum(part.result != "passed" for part in parts)


if __name__ == "__main__":
    sys.exit(main())
