"""A detector in an ONNX file, run by onnxruntime."""

from pathlib import Path

import torch
from torch import Tensor

from projects.reliable_runner.errors import InputError, first_line
from projects.reliable_runner.files.atomic_file import write_atomically

from .graph import OPEN_SIZES, OUTPUTS, DetectorGraph
from .targets import needed


def write(graph: DetectorGraph, path: Path, texts: dict[str, str], half: bool = False) -> None:
    """Write ``graph``, its constants folded, with ``texts`` as metadata; in float32 alone."""
    needed("onnx", "onnxscript", "onnxruntime")
    program = torch.onnx.export(
        graph,
        graph.example(),
        dynamo=True,
        dynamic_shapes=OPEN_SIZES,
        input_names=list(OPEN_SIZES),
        output_names=OUTPUTS,
        verbose=False,
    )
    model = program.model_proto
    for key, value in texts.items():
        model.metadata_props.add(key=key, value=value)
    write_atomically(path, model.SerializeToString())


class Session:
    """The file, ready to run on the CPU, and its metadata, ``texts``; `InputError` if it can't be read."""

    def __init__(self, path: Path) -> None:
        (onnxruntime,) = needed("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except Exception as error:  # its own classes, which inherit from nothing else
            raise InputError(f"{path}: onnxruntime can't read it: {first_line(error)}") from error
        self.texts = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, image: Tensor, sizes: Tensor) -> list[Tensor]:
        outputs = self.session.run(OUTPUTS, dict(image=image.numpy(), sizes=sizes.numpy()))
        return list(map(torch.from_numpy, outputs))
