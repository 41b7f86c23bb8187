"""The error that a user can mend."""

from difflib import get_close_matches


class InputError(ValueError):
    """Bad input that a user can mend; the message, which the tools print alone, names it and what to do."""


class NonFiniteError(InputError):
    """A NaN step: a loss or gradients are NaN or infinite; the message names iteration, image and module."""


def first_line(error: Exception) -> str:
    """What ``error`` says, in one line; its type if it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


def did_you_mean(word: str, known) -> str:
    """``"; did you mean 'a' or 'b'?"`` with the names of ``known`` nearest to ``word``, or ``""``."""
    nearest = get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
