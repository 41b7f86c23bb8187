"""The error that a user can mend."""


class InputError(ValueError):
    """Bad input: a file, config key, image, annotation or checkpoint that a user can mend.

    The message names the thing and says what to do. The tools print it alone, without a traceback.
    """


class NonFiniteError(InputError):
    """The model predicts NaN or infinity; the message names iteration, image and layer."""
