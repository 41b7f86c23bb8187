"""What is logged."""

from collections import defaultdict

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def logged(monkeypatch) -> dict[str, list[str]]:
    """What is logged, by its level."""
    messages = defaultdict(list)
    monkeypatch.setattr(
        MMLogger, "handle", lambda _, record: messages[record.levelname].append(record.getMessage())
    )
    return messages


@pytest.fixture
def warnings(logged) -> list[str]:
    """The warnings that are logged."""
    return logged["WARNING"]
