"""One child registry for each registry of mmdet.

A name is looked up here first, then in mmdet, then in mmengine, when a config says
``default_scope = 'projects.deformable_detr'``. Looking a name up imports what is registered here and
everything of mmdet that is registered in the same kind of registry.
"""

from difflib import get_close_matches

from mmdet import registry as mmdet_registry
from mmengine.registry import Registry as _Registry

SCOPE = "projects.deformable_detr"


class Registry(_Registry):
    """A registry that offers the nearest names when a name is unknown."""

    def get(self, key: str) -> type:
        """Return what is registered as ``key`` here or in a parent.

        Raises:
            KeyError: ``key`` is registered nowhere; the message offers the nearest names.
        """
        found = super().get(key)
        if found is None:
            raise KeyError(f"no {self.name} is registered as {key!r}{did_you_mean(key, self.names())}")
        return found

    def names(self) -> set[str]:
        """All names that `get` finds without a scope prefix."""
        self.import_from_location()
        names, registry = set(), self
        while registry is not None:
            names |= set(registry.module_dict)
            registry = registry.parent
        return names


def did_you_mean(word: str, known) -> str:
    """``"; did you mean 'a' or 'b'?"`` with the names of ``known`` nearest to ``word``, or ``""``."""
    nearest = get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""


def _child(parent: _Registry) -> Registry:
    locations = [SCOPE, *parent._locations]
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=locations)


RUNNERS = _child(mmdet_registry.RUNNERS)
RUNNER_CONSTRUCTORS = _child(mmdet_registry.RUNNER_CONSTRUCTORS)
LOOPS = _child(mmdet_registry.LOOPS)
HOOKS = _child(mmdet_registry.HOOKS)
DATASETS = _child(mmdet_registry.DATASETS)
DATA_SAMPLERS = _child(mmdet_registry.DATA_SAMPLERS)
TRANSFORMS = _child(mmdet_registry.TRANSFORMS)
MODELS = _child(mmdet_registry.MODELS)
MODEL_WRAPPERS = _child(mmdet_registry.MODEL_WRAPPERS)
WEIGHT_INITIALIZERS = _child(mmdet_registry.WEIGHT_INITIALIZERS)
OPTIMIZERS = _child(mmdet_registry.OPTIMIZERS)
OPTIM_WRAPPERS = _child(mmdet_registry.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmdet_registry.OPTIM_WRAPPER_CONSTRUCTORS)
PARAM_SCHEDULERS = _child(mmdet_registry.PARAM_SCHEDULERS)
METRICS = _child(mmdet_registry.METRICS)
EVALUATOR = _child(mmdet_registry.EVALUATOR)
TASK_UTILS = _child(mmdet_registry.TASK_UTILS)
VISUALIZERS = _child(mmdet_registry.VISUALIZERS)
VISBACKENDS = _child(mmdet_registry.VISBACKENDS)
LOG_PROCESSORS = _child(mmdet_registry.LOG_PROCESSORS)
