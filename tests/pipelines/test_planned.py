"""What is planned is what the settings of clips, orbits and video readers resolve to, without importing them."""

import pytest

from svd_core.cli.models import planned_of
from svd_core.networks.config import SVDConfig
from svd_core.networks.variants import NATIVE
from svd_core.pipelines.orbit import OrbitSettings
from svd_core.pipelines.planned import planned_clip
from svd_core.pipelines.settings import AnimateSettings, guidance_of
from svd_core.pipelines.video_depth import VideoDepthSettings


def config_of(variant: str) -> SVDConfig:
    frames, width, height = NATIVE[variant]
    return SVDConfig(variant=variant, frames=frames, width=width, height=height)


@pytest.mark.parametrize("variant", [name for name in NATIVE if "sv3d" not in name and "crafter" not in name])
@pytest.mark.parametrize("given", [{}, {"width": 256, "height": 192, "frames": 9, "steps": 7}], ids=["own", "given"])
def test_a_planned_clip_is_that_of_the_settings(variant: str, given: dict[str, int]) -> None:
    config = config_of(variant)
    settings = AnimateSettings(**given).resolve(config)
    clip = planned_clip(config, **given)
    expected = planned_of(settings)
    assert (clip.frames, clip.width, clip.height, clip.steps) == (
        expected.frames,
        expected.width,
        expected.height,
        expected.steps,
    )
    assert clip.guided == expected.guided == bool((guidance_of(settings) != 1).any())
    assert clip.schedule == settings.schedule and clip.reuse == expected.reuse


@pytest.mark.parametrize("variant", ["sv3d_u", "sv3d_p"])
def test_a_planned_orbit_is_square_and_has_the_steps_of_the_official_script(variant: str) -> None:
    config = config_of(variant)
    own = OrbitSettings().resolve(config)
    clip = planned_clip(config)
    assert (clip.width, clip.height, clip.frames, clip.steps) == (own.size, own.size, own.frames, own.steps)
    assert clip.guided
    assert (planned_clip(config, height=512).width, planned_clip(config, width=512).height) == (512, 512)
    for bad in ({"width": 512, "height": 576}, {"frames": 1001}, {"width": 4096}):
        with pytest.raises(ValueError, match="use"):
            planned_clip(config, **bad)


@pytest.mark.parametrize("variant", ["depthcrafter", "normalcrafter"])
def test_a_planned_reader_sees_one_window_without_guidance(variant: str) -> None:
    own = VideoDepthSettings().resolve(config_of(variant))
    clip = planned_clip(config_of(variant), steps=3)
    assert (clip.frames, clip.guided) == (own.window, False)
    assert clip.steps == (3 if variant == "depthcrafter" else 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"frames": 0}, r"frames must be 1 to 100000 .got 0.; use"),
        ({"steps": 10_001}, r"steps must be 1 to 10000 .got 10001.; use 20 to 30"),
        ({"width": 8}, r"width must be 16 to 16384 .got 8.; use"),
        ({"reuse": (0, 2)}, r"reuse interval must be 1 or more .got 0.; use 1"),
        ({"reuse": (2, 0)}, r"reuse depth must be 1 or more .* .got 0.; use 1"),
    ],
)
def test_numbers_out_of_range_are_refused(given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planned_clip(config_of("svd"), **given)
