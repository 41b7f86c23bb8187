"""What the model is fed."""

from . import dataset, sampler, seeded_items, transforms  # noqa: F401
