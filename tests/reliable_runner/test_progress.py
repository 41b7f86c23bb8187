"""Warnings and log lines stand on lines of their own beside a progress bar."""

import warnings

from mmengine.logging import MMLogger

from projects.reliable_runner.progress import progress


def test_nothing_is_written_into_the_bar(capfd):
    logger = MMLogger.get_instance("test_progress")
    with progress(3, "image", mininterval=0) as bar:
        bar.update()
        warnings.warn("a torn picture", stacklevel=1)
        logger.warning("a log line")
        bar.update(2)
    printed = capfd.readouterr()
    shown = [part for part in (printed.err + printed.out).replace("\r", "\n").split("\n") if part.strip()]
    assert "warning: a torn picture" in shown
    assert any(line.endswith("a log line") and "image/s" not in line for line in shown)
