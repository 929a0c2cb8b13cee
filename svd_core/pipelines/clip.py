"""From a picture to a clip in one call: fit, condition, sample, extend, decode."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

from ..controls.camera.control import camera_control
from ..controls.camera.moves import parse_path
from ..controls.signal import imposes_motion
from ..model.conditioning import frame_token
from ..model.model import VideoModel
from ..networks.config import SVDConfig
from ..pictures import as_batch, fit
from ..sampling.controls import Control
from .batch import (
    ClipInput,
    OnDecode,
    OnStep,
    condition_pictures,
    decode_clips,
    decoder_of,
    sample_clips,
    sampling_of,
)
from .control_settings import camera_options, extension_of, own_controls
from .extend import extend_clips
from .settings import (
    AnimateSettings,
    guidance_of,
    off_distribution,
    reuse_controls,
    window_controls,
)
from .steering import camera_signals

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

log = logging.getLogger("svd_reel")
_warned: set[str] = set()


def warn_off_distribution(settings: AnimateSettings, config: SVDConfig) -> None:
    """Log, once per cause, which resolved `settings` the model was not trained for."""
    for cause, sentence in off_distribution(settings, config).items():
        if cause not in _warned:
            _warned.add(cause)
            log.warning("%s", sentence)


@torch.no_grad()
def animate(
    model: VideoModel,
    image: Union["Image", "numpy.ndarray", Tensor],
    settings: AnimateSettings | None = None,
    *,
    on_step: OnStep | None = None,
    on_decode: OnDecode | None = None,
    depth: Tensor | None = None,
    foreground: Tensor | None = None,
    controls: Sequence[Control] = (),
) -> Tensor:
    """Return the clip [T, H, W, 3] in 0..1 (float32, CPU) of `image`, made in the official order (spec section 2).

    image: a PIL image, [H, W, C] or [B, H, W, C] in 0..1, or [B, 3, H, W] in -1..1. B pictures make B clips,
    [B * T, H, W, 3], one after the other, clip b drawn with seed + b; none depends on the others. With fit "pad" the
    borders are cropped off again.
    on_step, on_decode: get a Step, or (done, total), counted over the whole batch; the steps of `extend` are counted
    separately. An exception raised in them stops the run.
    depth, foreground: [H, W], [B, H, W] or [B, H, W, C]; near is bright, foreground is above 0.5. They give a
    travelling camera the distances in the picture.
    controls: steer every clip, after the camera.
    """
    settings = (settings or AnimateSettings()).resolve(model.config, steered=imposes_motion(controls))
    warn_off_distribution(settings, model.config)
    batch = as_batch(image, settings.background)
    pictures, placement = fit(batch, settings.width, settings.height, settings.fit)
    used = (*window_controls(settings), *reuse_controls(settings), *own_controls(settings), *controls)
    steered = [used for _ in pictures]
    if settings.camera and settings.camera_strength > 0:
        path, size = parse_path(settings.camera), tuple(batch.shape[2:])
        maps = {"depth": depth, "foreground": foreground, "size": size, "fit_mode": settings.fit}
        maps["far_to_near"] = settings.camera_far_to_near
        signals = camera_signals(model, pictures, path, settings.frames, **maps)
        how = {"strength": settings.camera_strength, **camera_options(settings)}
        steered = [(camera_control(made.signal, settings.camera_mode, **how), *used) for made in signals]
    conditions = condition_pictures(model, pictures, settings)
    clips = [ClipInput(condition, controls=own) for condition, own in zip(conditions, steered, strict=True)]
    latents = sample_clips(model, clips, sampling_of(settings), on_step=on_step)
    if settings.extend:
        extension = extension_of(settings, model.config.frames)
        chunk = replace(
            sampling_of(settings), frames=extension.frames, guidance=guidance_of(settings, extension.frames)
        )
        clips = [ClipInput(condition, latent=latent) for condition, latent in zip(conditions, latents, strict=True)]
        latents = extend_clips(
            model,
            clips,
            chunk,
            settings.extend,
            extension,
            token_of=frame_token(model),
            controls=reuse_controls(settings),
            on_step=on_step,
        )
        steered = [(extension.look(), *own) for own in steered]
    decode = decoder_of(model, settings.decode)
    return decode_clips(decode, latents, finish=steered, placement=placement, on_decode=on_decode)
