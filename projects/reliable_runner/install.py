"""What this package puts in place of mmengine's and mmdet's own."""

from functools import wraps

from matplotlib.text import Text
from mmdet import registry as mmdet_registry
from mmengine import registry
from mmengine.dataset import BaseDataset
from mmengine.fileio import register_backend, register_handler
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner._flexible_runner import FlexibleRunner

from ms_deform_attn.compat.mmcv_ops import use_in_mmcv

from .checks.build_errors import explain_errors
from .checks.class_names import ClassCheckHook
from .checks.weights import CheckpointCheckHook
from .data import coco_dataset, detr_resize, image_loading, preprocessor, sampler, seeded_items, step_errors
from .drawing import DetVisualizationHook, set_readable
from .files import pretrained
from .files.atomic_file import AtomicLocalBackend
from .files.data_file import SafePickleHandler, SafeYamlHandler
from .metric.coco_metric import CocoMetric
from .training import (
    checkpoint_hook,
    compilation,
    finite_assigner,
    fsdp,
    hints,
    log_processor,
    loops,
    optim_wrapper,
    rehearsal,
    resumed_settings,
    seeding,
    val_loss,
)

_DEFAULT_HOOKS = dict(
    epoch_seed=dict(type=seeding.EpochSeedHook),
    class_check=dict(type=ClassCheckHook),
    checkpoint_check=dict(type=CheckpointCheckHook),
    rehearsal=dict(type=rehearsal.RehearsalHook),
    resumed_settings=dict(type=resumed_settings.ResumedSettingsHook),
    hints=dict(type=hints.HintHook),
)
_MODULES = {
    registry.LOOPS: (loops.EpochBasedTrainLoop, loops.IterBasedTrainLoop, loops.ValLoop),
    registry.HOOKS: (
        *(checkpoint_hook.CheckpointHook, checkpoint_hook.EarlyStoppingHook, val_loss.ValLossHook),
        *(hook["type"] for hook in _DEFAULT_HOOKS.values()),
    ),
    registry.OPTIM_WRAPPERS: (optim_wrapper.OptimWrapper, optim_wrapper.AmpOptimWrapper),
    registry.OPTIM_WRAPPER_CONSTRUCTORS: (optim_wrapper.GroupedOptimWrapperConstructor,),
    registry.LOG_PROCESSORS: (log_processor.LogProcessor,),
    registry.STRATEGIES: (fsdp.FSDPStrategy,),
    registry.DATA_SAMPLERS: (sampler.DefaultSampler, sampler.InfiniteSampler),
    registry.TRANSFORMS: (image_loading.LoadImageFromFile, detr_resize.DETRResize),
    registry.DATASETS: (seeded_items.RepeatDataset, seeded_items.ClassBalancedDataset),
    mmdet_registry.DATASETS: (
        coco_dataset.CocoDataset,
        seeded_items.ConcatDataset,
        seeded_items.MultiImageMixDataset,
    ),
    mmdet_registry.HOOKS: (DetVisualizationHook,),
    mmdet_registry.METRICS: (CocoMetric,),
    mmdet_registry.MODELS: (preprocessor.DetDataPreprocessor,),
    mmdet_registry.TASK_UTILS: (finite_assigner.HungarianAssigner,),
}
_LOADERS = {
    "": pretrained.load_from_local,
    ("http://", "https://"): pretrained.load_from_http,
    "hf://": pretrained.load_from_hub,
    ("modelzoo://", "torchvision://"): pretrained.load_from_torchvision,
    ("open-mmlab://", "openmmlab://"): pretrained.load_from_openmmlab,
    ("pavi://", "mmcls://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://"): pretrained.refuse_other_stores,
}


def install() -> None:
    """Replace parts of mmengine and mmdet in this process, for configs of every scope; once is enough.

    By name in their registries, each by a class here that inherits from it:

    - loops ``EpochBasedTrainLoop`` and ``IterBasedTrainLoop``: complete steps, exact gradient accumulation,
      NaN steps reported with image and module; ``ValLoop``: if it fails, the weights are saved first;
    - ``OptimWrapper`` and ``AmpOptimWrapper``: no step with NaN gradients; bfloat16 on a CPU;
    - hooks ``CheckpointHook`` and ``EarlyStoppingHook``: a kill at any instant loses nothing;
    - ``LogProcessor``: memory on a CPU too; ``FSDPStrategy``: torch's ``fully_shard()``;
    - ``DefaultSampler`` and ``InfiniteSampler``, ``CocoDataset``, ``ConcatDataset``, ``RepeatDataset``,
      ``ClassBalancedDataset`` and ``MultiImageMixDataset``: random numbers of an image depend on seed, epoch
      and image alone; annotations are checked;
    - ``LoadImageFromFile``: a damaged image is an error, any depth and number of channels can be read;
      ``DetDataPreprocessor``: any number of channels; ``DetVisualizationHook``: draws them;
    - ``CocoMetric``: NaN is no match;
    - ``HungarianAssigner`` of mmdet: NaN predictions end in a NaN loss instead of an error of SciPy.

    New names: hooks ``EpochSeedHook``, ``ClassCheckHook``, ``CheckpointCheckHook``, ``RehearsalHook``,
    ``ResumedSettingsHook``, ``HintHook`` and ``ValLossHook``, ``DETRResize`` and
    ``GroupedOptimWrapperConstructor``.
    The first six are default hooks of every run. None for its key (epoch_seed, class_check, checkpoint_check,
    rehearsal, resumed_settings, hints) in default_hooks leaves one out.

    Wrapped are:

    - ``Runner.register_default_hooks`` and ``FlexibleRunner.register_default_hooks``: for these hooks;
    - ``Registry.build``: what it can't build is an error with the nearest names (`explain_errors`);
    - ``BaseDataset.prepare_data``: an error of a pipeline step names step and image;
    - ``Text.set_text`` of Matplotlib: class names in scripts that its font lacks are transliterated;
    - ``Runner._maybe_compile``: the config key compile serves networks, not the whole step.

    mmcv's ``MultiScaleDeformableAttention`` runs on our op.

    Of mmengine's files: the backend ``local`` for writing (a rename at the end); the handlers of ``pkl``,
    ``pickle``, ``yaml`` and ``yml`` (plain values alone); the checkpoint loaders of local files and of
    ``http://``, ``https://``, ``hf://``, ``modelzoo://``, ``torchvision://``, ``open-mmlab://`` and
    ``openmmlab://`` (``weights_only=True``; names of published models; weights of other code bases are
    converted). Those of ``pavi://``, ``mmcls://``, ``s3://`` and ``petrel://`` refuse.
    """
    for kind, classes in _MODULES.items():
        for cls in classes:
            kind.register_module(module=cls, force=True)
    use_in_mmcv()
    for cls, name, wrap in (
        (registry.Registry, "build", explain_errors),
        (BaseDataset, "prepare_data", step_errors.name_steps),
        (Text, "set_text", set_readable),
        (Runner, "_maybe_compile", compilation.compile_by_config),
        (Runner, "register_default_hooks", _with_default_hooks),
        (FlexibleRunner, "register_default_hooks", _with_default_hooks),
    ):
        if not hasattr(method := getattr(cls, name), "__wrapped__"):
            setattr(cls, name, wrap(method))
    register_backend("local", AtomicLocalBackend, force=True, prefixes="")
    register_handler(["pkl", "pickle"])(SafePickleHandler)
    register_handler(["yaml", "yml"])(SafeYamlHandler)
    for prefixes, loader in _LOADERS.items():
        CheckpointLoader.register_scheme(prefixes=prefixes, loader=loader, force=True)


def _with_default_hooks(register):
    @wraps(register)
    def register_default_hooks(self, hooks: dict | None = None) -> None:
        hooks = {**_DEFAULT_HOOKS, **(hooks or {})}
        register(self, {name: hook for name, hook in hooks.items() if hook or name not in _DEFAULT_HOOKS})

    return register_default_hooks
