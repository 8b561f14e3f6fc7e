"""UsageError: the command line itself is wrong (exit code 2)."""


class UsageError(Exception):
    """An argument cannot mean anything; its text is the one line that the user reads."""
