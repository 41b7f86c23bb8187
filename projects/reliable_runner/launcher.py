"""What the tools share: their arguments, reading a config, and starting a Runner, distributed or not."""

import ast
import gc
import inspect
import os
import re
import sys
import traceback
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from io import TextIOWrapper
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader, Runner
from mmengine.structures import BaseDataElement
from torch.utils._pytree import tree_map

from projects.fast_cpu import keep_memory, speed_up

from .checks.compiled_ops import check_compiled_ops
from .config import read_files
from .data.workers import explain_death
from .errors import InputError, did_you_mean
from .files.disk_space import check_writable
from .files.model_index import config_path, published_models
from .run_state import bare_model

# Where a value of a wrong type is noticed.
_BUILDERS = (
    r"mmengine\.(runner|optim|hooks|logging|visualization)|torch\.optim|mmdet\.evaluation"
    r"|torch\.(utils\.data\.(dataloader|sampler)|nn\.utils\.clip_grad)"
    r"|projects\.reliable_runner\.training\.optim_wrapper"
)

_SPACE = "\0"  # no argument of a process has it
_OF_IMAGES = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")  # what is read of a sample


def add_common_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that training and testing share, as in MMDetection."""
    parser.add_argument("--work-dir", help="folder for logs and results (work_dirs/<config name>)")
    add_cfg_options(parser)
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="what has started the processes; tools/dist_*.sh say pytorch",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help="set by launchers")


def config_parser(description: str) -> ArgumentParser:
    """A parser of a config and ``--cfg-options``, which `parse_config` wants."""
    parser = ArgumentParser(description=description)
    parser.add_argument("config", help="config file")
    add_cfg_options(parser)
    return parser


def add_cfg_options(parser: ArgumentParser) -> None:
    """Add ``--cfg-options``, which `parse_config` wants."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=_Options,
        default={},
        metavar="KEY=VALUE",
        help="override settings of the config, e.g. model.num_queries=100 or key='[a,b]'",
    )


class _Options(DictAction):
    """mmengine's action, with its complaints as argparse gives them; names keep their spaces."""

    @staticmethod
    def _parse_iterable(val: str) -> object:
        if "'" in val or '"' in val:
            with suppress(SyntaxError, ValueError):
                quoted = ast.literal_eval(val)
                if not isinstance(quoted, str):
                    return quoted
                if not quoted.startswith(("[", "(")):
                    return DictAction._parse_int_float_bool(quoted)
        # mmengine takes out spaces; those inside a name are another character on the way.
        kept = re.sub(r"(?<=[^\s,(\[]) +(?=[^\s,)\]])", lambda spaces: _SPACE * len(spaces[0]), val)
        values = DictAction._parse_iterable(kept)
        return tree_map(lambda x: x.replace(_SPACE, " ") if isinstance(x, str) else x, values)

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: list[str], *args) -> None:
        for option in values:
            try:
                super().__call__(parser, namespace, [option], *args)
            except (AssertionError, ValueError, RecursionError):
                parser.error(f"{option!r} is not of the form KEY=VALUE, with its brackets in pairs")


def positive_int(text: str) -> int:
    """An argument that must be 1 or more, for argparse's ``type``."""
    if not text.isdigit() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is no positive integer")
    return int(text)


def read_config(args: Namespace) -> Config:
    """`parse_config`, and set ``launcher`` and ``work_dir``, which is ``work_dirs/<config name>`` by default.

    `InputError` if the work_dir can't be written, too.
    """
    cfg = parse_config(args)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs", Path(args.config).stem))
    check_writable(Path(cfg.work_dir), "work_dir", "--work-dir")
    return cfg


def parse_config(args: Namespace) -> Config:
    """Read ``args.config``, a file or what `config_path` takes, and merge ``args.cfg_options``.

    The option ``data_root`` moves every path that begins with the config's own ``data_root``. `InputError` if
    the config can't be read or names what does not exist, or an option does not fit it.
    """
    path = config_path(args.config)
    if not path.is_file():
        nearest = did_you_mean(str(args.config), published_models())
        raise InputError(f"{args.config}: there is no such config file{nearest}")
    options = dict(args.cfg_options)
    data_root = options.pop("data_root", None)
    try:
        cfg = read_files(path, options)
    except InputError:
        raise
    except Exception as error:  # a config is a program: it may raise anything
        message = error.msg if isinstance(error, SyntaxError) else error
        if isinstance(cause := error.__cause__, ImportError):  # mmengine adds all of sys.path
            hint = "a module of your own wants its folder in PYTHONPATH"
            message = f"custom_imports: {cause} ({cause.__context__}); {hint}"
        raise InputError(f"{_place(error, str(path))}: {type(error).__name__}: {message}") from error
    if data_root is not None:
        _move_data(cfg, str(data_root))
    return cfg


def load_from(cfg: Config, checkpoint: str, options: dict) -> None:
    """Let a run load a checkpoint: a file, an address or the name of a published model.

    Weights of other code bases want some settings, see `take_settings`. `InputError` if it can't be read.
    """
    cfg.load_from = checkpoint
    meta = CheckpointLoader.load_checkpoint(checkpoint, map_location="cpu").get("meta", {})
    take_settings(cfg, meta, options)


def take_settings(cfg: Config, meta: dict, options: dict) -> None:
    """Give a config what converted weights want of it (the neck's biases, say), but for what ``options`` set.

    It stands under ``weights_settings``, too: the weights that are trained from them want the same.
    """
    if settings := {key: value for key, value in meta.get("cfg_options", {}).items() if key not in options}:
        cfg.merge_from_dict(settings)
        cfg.weights_settings = settings


def _place(error: Exception, file: str) -> str:
    """Which file of the inheritance chain raised ``error``, with the line where one is known."""
    line, module = getattr(error, "lineno", None), getattr(error, "filename", None)
    if line and module and Path(module).is_file():  # that a config imports
        return f"{module}, line {line}"
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__") == Config.__module__:
            file = frame.f_locals.get("filename", file)
        elif frame.f_code.co_filename == file:
            line = lineno
    return f"{file}, line {line}" if line else file


def _move_data(cfg: Config, new_root: str) -> None:
    """Replace ``cfg.data_root`` wherever a path begins with it."""
    old_root = cfg.get("data_root", new_root)

    def moved(value):
        if isinstance(value, str) and value.startswith(old_root):
            return str(Path(new_root, value[len(old_root) :])) + "/" * value.endswith("/")
        if isinstance(value, dict):
            for key in value:
                value[key] = moved(value[key])
        if isinstance(value, (list, tuple)):
            return type(value)(map(moved, value))
        return value

    for key in list(cfg):
        cfg[key] = moved(cfg[key])


def build_runner(cfg: Config, local_rank: int = 0) -> Runner:
    """Build the Runner, after joining the other processes where a launcher has started several.

    `InputError` if the launcher is not the one that has started this process, or needs GPUs, or the model
    needs an op of mmcv that is not installed.
    """
    os.environ.setdefault("LOCAL_RANK", str(local_rank))
    if cfg.get("randomness", {}).get("deterministic"):
        # cuBLAS reads it when CUDA starts, and torch refuses to multiply matrices without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if cfg.launcher == "pytorch" and "RANK" not in os.environ:
        raise InputError("--launcher pytorch wants torchrun: start it with tools/dist_train.sh")
    if cfg.launcher != "none" and not torch.cuda.is_available():
        _join_on_cpu(cfg)
    if "runner_type" in cfg:
        return RUNNERS.build(cfg)
    runner = Runner.from_cfg(cfg)
    model = bare_model(runner)
    check_compiled_ops(model, cfg.filename)
    if not torch.cuda.is_available():
        keep_memory()
        speed_up(model)
    return runner


def _join_on_cpu(cfg: Config) -> None:
    """Join the processes with gloo: by itself mmengine joins and wraps on CUDA devices alone."""
    if cfg.launcher != "pytorch":
        raise InputError(f"--launcher {cfg.launcher} needs GPUs; without any use tools/dist_train.sh")
    torch.distributed.init_process_group("gloo")
    wrapper = dict(
        type="MMDistributedDataParallel",
        broadcast_buffers=False,
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    cfg.model_wrapper_cfg = dict(cfg.get("model_wrapper_cfg") or wrapper, device_ids=None)


def run_tool(main: Callable[[], None]) -> int:
    """Call ``main`` and return the exit status: 1 for a mistake or a dead data worker, 130 for Ctrl-C."""
    if isinstance(sys.stdout, TextIOWrapper):  # a caller may have put another stream there
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may have what the terminal lacks
    try:
        main()
    except Exception as error:
        if not (message := _explanation(error)):
            raise
        print(f"error: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; a training resumes from its last checkpoint with --resume", file=sys.stderr)
        return 130
    finally:
        # Data workers of a failed run would be reported at any later moment, and a wrapped model that
        # outlives the process group can, with gloo, wait for it for ever.
        gc.collect()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def _explanation(error: Exception) -> str | None:
    """What a user can mend; None of a fault in the code, which keeps its traceback."""
    match error:
        case InputError():
            # A data worker's error arrives with the worker's traceback before the message.
            return str(error).rsplit("InputError: ", 1)[-1].strip()
        case AttributeError(name=key, obj=BaseDataElement()) | KeyError(args=(key,)) if key in _OF_IMAGES:
            return f"an image comes without its {key!r}, which meta_keys of PackDetInputs must name"
        case TypeError() | ValueError() | KeyError() | AssertionError() | ImportError():
            frames = [
                frame
                for frame, _ in traceback.walk_tb(error.__traceback__)
                if frame.f_globals["__name__"].partition(".")[0] not in sys.stdlib_module_names
            ]
            if re.match(_BUILDERS, frames[-1].f_globals["__name__"]):
                owners = (frame.f_locals.get("self") for frame in reversed(frames))
                builder = next((type(owner).__name__ for owner in owners if owner is not None), "run")
                text = f"{error}{_nearest_keyword(str(error), frames[-1].f_globals)}"
                return f"the config does not fit what builds the {builder}: {text}"
        case RuntimeError() | ConnectionError() | EOFError():
            return explain_death(error)
    return None


def _nearest_keyword(message: str, names: dict) -> str:
    """What may be meant by a keyword that a function of ``names`` does not take."""
    if not (found := re.match(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'", message)):
        return ""
    try:
        function = reduce(getattr, found[1].split("."), SimpleNamespace(**names))
    except AttributeError:
        return ""
    return did_you_mean(found[2], inspect.signature(function).parameters)
