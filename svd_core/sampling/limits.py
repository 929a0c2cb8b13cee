"""Limits of sampling that are known without torch: the most steps, and the range of feature reuse."""

MAX_STEPS = 10000
"""More steps than this are a typing error, and would fill the memory."""

DEPTH = 2
"""Default pairs of blocks that run at every sigma when features are reused: the outermost two."""


def check_reuse(interval: int, depth: int = DEPTH) -> None:
    """Raise ValueError unless features can be reused at this interval and depth."""
    if interval < 1:
        raise ValueError(f"the reuse interval must be 1 or more (got {interval}); use 1 for off, 2 or 3")
    if depth < 1:
        raise ValueError(f"the reuse depth must be 1 or more pairs of blocks (got {depth}); use 1 to 4")
