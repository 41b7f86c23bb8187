"""A detector compiled by AOTInductor, in a package that needs torch and the op."""

import logging
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

import ms_deform_attn  # noqa: F401, which registers the op
from projects.reliable_runner.errors import InputError, first_line
from projects.reliable_runner.files.atomic_file import write_atomically

from .graph import OPEN_SIZES, DetectorGraph


def write(graph: DetectorGraph, path: Path, texts: dict[str, str], half: bool = False) -> None:
    """Compile ``graph`` for this machine's CPU, with ``texts`` as metadata; in float32 alone."""
    if not shutil.which(compiler := os.environ.get("CXX", "g++")):
        raise InputError(f"--to pt2 needs a C++ compiler, and there is no {compiler}: install it or set CXX")
    with TemporaryDirectory() as folder, torch.no_grad():  # without which nothing is frozen
        program = torch.export.export(graph, graph.example(), dynamic_shapes=OPEN_SIZES)
        package = torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(Path(folder, "detector.pt2")),
            inductor_configs={
                "aot_inductor.metadata": texts,
                # As many threads as the process that runs it has, not as this one.
                "cpp.dynamic_threads": True,
                # Weights in oneDNN's order. The layouts that come with it end in an AssertionError where the
                # number of queries is the least of two sizes (torch 2.13).
                "freezing": True,
                "layout_optimization": False,
            },
        )
        write_atomically(path, Path(package).read_bytes())


class Session:
    """The package, ready to run on the CPU, and its metadata, ``texts``; `InputError` if it can't be read."""

    def __init__(self, path: Path) -> None:
        # It calls every file that it can't read outdated, and warns.
        logging.getLogger("torch._inductor.package.package").setLevel(logging.ERROR)
        try:
            self.model = torch._inductor.aoti_load_package(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: torch can't read it: {first_line(error)}") from error
        self.texts = self.model.get_metadata()

    def __call__(self, image: Tensor, sizes: Tensor) -> list[Tensor]:
        return list(self.model(image, sizes))
