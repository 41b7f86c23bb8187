"""What is logged."""

import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """The warnings that are logged."""
    messages = []

    def keep(logger: MMLogger, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            messages.append(record.getMessage())

    monkeypatch.setattr(MMLogger, "handle", keep)
    return messages
