"""Errors that are the user's to mend: one line that says what was wrong, where, and what would be right."""


class UserError(ValueError):
    """Printed by the command line as `error: …` with exit status 2, without a traceback."""


class CodeFailure(RuntimeError):
    """Code of the user failed: printed as `error: …` with exit status 1; the text holds that code's own traceback."""
