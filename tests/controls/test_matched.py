"""In-betweens of pictures of one scene: the motion between them is found, imposed, and refused where there is none."""

import logging

import pytest
import torch

from svd_core.controls.matched import MatchedBetween, match_pictures, matched_signal
from svd_core.networks.config import SVDConfig
from svd_core.networks.vae import LATENT_SCALE
from svd_core.pipelines.between import UNRELATED_EASE, between_inputs, make_keyframes
from svd_core.pipelines.settings import AnimateSettings
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas
from tests.helpers.motion_models import condition, obedient_model

SIDE, FRAMES = 96, 5


def scene(seed=1, x=0, y=0):
    """A window [1, 3, SIDE, SIDE] in -1..1 of a large smooth random scene, at (x, y) pixels."""
    coarse = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    whole = torch.nn.functional.interpolate(coarse, (160, 160), mode="bicubic", align_corners=False).clamp(-1, 1)
    return whole[..., 20 + y : 20 + y + SIDE, 20 + x : 20 + x + SIDE].contiguous()


def encode(picture):
    return torch.cat([picture, picture[:, :1]], 1)[..., 4::8, 4::8]


@pytest.mark.parametrize(("x", "y"), [(12, 0), (-8, 6)])
def test_frames_between_two_views_lie_on_the_way(x, y):
    match = match_pictures(scene(), scene(x=x, y=y))
    assert match.sure
    middle = match.frame(0.5)
    there = ((scene(x=x // 2, y=y // 2)[0].movedim(0, -1) + 1) / 2)[16:-16, 16:-16]
    error = (middle[16:-16, 16:-16] - there).abs().mean()
    mixed = ((match.pictures[0] + match.pictures[1]) / 2)[16:-16, 16:-16]
    assert error < 0.25 * (mixed - there).abs().mean(), "far nearer than a cross-fade"


def test_unrelated_pictures_do_not_match():
    assert match_pictures(scene(1), scene(2)).share < 0.1


def test_the_clip_meets_both_pictures_and_takes_one_pass_per_step():
    signal = matched_signal(encode, match_pictures(scene(), scene(x=12)), FRAMES)
    calls = []

    def model(x, sigma, given):
        calls.append(sigma)
        return obedient_model(x, sigma, given)

    noise = torch.randn(FRAMES, 4, 12, 12, generator=torch.Generator().manual_seed(3))
    given = condition(picture=encode(scene()) * LATENT_SCALE)
    clip = sample(model, noise, karras_sigmas(12), 1.0, given, controls=[MatchedBetween(signal)], control_scale=0.02)
    assert len(calls) < 12, "levels above the start are skipped"
    ends = torch.stack([encode(scene())[0], encode(scene(x=12))[0]]) * LATENT_SCALE
    assert (clip[[0, -1]] - ends).abs().mean() < 0.25 * ends.std(), "held by half below PIN_SIGMA"


class Encoder:
    """A model that only encodes."""

    config = SVDConfig(variant="nano", frames=FRAMES, width=SIDE, height=SIDE)
    device = torch.device("cpu")
    encode_image = staticmethod(lambda picture: picture.mean((1, 2, 3)).reshape(1, 1, 1))
    encode_latent = staticmethod(encode)
    embed_motion = staticmethod(lambda **numbers: torch.zeros(1, 3))


@pytest.mark.parametrize(("other", "matched"), [(scene(x=12), True), (scene(2), False)], ids=["one scene", "two"])
def test_pictures_that_do_not_match_are_blended_with_a_line_in_the_log(other, matched, caplog):
    settings = AnimateSettings(frames=FRAMES, width=SIDE, height=SIDE).resolve(Encoder.config)
    pictures = torch.cat([scene(), other])
    keyframes = make_keyframes(Encoder(), pictures, settings)
    with caplog.at_level(logging.INFO, "svd_reel"):
        (made,) = between_inputs(Encoder(), pictures, keyframes, FRAMES)
    assert (type(made.controls[-1]).__name__ == "MatchedBetween") == matched
    assert ("blends" in caplog.text) != matched
    assert matched or made.controls[-1].ease == UNRELATED_EASE
    with pytest.raises(ValueError, match="'magic' is unknown; use one of match, take turns, blend"):
        between_inputs(Encoder(), pictures, keyframes, FRAMES, mode="magic")


def toy(x):
    """A picture [1, 3, SIDE, SIDE] in -1..1 of a dark square at x pixels, before a pale ground."""
    picture = 0.7 + 0.3 * scene(4)
    picture[..., 30:54, x : x + 24] = 0.5 * scene(5)[..., 30:54, 30:54] - 0.5
    return picture


def test_an_object_that_goes_far_moves_as_a_layer():
    match = match_pictures(toy(6), toy(60))
    assert match.sure
    assert len(match.layers) == 2
    found = match.frame(0.5)[30:54, 33:57].mean()
    assert found < 0.5, (
        "half way it is nearer to the dark square (0.2) than to the ground, which a cross-fade shows (0.8)"
    )


def test_small_motion_needs_no_layers():
    assert match_pictures(toy(30), toy(34)).layers == ()
