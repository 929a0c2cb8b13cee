"""animate: settings per variant, the order of the stages, batches, progress, errors and warnings."""

import logging
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import svd_core
from svd_core.model.conditioning import augmentation_noise, clip_pixels, motion_vector
from svd_core.networks.config import CoderConfig, ImageEncoderConfig, SVDConfig, UNetConfig, VAEConfig
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE
from svd_core.pipelines.clip import animate
from svd_core.pipelines.settings import AnimateSettings, off_distribution
from svd_core.sampling.denoiser import denoise_with
from svd_core.sampling.noise import start_noise

SMALL = SVDConfig(variant="nano", frames=3, width=64, height=48)
FAST = AnimateSettings(steps=3, max_guidance=2.0)


class FakeModel:
    """A model in closed form, in which every input of the real one shows in the result."""

    device = torch.device("cpu")

    def __init__(self, config=SMALL):
        self.config = config
        self.evaluations = 0

    def encode_image(self, image):
        return clip_pixels(image, 28).mean((2, 3))[:, None]

    def encode_latent(self, image):
        return F.pad(F.avg_pool2d(image, 8), (0, 0, 0, 0, 0, 1))  # [B, 4, h, w]

    def embed_motion(self, **scalars):
        return motion_vector(**scalars)

    def network(self, x, c_noise, context, vector, num_frames):
        self.evaluations += 1
        frame = torch.arange(num_frames) / 10
        rows = context.mean((1, 2)) + vector.mean(1) + c_noise + frame
        return 0.3 * x[:, :4] - 0.5 * x[:, 4:] + 0.1 * rows.reshape(-1, 1, 1, 1)

    def denoise(self, x, sigma, condition):
        return denoise_with(self.network, x, sigma, condition)

    def decode(self, latent, plan="exact", *, memory_limit=None, on_progress=None):
        for i in range(len(latent)):
            if on_progress is not None:
                on_progress(i + 1, len(latent))
        return F.interpolate(latent[:, :3], scale_factor=8)


def picture(height=48, width=64, seed=0):
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


DEFAULTS = [
    ("svd", 14, {"steps": 25, "min_guidance": 1.0, "max_guidance": 2.5}),
    ("svd_xt", 25, {"steps": 30, "min_guidance": 1.5, "max_guidance": 3.0}),
    ("svd_xt_1_1", 25, {"steps": 30, "min_guidance": 1.5, "max_guidance": 3.0}),
    ("nano", 8, {"steps": 20, "min_guidance": 1.0, "max_guidance": 1.0}),
    ("custom", 14, {"steps": 25, "min_guidance": 1.0, "max_guidance": 2.5}),
    ("custom", 25, {"steps": 30, "min_guidance": 1.5, "max_guidance": 3.0}),
]


@pytest.mark.parametrize(("variant", "frames", "expected"), DEFAULTS, ids=[f"{d[0]}-{d[1]}" for d in DEFAULTS])
def test_defaults_follow_the_variant(variant, frames, expected):
    got = AnimateSettings().resolve(SVDConfig(variant=variant, frames=frames))
    common = {"motion_bucket": 127, "fps": 7, "augmentation": 0.02, "seed": 23, "solver": "euler", "decode": "exact"}
    size = {"width": 1024, "height": 576, "frames": frames}
    for name, value in (expected | common | size).items():
        assert getattr(got, name) == value, name


def test_given_settings_win_and_none_always_means_the_default():
    config = SVDConfig(variant="svd_xt", frames=25)
    got = AnimateSettings(steps=7, frames=10, fps=None, decode=None).resolve(config)
    assert (got.steps, got.frames, got.fps, got.decode) == (7, 10, 7, "exact")


@pytest.mark.parametrize(
    ("given", "ends"),
    [({"max_guidance": 1.0}, (1.0, 1.0)), ({"min_guidance": 4.0}, (4.0, 4.0)), ({"max_guidance": 4.0}, (1.5, 4.0))],
)
def test_the_default_of_one_end_of_guidance_yields_to_the_other(given, ends):
    got = AnimateSettings(**given).resolve(SVDConfig(variant="svd_xt", frames=25))
    assert (got.min_guidance, got.max_guidance) == ends


@pytest.mark.parametrize(("schedule", "steps", "solver"), [("lcm", 4, "lcm"), ("align_your_steps", 10, "euler")])
def test_schedules_for_few_steps_bring_their_own_defaults(schedule, steps, solver):
    got = AnimateSettings(schedule=schedule).resolve(SVDConfig(variant="svd_xt", frames=25))
    assert (got.steps, got.solver) == (steps, solver)


def test_animate_is_the_stages_in_the_official_order():
    model, image = FakeModel(), picture()
    clip = animate(model, image, FAST)
    assert clip.shape == (3, 48, 64, 3) and clip.dtype == torch.float32 and clip.min() >= 0 and clip.max() <= 1

    batch = image.movedim(-1, 0)[None] * 2 - 1
    condition = svd_core.Condition(
        model.encode_image(batch),
        model.encode_latent(batch + 0.02 * augmentation_noise(batch.shape, 23)),
        model.embed_motion(fps_id=6, motion_bucket_id=127, augmentation_level=0.02),
    )
    guidance = svd_core.linear_guidance(1.0, 2.0, 3)
    latents = svd_core.sample(model.denoise, start_noise(3, 6, 8, 23), svd_core.karras_sigmas(3), guidance, condition)
    expected = (model.decode(latents) / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(clip, expected, rtol=0, atol=1e-6)


def test_every_form_of_image_gives_the_same_clip():
    eight_bit = (picture() * 255).round() / 255
    forms = [
        eight_bit,
        eight_bit[None],
        eight_bit.movedim(-1, 0)[None] * 2 - 1,
        eight_bit.numpy(),
        Image.fromarray((eight_bit * 255).round().byte().numpy()),
    ]
    clips = [animate(FakeModel(), form, FAST) for form in forms]
    for clip in clips[1:]:
        torch.testing.assert_close(clip, clips[0], rtol=0, atol=1e-5)


def test_same_seed_same_clip_and_other_seed_another():
    clips = [animate(FakeModel(), picture(), replace(FAST, seed=seed)) for seed in (5, 5, 6)]
    assert torch.equal(clips[0], clips[1]) and not torch.equal(clips[0], clips[2])


def test_a_batch_gives_independent_clips_drawn_with_following_seeds():
    pictures = torch.stack([picture(seed=1), picture(seed=2)])
    batch = animate(FakeModel(), pictures, replace(FAST, seed=5))
    assert batch.shape == (6, 48, 64, 3)
    for b in range(2):
        alone = animate(FakeModel(), pictures[b], replace(FAST, seed=5 + b))
        assert torch.equal(batch[3 * b : 3 * b + 3], alone)


def test_the_last_seed_is_followed_by_zero():
    two = torch.stack([picture(), picture()])
    assert torch.equal(
        animate(FakeModel(), two, replace(FAST, seed=2**64 - 1))[3:],
        animate(FakeModel(), picture(), replace(FAST, seed=0)),
    )


@pytest.mark.parametrize(
    ("fit", "size"), [("crop", (48, 64)), ("stretch", (48, 64)), ("pad", (48, 48))], ids=["crop", "stretch", "pad"]
)
def test_padded_borders_are_cropped_off_again(fit, size):
    clip = animate(FakeModel(), picture(40, 40), replace(FAST, fit=fit))
    assert clip.shape == (3, *size, 3)


def test_guidance_one_costs_one_evaluation_per_step():
    plain, guided = FakeModel(), FakeModel()
    animate(plain, picture(), AnimateSettings(steps=3))
    animate(guided, picture(), FAST)
    assert (plain.evaluations, guided.evaluations) == (3, 6)


def test_single_frame_clips_work():
    assert animate(FakeModel(), picture(), replace(FAST, frames=1)).shape == (1, 48, 64, 3)


def test_progress_counts_over_the_batch():
    steps, decoded = [], []
    animate(
        FakeModel(),
        torch.stack([picture(), picture()]),
        FAST,
        on_step=lambda step: steps.append((step.index, step.steps)),
        on_decode=lambda done, total: decoded.append((done, total)),
    )
    assert steps == [(i, 6) for i in range(6)]
    assert decoded == [(i + 1, 6) for i in range(6)]


@pytest.mark.parametrize("where", ["on_step", "on_decode"])
def test_raising_in_a_callback_stops(where):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    model = FakeModel()
    with pytest.raises(Stop):
        animate(model, picture(), FAST, **{where: stop})
    assert model.evaluations == (2 if where == "on_step" else 6)


BAD = [
    ("sv3d", picture(), {}, SVDConfig(variant="sv3d_u", frames=21), "sv3d_u only makes orbits"),
    ("width", picture(), {"width": 1000 + 4}, SMALL, "width 1004 is not a multiple of 8; use 1000 or 1008"),
    ("zero frames", picture(), {"frames": 0}, SMALL, "frames must be 1 to 100000 (got 0)"),
    ("zero steps", picture(), {"steps": 0}, SMALL, "steps must be 1 to 10000 (got 0)"),
    ("fps", picture(), {"fps": 0}, SMALL, "fps must be 1 or more (got 0)"),
    ("bucket", picture(), {"motion_bucket": -1}, SMALL, "motion_bucket must be 0 or more (got -1)"),
    ("augmentation", picture(), {"augmentation": math.nan}, SMALL, "augmentation must be 0 or more (got nan)"),
    ("schedule", picture(), {"schedule": "beta"}, SMALL, "schedule 'beta' is unknown"),
    ("shape", picture(), {"guidance_shape": "saw"}, SMALL, "guidance_shape 'saw' is unknown"),
    ("solver", picture(), {"solver": "rk4"}, SMALL, "solver 'rk4' is unknown"),
    ("decode", picture(), {"decode": 0}, SMALL, "decode plan 0 is unknown"),
    ("fit", picture(), {"fit": "zoom"}, SMALL, "fit 'zoom' is unknown"),
    ("seed", picture(), {"seed": -1}, SMALL, "(got -1); use any"),
    ("sigma range", picture(), {"sigma_min": 800.0}, SMALL, "(got 700 and 800)"),
    ("NaN image", picture() * math.nan, {}, SMALL, "NaN or infinite"),
    ("empty batch", torch.zeros(0, 48, 64, 3), {}, SMALL, "0 pictures"),
]


@pytest.mark.parametrize(("image", "given", "config", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_refused_before_anything_is_computed(image, given, config, message):
    model = FakeModel(config)
    with pytest.raises(ValueError) as caught:
        animate(model, image, AnimateSettings(**given))
    assert message in str(caught.value) and "; " in str(caught.value)
    assert model.evaluations == 0


OFF = [
    ({}, set()),
    ({"motion_bucket": 300}, {"motion_bucket"}),
    ({"fps": 60}, {"fps"}),
    ({"fps": 2}, {"fps"}),
    ({"fps": 6}, set()),
    ({"augmentation": 0.5}, {"augmentation"}),
    ({"frames": 50}, {"frames"}),
    ({"width": 256, "height": 256}, {"size"}),
    ({"width": 768, "height": 768}, set()),
]


@pytest.mark.parametrize(("given", "causes"), OFF)
def test_values_far_from_training_are_named(given, causes):
    config = SVDConfig(variant="svd_xt", frames=25)
    assert set(off_distribution(AnimateSettings(**given).resolve(config), config)) == causes


def test_other_motion_than_it_was_tuned_with_is_named_for_1_1():
    config = SVDConfig(variant="svd_xt_1_1", frames=25)
    assert not off_distribution(AnimateSettings().resolve(config), config)
    assert set(off_distribution(AnimateSettings(fps=12).resolve(config), config)) == {"1.1"}


def test_warnings_come_once_per_cause(caplog, monkeypatch):
    monkeypatch.setattr(sys.modules["svd_core.pipelines.clip"], "_warned", set())
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        for bucket in (300, 400):
            animate(FakeModel(), picture(), replace(FAST, motion_bucket=bucket))
    assert [record.getMessage() for record in caplog.records] == [
        "motion bucket 300 is above 255, the highest in training"
    ]


def test_animate_runs_through_the_real_networks():
    torch.manual_seed(0)
    tower = ImageEncoderConfig(image_size=28, width=16, layers=1, head_channels=8, mlp_channels=16, output_channels=8)
    coder = CoderConfig(channels=32, channel_mult=(1, 1, 1, 1), num_res_blocks=1)
    config = SVDConfig(
        UNetConfig(model_channels=32, channel_mult=(1, 1), head_channels=16, context_channels=8, attention_levels=(0,)),
        VAEConfig(encoder=coder, decoder=coder),
        tower,
        variant="nano",
        frames=2,
        width=64,
        height=40,
    )
    model = svd_core.SVDModel(UNet(config.unet), VAE(config.vae), ImageEncoder(tower), config)
    for network in (model.unet, model.vae, model.image_encoder):
        for parameter in network.parameters():  # some are created empty, for a checkpoint to fill
            torch.nn.init.normal_(parameter, std=0.1)
    settings = AnimateSettings(steps=2, max_guidance=2.0)
    clip = animate(model, np.asarray(picture(100, 100)), settings)
    assert clip.shape == (2, 40, 64, 3) and torch.isfinite(clip).all()
    assert torch.equal(clip, animate(model, picture(100, 100), settings))


def test_public_names_are_the_documented_ones():
    assert set(svd_core.__all__) == {
        "AnimateSettings",
        "Condition",
        "SVDModel",
        "__version__",
        "animate",
        "apply_loras",
        "karras_sigmas",
        "linear_guidance",
        "load_lora",
        "load_model",
        "sample",
        "triangle_guidance",
    }
