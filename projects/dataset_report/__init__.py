"""What is wrong with a data set, and what is in it, before a model is trained on it.

The checks are pure functions over a parsed COCO file; the data set, the training and the tool share them.
"""

from . import hook  # noqa: F401
