"""Suppress stdout and log records below ERROR."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from mmengine.logging import MMLogger


@contextmanager
def quiet() -> Iterator[None]:
    """Errors alone are logged, and nothing is printed."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    # Its own method: what `logging.disable` does, mmengine's loggers remember for good.
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
