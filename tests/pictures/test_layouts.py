"""Public functions for pictures use one memory layout: inputs in other strides give the same bits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from svd_core.pictures import as_batch, check_image, composite, fit
from svd_core.pictures.colours import METHODS, match_colours
from svd_core.pictures.reading import lay_out
from tests.helpers.layouts import other_layouts


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(7))


def fitted(mode: str) -> Callable[[Tensor], Tensor]:
    return lambda image: fit(image.movedim(-1, 1), 56, 40, mode)[0].movedim(1, -1)


def matched(method: str) -> Callable[[Tensor], Tensor]:
    return lambda frames: match_colours(frames, frames[-1:], method=method, smoothing=0.5)


# Each row: what is called, and the image [B, H, W, C] that it gets; the result is [B, h, w, c] too.
ENTRANCES = {
    "check_image": (check_image, noise(2, 30, 44, 3)),
    "composite": (composite, noise(2, 30, 44, 4)),
    "composite grey": (composite, noise(2, 30, 44, 1)),
    "as_batch": (lambda image: as_batch(image).movedim(1, -1), noise(2, 30, 44, 3)),
    "as_batch of planes": (lambda image: as_batch(image.movedim(-1, 1) * 2 - 1).movedim(1, -1), noise(2, 30, 44, 3)),
    **{f"fit {mode}": (fitted(mode), noise(2, 30, 44, 3)) for mode in ("crop", "pad", "stretch")},
    **{f"fit {mode} of a mask": (fitted(mode), noise(2, 30, 44, 1)) for mode in ("crop", "pad", "stretch")},
    **{f"match_colours by {method}": (matched(method), noise(3, 30, 44, 3)) for method in METHODS},
}


@pytest.mark.parametrize("name", ENTRANCES)
def test_other_strides_give_the_same_bits_in_the_same_layout(name: str):
    entrance, image = ENTRANCES[name]
    expected = entrance(image)
    for layout, view in other_layouts(image).items():
        found = entrance(view)
        assert torch.equal(found, expected), layout
        assert found.stride() == expected.stride(), layout


def test_the_layout_is_standard_even_where_an_axis_has_length_1_and_costs_no_copy():
    odd = torch.zeros(1, 4, 6, 3).movedim(-1, 1).contiguous().movedim(1, -1)[..., :1]
    assert lay_out(odd).stride() == (24, 6, 1, 1)
    whole = torch.zeros(2, 4, 6, 3)
    assert lay_out(whole).data_ptr() == whole.data_ptr()
