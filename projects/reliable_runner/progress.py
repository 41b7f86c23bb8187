"""A progress bar that warnings and log lines do not tear apart."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


@contextmanager
def progress(total: int, unit: str, **kwargs) -> Iterator[tqdm]:
    """A bar of ``total`` units; while it is there warnings and log lines are written above it."""

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        bar.write(f"warning: {message}", file=sys.stderr)

    loggers = [logging.getLogger(), MMLogger.get_current_instance()]
    with (
        tqdm(total=total, unit=unit, **kwargs) as bar,
        logging_redirect_tqdm(loggers),
        warnings.catch_warnings(),
    ):
        warnings.showwarning = show
        yield bar
