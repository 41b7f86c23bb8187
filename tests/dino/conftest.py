"""The small models of the tests of the architecture."""

from ..deformable_detr.conftest import scope  # noqa: F401
