"""The one exception that a user is meant to read."""


class InputError(ValueError):
    """One line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with status 2.
    """
