"""From a picture to a clip in one call: fit, condition, sample, decode."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

from ..condition import Condition
from ..controls.camera.control import camera_control, camera_signal, fit_map, scene_depth
from ..controls.camera.moves import parse_path
from ..controls.extend import Extension, extend_clip
from ..memory import available_bytes
from ..model.conditioning import condition_on_image, frame_token
from ..model.decoding import frames_to_image
from ..networks.config import SVDConfig
from ..pictures import as_batch, fit
from ..sampling.controls import Control, finish_frames
from ..sampling.noise import start_noise
from ..sampling.sampler import sample
from ..sampling.solvers import Step
from .settings import AnimateSettings, off_distribution

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

    from ..model.model import SVDModel

log = logging.getLogger("svd_reel")
_warned: set[str] = set()


def warn_off_distribution(settings: AnimateSettings, config: SVDConfig) -> None:
    """Log what the model was not trained for in resolved `settings`, every cause once."""
    for cause, sentence in off_distribution(settings, config).items():
        if cause not in _warned:
            _warned.add(cause)
            log.warning("%s", sentence)


@torch.no_grad()
def animate(
    model: "SVDModel",
    image: Union["Image", "numpy.ndarray", Tensor],
    settings: AnimateSettings | None = None,
    *,
    on_step: Callable[[Step], None] | None = None,
    on_decode: Callable[[int, int], None] | None = None,
    depth: Tensor | None = None,
    foreground: Tensor | None = None,
    controls: Sequence[Control] = (),
) -> Tensor:
    """Return the clip [T, H, W, 3] in 0..1 (float32, CPU) that `model` makes of `image`, in the official order (spec
    section 2).

    `image` is a PIL image, [H, W, C] or [B, H, W, C] in 0..1, or [B, 3, H, W] in -1..1. B pictures make B clips, [B *
    T, H, W, 3], one after the other, picture b drawn with seed + b; none depends on the others. With fit "pad" the
    borders are cropped off again. `on_step(Step)` and `on_decode(done, total)` report progress, counted over the whole
    batch (the steps of `extend` by themselves), and may raise to stop. `depth` ([H, W], [B, H, W] or [B, H, W, C], near
    is bright) and `foreground` (the same, above 0.5) tell a camera that travels what is how far away. `controls` steer
    every clip, after the camera.
    """
    settings = (settings or AnimateSettings()).resolve(model.config)
    warn_off_distribution(settings, model.config)
    batch = as_batch(image, settings.background)
    pictures, placement = fit(batch, settings.width, settings.height, settings.fit)
    clips = []
    for b in range(len(pictures)):
        maps = {"depth map": depth, "foreground mask": foreground}
        camera = _camera(model, pictures[b : b + 1], settings, maps, b, tuple(batch.shape[2:]))
        steered = (*camera, *settings.run_controls(), *controls)
        latents = sample_clip(
            model,
            pictures[b : b + 1],
            replace(settings, seed=(settings.seed + b) % 2**64),
            on_step=_over_batch(on_step, b, len(pictures)),
            controls=steered,
        )
        if settings.extend:
            more = replace(settings, seed=(settings.seed + b) % 2**64)
            latents = _extend(model, pictures[b : b + 1], latents, more, _over_batch(on_step, b, len(pictures)))
        frames = model.decode(
            latents,
            settings.decode,
            memory_limit=available_bytes(model.device),
            on_progress=_decode_progress(on_decode, b, len(pictures)),
        )
        finish = (Extension(model.config.frames, settings.extend_overlap).look(),) if settings.extend else ()
        clips.append(placement.undo(finish_frames(frames_to_image(frames).float().cpu(), (*finish, *steered))))
    return torch.cat(clips)


@torch.no_grad()
def sample_clip(
    model: "SVDModel",
    picture: Tensor,
    settings: AnimateSettings,
    *,
    on_step: Callable[[Step], None] | None = None,
    controls: Sequence[Control] = (),
) -> Tensor:
    """Return the scaled latents [T, 4, h, w] of one `picture` [1, 3, 8h, 8w] in -1..1, under resolved `settings`."""
    condition = _condition(model, picture, settings)
    noise = start_noise(settings.frames, settings.height // 8, settings.width // 8, settings.seed).to(model.device)
    return sample(
        model.denoise,
        noise,
        settings.sigmas(),
        settings.guidance(),
        condition,
        solver=settings.solver,
        on_step=on_step,
        seed=settings.seed,
        controls=controls,
    )


def _condition(model: "SVDModel", picture: Tensor, settings: AnimateSettings) -> Condition:
    return condition_on_image(
        model,
        picture,
        fps_id=settings.fps - 1,
        motion_bucket_id=settings.motion_bucket,
        augmentation_level=settings.augmentation,
        seed=settings.seed,
    ).to(model.device)


def _extend(
    model: "SVDModel",
    picture: Tensor,
    latents: Tensor,
    settings: AnimateSettings,
    on_step: Callable[[Step], None] | None,
) -> Tensor:
    """The clip of `picture` with the frames of resolved settings' `extend` behind it."""
    extension = Extension(model.config.frames, settings.extend_overlap)
    return extend_clip(
        model.denoise,
        latents,
        _condition(model, picture, settings),
        settings.sigmas(),
        replace(settings, frames=extension.frames).guidance(),
        settings.extend,
        extension,
        token_of=frame_token(model),
        solver=settings.solver,
        seed=settings.seed,
        on_step=on_step,
        controls=settings.reuse_controls(),
    )


def _camera(
    model: "SVDModel",
    picture: Tensor,
    settings: AnimateSettings,
    maps: dict[str, Tensor | None],
    index: int,
    size: tuple[int, int],
) -> tuple[Control, ...]:
    """The camera control of one fitted picture that was `size` (height, width) before; none without a path."""
    if not settings.camera or settings.camera_strength == 0:
        return ()
    target = (settings.width, settings.height, settings.fit)
    depth, foreground = (
        None if values is None else fit_map(values, index, size, *target, what) for what, values in maps.items()
    )
    distances = scene_depth((settings.height, settings.width), depth, foreground)
    made = camera_signal(model.encode_latent, picture, parse_path(settings.camera), settings.frames, depth=distances)
    return (camera_control(made.signal, settings.camera_mode, strength=settings.camera_strength),)


def _over_batch(on_step: Callable[[Step], None] | None, clip: int, clips: int) -> Callable[[Step], None] | None:
    if on_step is None:
        return None
    return lambda step: on_step(step._replace(index=clip * step.steps + step.index, steps=clips * step.steps))


def _decode_progress(on_decode: Callable[[int, int], None] | None, clip: int, clips: int) -> Callable | None:
    if on_decode is None:
        return None
    return lambda done, total: on_decode(clip * total + done, clips * total)
