"""Patches of a MODEL act on our UNet as on the host's own SVD network with the same weights."""

import pytest

from tests.host.inside_hooks import ROWS
from tests.host.test_inside import measured  # noqa: F401  a fixture

# Float32 rounding in another order, amplified by some patches; the unpatched networks differ by about 1e-5.
LIMIT = 1e-4


def test_without_patches_the_networks_agree(measured):  # noqa: F811
    assert measured["hooks"]["unpatched"][1] < LIMIT
    assert measured["hooks after"] < LIMIT, "a patched pass leaves nothing behind"


@pytest.mark.parametrize("row", ROWS)
def test_a_patch_has_the_effect_that_it_has_on_the_hosts_network(measured, row):  # noqa: F811
    effect, difference = measured["hooks"][row]
    assert effect > 1e-3, "the row tests nothing"
    assert difference < LIMIT
