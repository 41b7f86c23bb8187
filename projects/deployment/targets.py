"""What a detector can be exported to, and the packages that this needs."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from projects.reliable_runner.errors import InputError

SUFFIXES = dict(onnx=".onnx", openvino=".xml", pt2=".pt2")


def is_exported(path: str | Path) -> bool:
    return Path(path).suffix in SUFFIXES.values()


def needed(*packages: str) -> list[ModuleType]:
    """Import the packages of a target; `InputError` if one is not installed."""
    try:
        return [import_module(package) for package in packages]
    except ImportError as error:
        raise InputError(
            f"exported detectors of this kind want {', '.join(packages)}: pip install --no-deps -r "
            f"requirements.txt ({error})"
        ) from error


def module_of(path: str | Path) -> ModuleType:
    """The module with ``write`` and ``Session`` for a file of this name; `InputError` if there is none."""
    for target, suffix in SUFFIXES.items():
        if suffix == Path(path).suffix:
            return import_module(f"{__package__}.{target}_file")
    raise InputError(f"{path}: an exported file ends with {', '.join(SUFFIXES.values())}")
