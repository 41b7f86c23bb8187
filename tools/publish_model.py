"""Hand on a trained detector: its weights alone, or a folder for transformers; see docs/checkpoints.md.

python tools/publish_model.py configs/mine.py work_dirs/mine/epoch_75.pth --out published/mine.pth
python tools/publish_model.py configs/mine.py work_dirs/mine/epoch_75.pth --to-folder mine --to-hub owner/mine
"""

import hashlib
import io
import json
import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import safetensors.torch
import torch
from torch import nn

from projects.checkpoint_conversion.conversion import convert
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.atomic_file import write_atomically
from projects.reliable_runner.files.disk_space import check_writable
from projects.reliable_runner.inference import init_detector
from projects.reliable_runner.launcher import config_parser, run_tool
from tools.model_converters.hub_upload import upload
from tools.model_converters.model_card import model_card, read_results
from tools.model_converters.transformers_config import image_processor_config, model_config, variant_of

FORMATS = (".pth", ".safetensors")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    results = read_results(args.results) if args.results else None
    out = args.out
    if out and out.suffix not in FORMATS:
        if out.suffix and not out.is_dir():
            raise InputError(
                f"--out {out}: a file ends with {' or '.join(FORMATS)}; a folder with a dot in its name must "
                "be there already"
            )
        out = out / (Path(args.config).stem + args.format)
    if out:
        check_writable(out.parent, "folder of the weights", "--out")
    if args.to_folder:
        check_writable(args.to_folder, "folder for transformers", "--to-folder")

    detector = init_detector(args.config, args.checkpoint, "cpu", args.cfg_options)
    if args.to_folder:
        name = args.to_hub or args.to_folder.resolve().name
        files = transformers_files(detector)
        files["README.md"] = model_card(detector, name, results, args.license).encode()
    if out:
        print(f"weights, classes and config: {publish_weights(detector, out)}")
    if args.to_folder:
        for file, data in files.items():
            write_atomically(args.to_folder / file, data)
        print(f"for transformers: {args.to_folder}")
    if args.to_hub:
        print(f"uploaded to {upload(args.to_folder, files, args.to_hub, args.private)}")


def parse_args(argv: list[str] | None) -> Namespace:
    parser = config_parser("Hand on a trained detector.")
    parser.add_argument("checkpoint", help="checkpoint file")
    what = "write the weights alone: a folder, or a file whose name gets the first digits of its SHA-256"
    parser.add_argument("--out", type=Path, help=what)
    what = "of the file in a folder --out; by default .pth"
    parser.add_argument("--format", choices=FORMATS, default=".pth", help=what)
    parser.add_argument("--to-folder", type=Path, help="write a folder that transformers loads")
    parser.add_argument("--to-hub", metavar="OWNER/NAME", help="upload that folder to the Hugging Face hub")
    parser.add_argument("--private", action="store_true", help="a repository that is made there is private")
    parser.add_argument("--results", type=Path, help="JSON file of a test, for the model card")
    parser.add_argument("--license", help="licence of the weights, for the model card, e.g. apache-2.0")
    args = parser.parse_args(argv)
    if not (args.out or args.to_folder):
        parser.error("say what to write: --out, --to-folder or both")
    if args.to_hub and not args.to_folder:
        parser.error("--to-hub uploads the folder that --to-folder names")
    return args


def publish_weights(detector: nn.Module, path: Path) -> Path:
    """Write the weights of a detector with its classes and its config as text.

    Where a run has averaged its weights (``EMAHook``), the average is what a checkpoint has as ``state_dict``
    and what the detector has loaded; what was averaged stands under ``ema_state_dict`` and is left out.
    Returns ``path`` with the first 8 digits of the file's SHA-256 in its name.
    """
    weights = detector.state_dict()
    meta = dict(dataset_meta=detector.dataset_meta, cfg=detector.cfg.pretty_text)
    if settings := detector.cfg.get("weights_settings"):
        meta["cfg_options"] = dict(settings)
    if path.suffix == ".safetensors":  # it takes no two names of one tensor, and strings alone
        weights = {key: tensor.clone() for key, tensor in weights.items()}
        data = safetensors.torch.save(weights, {"meta": json.dumps(meta)})
    else:
        buffer = io.BytesIO()
        torch.save({"meta": meta, "state_dict": weights}, buffer)
        data = buffer.getvalue()
    path = path.with_name(f"{path.stem}-{hashlib.sha256(data).hexdigest()[:8]}{path.suffix}")
    write_atomically(path, data)
    return path


def transformers_files(detector: nn.Module) -> dict[str, bytes]:
    """The files from which ``from_pretrained`` of transformers builds an equal detector, by name.

    `InputError` names the key of the config for which transformers has no such model.
    """
    config, processor = model_config(detector), image_processor_config(detector)
    weights = detector.state_dict()  # denoising serves the training alone
    weights = {key: tensor for key, tensor in weights.items() if not key.startswith("dn_query_generator.")}
    try:
        weights, _ = convert(weights, "huggingface-resnet", "all", variant_of(detector))
    except ValueError as error:
        raise InputError(f"{detector.cfg.filename}: {error}") from error
    weights = {key: tensor for key, tensor in weights.items() if not key.endswith("num_batches_tracked")}
    return {
        "config.json": json.dumps(config, indent=2).encode(),
        "preprocessor_config.json": json.dumps(processor, indent=2).encode(),
        "model.safetensors": safetensors.torch.save(weights, {"format": "pt"}),
    }


if __name__ == "__main__":
    sys.exit(run_tool(main))
