"""Models with a closed-form answer that depends on their condition, for tests of controls."""

from types import SimpleNamespace

import torch

from svd_core.condition import Condition
from svd_core.model.conditioning import motion_vector
from svd_core.networks.config import SVDConfig
from svd_core.networks.vae import LATENT_SCALE
from svd_core.pipelines.batch import ClipInput, Sampling, sample_clips
from svd_core.pipelines.between import between_input, close_loop, loop_input
from svd_core.sampling.noise import start_noise
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas

FRAMES, H, W = 5, 18, 32  # a quarter of the reference grid's sides
SPREAD = 0.5


def still(height=H, width=W, seed=5):
    """A scaled latent [1, 4, h, w] with low and high frequencies and an offset of its own in every channel."""
    fine = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed))
    return 0.3 * fine + torch.linspace(-1, 1, width) + torch.tensor([0.5, -0.3, 0.2, -0.6]).reshape(1, 4, 1, 1)


def condition(fps_id=6, bucket=127, augmentation=0.02, picture=None):
    """The condition of one clip from a scaled picture."""
    picture = still() if picture is None else picture
    token = torch.ones(1, 1, 3)
    return Condition(token, picture / LATENT_SCALE, motion_vector(fps_id, bucket, augmentation))


def obedient_model(x, sigma, given):
    """The perfect denoiser of clips normal about the condition's picture, shifted by its token and bucket."""
    mean = given.latent * LATENT_SCALE + 0.2 * given.token.mean((1, 2)).reshape(-1, 1, 1, 1) + 0.5 * lean(given.vector)
    return mean + SPREAD**2 * (x - mean) / (SPREAD**2 + sigma**2)


def lean(vector):
    """A number that grows with the bucket, [1|T, 1, 1, 1], about 0.01 per unit: the sine of the slowest wave."""
    return vector[:, 511].reshape(-1, 1, 1, 1) * 93.0


class Counted:
    """A model that records its calls."""

    def __init__(self, model=obedient_model):
        self.model = model
        self.conditions, self.sigmas, self.states = [], [], []

    def __call__(self, x, sigma, given):
        self.conditions.append(given)
        self.sigmas.append(sigma)
        self.states.append(x.clone())
        return self.model(x, sigma, given)


def run(controls=(), model=obedient_model, steps=6, **changes):
    """A clip of the model with guidance 3."""
    values = {
        "noise": start_noise(FRAMES, H, W, seed=1),
        "sigmas": karras_sigmas(steps),
        "guidance": 3.0,
        "condition": condition(),
    }
    return sample(model, controls=controls, **values | changes)


def sample_input(denoise, clip: ClipInput, frames, sigmas, guidance, *, seed=0, solver="euler"):
    """The latents of one clip by a `denoise` in closed form, through the pipeline."""
    model = SimpleNamespace(denoise=denoise, device=torch.device("cpu"), config=SVDConfig())
    (latents,) = sample_clips(model, [clip], Sampling(frames, sigmas, guidance, solver=solver, seed=seed))
    return latents


def sample_between(denoise, start, end, frames, sigmas, guidance, *, seed=0, solver="euler", **options):
    """The latents of a clip from keyframe to keyframe."""
    clip = between_input(start, end, **options)
    return sample_input(denoise, clip, frames, sigmas, guidance, seed=seed, solver=solver)


def sample_loop(denoise, key, frames, sigmas, guidance, *, seed=0, mode="blend"):
    """The latents of a loop of one keyframe."""
    clip = sample_input(denoise, loop_input(key, mode=mode), frames, sigmas, guidance, seed=seed)
    return close_loop(clip, mode)
