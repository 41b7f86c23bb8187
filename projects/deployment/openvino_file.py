"""A detector as OpenVINO's two files, .xml and .bin."""

from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import torch
from torch import Tensor

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.atomic_file import write_atomically

from . import onnx_file
from .description import Description
from .graph import OUTPUTS, DetectorGraph
from .targets import needed

_PLACE = "detector"  # of the texts in the file


def write(graph: DetectorGraph, path: Path, texts: dict[str, str], half: bool = False) -> None:
    """Write ``graph`` by way of ONNX, with ``texts`` in it; ``half`` stores the weights in float16."""
    (openvino,) = needed("openvino")
    with TemporaryDirectory() as folder:
        onnx_file.write(graph, Path(folder, "detector.onnx"), {})
        model = openvino.convert_model(Path(folder, "detector.onnx"))
        for key, value in texts.items():
            model.set_rt_info(value, [_PLACE, key])
        openvino.save_model(model, Path(folder, path.name), compress_to_fp16=half)
        for file in (path.with_suffix(".bin"), path):
            write_atomically(file, Path(folder, file.name).read_bytes())


class Session:
    """The files, ready to run on the CPU in float32, and ``texts``; `InputError` if they can't be read."""

    def __init__(self, path: Path) -> None:
        (openvino,) = needed("openvino")
        core = openvino.Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        try:
            model = core.read_model(path)
            self.compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            cause = str(error).strip().splitlines()[-1]  # below places in its own sources
            raise InputError(f"{path}: OpenVINO can't read it: {cause}") from error
        self.lock = Lock()  # there is one place for inputs and outputs
        places = {key: [_PLACE, key] for key in Description._fields}
        found = {key: place for key, place in places.items() if model.has_rt_info(place)}
        self.texts = {key: model.get_rt_info(place).astype(str) for key, place in found.items()}

    def __call__(self, image: Tensor, sizes: Tensor) -> list[Tensor]:
        with self.lock:
            outputs = self.compiled(dict(image=image.numpy(), sizes=sizes.numpy()))
            return [torch.from_numpy(outputs[name].copy()) for name in OUTPUTS]
