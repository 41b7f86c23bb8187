"""Which prediction answers for which object."""

from . import finite_hungarian_assigner, hungarian_assigner, match_costs  # noqa: F401
