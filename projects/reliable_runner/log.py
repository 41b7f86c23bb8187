"""The log of mmengine: a warning, and silence."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from mmengine.logging import MMLogger


def warn(message: str) -> None:
    """Log a warning."""
    MMLogger.get_current_instance().warning(message)


@contextmanager
def quiet() -> Iterator[None]:
    """Within this errors alone are logged, and nothing is printed."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    # Its own method: what `logging.disable` does, mmengine's loggers remember for good.
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
