"""The one exception for what a user can put right."""


class UserError(ValueError):
    """Something the user gave does not work: says what, where, what was seen and what to do.

    The command line prints the message without a traceback and leaves with exit code 2.
    """
