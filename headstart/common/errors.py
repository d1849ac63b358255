"""The one exception that a user is meant to read."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message names the file, key or image, what was expected, what was received, and what to
    do. Stages and the command line print it on standard error, without a traceback, and exit
    with status 1.
    """
