"""Models with published weights, by name: the table of model-index.yml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mmdet
import yaml

from ..errors import InputError, did_you_mean

_ROOT = Path(__file__).resolve().parents[3]
_MMDET = "mmdet::"  # before a config of the installed mmdet, as in `_base_`


@dataclass(frozen=True)
class PublishedModel:
    """A row of the table; AP in percent on COCO's val2017, as published."""

    name: str
    config: str
    weights: str
    sha256: str  # its first digits, "" if they are not published
    megabytes: int
    source: str
    license: str
    box_ap: float


@cache
def published_models() -> dict[str, PublishedModel]:
    """All rows, by name."""
    models = {}
    for row in yaml.safe_load((_ROOT / "model-index.yml").read_text(encoding="utf-8"))["Models"]:
        facts = row["Metadata"]
        models[row["Name"]] = PublishedModel(
            name=row["Name"],
            config=row["Config"],
            weights=row["Weights"],
            sha256=facts.get("SHA-256", ""),
            megabytes=facts["File Size (MB)"],
            source=facts["Source"],
            license=facts["License"],
            box_ap=row["Results"][0]["Metrics"]["box AP"],
        )
    return models


def find_model(name: str) -> PublishedModel:
    """The row of a name; `InputError` with the nearest names if there is none."""
    models = published_models()
    if name not in models:
        nearest = did_you_mean(name, models)
        raise InputError(f"{name}: no published model has this name{nearest or '; --list-models shows all'}")
    return models[name]


def config_path(config: str | Path) -> Path:
    """The file of a config: of a path, a model's name, or ``mmdet::`` and a path in the installed mmdet.

    What is none of them comes back as it is.
    """
    if Path(config).is_file():
        return Path(config)
    config = str(config)
    if config in published_models():
        config = published_models()[config].config
        if not config.startswith(_MMDET):
            return _ROOT / config
    if config.startswith(_MMDET):
        return Path(mmdet.__file__).parent / ".mim" / "configs" / config.removeprefix(_MMDET)
    return Path(config)


def table() -> str:
    """Markdown: a row for each model."""
    titles = "model", "AP", "MB", "config", "weights", "SHA-256", "source", "licence"
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for m in published_models().values():
        cells = m.name, m.box_ap, m.megabytes, m.config, m.weights, m.sha256 or "–", m.source, m.license
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
