"""The one error of this package, apart so that every module can raise it."""


class LoraError(ValueError):
    """A LoRA that cannot be used or saved; the message says why, with numbers, and what to do."""
