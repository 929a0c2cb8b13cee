"""The report does not depend on how a clip, its mask or its start image lie in memory."""

import json
from types import SimpleNamespace

import pytest
import torch

from svd_core.report import measure
from svd_core.report.fidelity import change, contrast, psnr, sharpness, ssim
from tests.helpers.layouts import other_layouts
from tests.helpers.report_clips import moving

CLIP = moving(40, 56, pan=(1.5, -0.5), frames=3)
IMAGE = moving(70, 90, frames=1)
MASK = torch.rand(3, 20, 28, generator=torch.Generator().manual_seed(1))
MODEL = SimpleNamespace(encode_image=lambda image: image.mean((2, 3))[:, None] + image[:, :, :1, 0].movedim(1, 2))


def numbers(clip: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> dict:
    return json.loads(measure(clip, image=image, mask=mask, model=MODEL, seams=[1]).to_json())


@pytest.mark.parametrize("layout", other_layouts(CLIP))
def test_a_clip_in_other_strides_measures_the_same(layout: str):
    mask = other_layouts(MASK[..., None])["a part of a larger tensor"][..., 0]
    found = numbers(other_layouts(CLIP)[layout], other_layouts(IMAGE)[layout], mask)
    assert found == numbers(CLIP, IMAGE, MASK)


@pytest.mark.parametrize("layout", other_layouts(CLIP[0]))
def test_fidelity_in_other_strides_is_the_same(layout: str):
    first, second = CLIP[0], CLIP[1]
    view = other_layouts(first)[layout]
    for measured in (ssim, psnr, change):
        assert measured(view, second) == measured(first, second)
    for measured in (contrast, sharpness):
        assert measured(view) == measured(first)
