"""The error that a user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input: a file, config key, image, annotation or checkpoint that a user can mend.

    The message names the thing and says what to do. The tools print it alone, without a traceback.
    """


class NonFiniteError(InputError):
    """The model predicts NaN or infinity; the message names iteration, image and layer."""


def first_line(error: Exception) -> str:
    """What ``error`` says, in one line; its type if it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


_noted: ContextVar[list[NonFiniteError] | None] = ContextVar("noted", default=None)


@contextmanager
def nonfinite_errors_noted(errors: list[NonFiniteError]) -> Iterator[None]:
    """Within this `report_nonfinite` appends to ``errors`` and raises nothing."""
    token = _noted.set(errors)
    try:
        yield
    finally:
        _noted.reset(token)


def report_nonfinite(error: NonFiniteError) -> None:
    """Raise ``error``, or note it where the one who trains wants to go on to the end of the step.

    A process of a distributed training that stopped in its forward pass would leave the others waiting.
    """
    errors = _noted.get()
    if errors is None:
        raise error
    errors.append(error)


def did_you_mean(word: str, known) -> str:
    """``"; did you mean 'a' or 'b'?"`` with the names of ``known`` nearest to ``word``, or ``""``."""
    nearest = get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
