"""Numbers on the command line, with their range in the error. Needs no torch."""

import argparse
import math


def memory_of(text: str) -> float:
    """Parse gigabytes of memory; ArgumentTypeError outside 0.01..4096."""
    return _number(text, 0.01, 4096.0, "memory in GB", 8)


def rate_of(text: str) -> float:
    """Parse a rate in TFLOP/s; ArgumentTypeError outside 1e-6..1e6."""
    return _number(text, 1e-6, 1e6, "a rate in TFLOP/s", 80)


def _number(text: str, least: float, most: float, what: str, usual: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(
            f"{what} must be {least:g} to {most:g} (got {text!r}); use {usual:g} for a start"
        )
    return number
