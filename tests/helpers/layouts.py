"""Tensors of equal values at other places in memory: what a stage gives must not depend on the strides of its input."""

import torch
from torch import Tensor


def other_layouts(frames: Tensor) -> dict[str, Tensor]:
    """Return `frames` [..., H, W, C] as views with other strides, by name; grey ones have one view less."""
    *_, height, width, channels = frames.shape
    wide = frames.new_zeros(*frames.shape[:-3], height + 2, 2 * width, channels + 1)
    part = wide[..., 1 : height + 1, ::2, :channels]
    part.copy_(frames)
    layouts = {
        "a view of planes [C, H, W]": frames.movedim(-1, -3).contiguous().movedim(-3, -1),
        "a view of columns [W, H, C]": frames.transpose(-3, -2).contiguous().transpose(-3, -2),
        "a part of a larger tensor": part,
    }
    assert all(torch.equal(view, frames) for view in layouts.values())
    return {name: view for name, view in layouts.items() if view.stride() != frames.stride()}
