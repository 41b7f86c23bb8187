"""What is wrong with a data set, and what is in it, before a model is trained on it."""

from . import hook  # noqa: F401
