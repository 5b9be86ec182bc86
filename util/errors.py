"""The one exception that users are meant to read."""


class InputError(Exception):
    """Something that the user gave is wrong.

    The message says what was wrong, what was found, and what to do. Scripts print it without a traceback.
    """
