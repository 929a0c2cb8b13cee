"""The one error of this package, apart so that every module can raise it."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why, with numbers, and what to do."""
