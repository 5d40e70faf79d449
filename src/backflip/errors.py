"""Exceptions that end a command, each with the exit code that it ends with. Imports nothing."""


class UserError(ValueError):
    """Something the user gave does not work: says what, where, what was seen and what to do.

    The command line prints the message without a traceback and leaves with exit code 2.
    """

    exit_code = 2


class Interrupted(Exception):  # noqa: N818 (not an error)
    """A signal came; everything is saved. The message says how to go on."""

    exit_code = 130


class WaitingForLabels(Exception):  # noqa: N818 (not an error)
    """People have not answered yet; everything is saved. The message says how to go on.

    The exit code is that of programs that are to be started once more later (EX_TEMPFAIL).
    """

    exit_code = 75


class RankError(RuntimeError):
    """One of several processes is gone or does not come; says which."""

    exit_code = 1


class NonFiniteError(RuntimeError):
    """Several steps in a row had gradients that are not numbers."""

    exit_code = 1
