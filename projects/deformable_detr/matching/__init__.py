"""Which prediction answers for which object."""

from . import assigner, costs  # noqa: F401
