"""Which prediction answers for which object."""

from . import hungarian_assigner, match_costs  # noqa: F401
