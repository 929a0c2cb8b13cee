"""Settings that every test shares: few threads, and random numbers that do not depend on the order of tests."""

import logging
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(min(4, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same global seed; code under test should use generators of its own."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_log_level() -> Iterator[None]:
    """Undo what a test of `--quiet` does to the log of the tests after it."""
    log = logging.getLogger("svd_reel")
    before = log.level
    yield
    log.setLevel(before)
