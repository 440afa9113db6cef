"""Errors that are the user's to mend, in one line that says what would be right; and how a callback ends a training."""


class UserError(ValueError):
    """Printed by the command line as `error: …` with exit status 2, without a traceback."""


class StopTraining(Exception):
    """Raised by a callback of `dreamworld.train`: the training saves and ends as by SIGTERM. Its text is the reason."""


class CodeFailure(RuntimeError):
    """Code of the user failed: printed as `error: …` with exit status 1; the text holds that code's own traceback."""
