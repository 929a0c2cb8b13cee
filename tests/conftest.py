"""Settings that every test shares: few threads, and random numbers that do not depend on the order of tests."""

import pytest
import torch

torch.set_num_threads(min(4, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same global seed; code under test should use generators of its own."""
    torch.manual_seed(0)
