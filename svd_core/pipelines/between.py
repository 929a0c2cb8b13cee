"""From two or more pictures, or one that returns to itself, to a clip: fit, condition, sample between, join, decode."""

import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..condition import Condition
from ..controls.between import inbetween_control
from ..controls.kept_ends import keep_ends
from ..controls.loop import EvenJoin, LatentRoll, decode_closed
from ..memory import available_bytes
from ..model.conditioning import condition_on_image
from ..model.decoding import frames_to_image
from ..networks.vae import LATENT_SCALE
from ..pictures import Placement, as_batch, fit
from ..pictures.fitting import resize
from ..sampling.controls import Control, finish_frames
from ..sampling.guidance import Guidance
from ..sampling.noise import start_noise
from ..sampling.sampler import sample
from ..sampling.solvers import Step
from .clip import AnimateSettings, warn_off_distribution

if TYPE_CHECKING:
    from ..model.model import SVDModel

log = logging.getLogger("svd_reel")

ROLL = "roll"
LOOP_MODES = ("blend", "take turns", ROLL)
"""Ways to make a loop of one picture, by name, the evenest first."""


class Keyframe(NamedTuple):
    """A picture that the clip passes through: its condition, and its own scaled latent [1, 4, h, w], without noise."""

    condition: Condition
    latent: Tensor

    def to(self, device: torch.device | str) -> "Keyframe":
        """Return this keyframe on `device`."""
        return Keyframe(self.condition.to(device), self.latent.to(device))


def fit_alike(images: Sequence[Any], settings: AnimateSettings) -> tuple[Tensor, Placement]:
    """Return all pictures [P, 3, H, W] in -1..1 at the size of resolved `settings`, lying in it as the first one does.

    Each image is what `pictures.as_batch` takes; a batch gives its pictures in order. A picture of another aspect than
    the first is cut, or with fit "stretch" distorted, to it, which the log says.
    """
    pictures = [row for image in images for row in as_batch(image, settings.background).split(1)]
    if not pictures:
        raise ValueError("there are 0 pictures; give one to loop, or two and more to go between")
    height, width = pictures[0].shape[2:]
    rows, placement = [], None
    for number, picture in enumerate(pictures, 1):
        h, w = picture.shape[2:]
        if abs(w * height / (h * width) - 1) > 0.01:
            what = "distorted" if settings.fit == "stretch" else "cut"
            log.warning("picture %d is %dx%d, the first %dx%d; it is %s to fit", number, w, h, width, height, what)
        if settings.fit == "pad" and placement is not None:
            picture = _cut_to(picture, height, width)
        row, found = fit(picture, settings.width, settings.height, settings.fit)
        placement = placement or found
        rows.append(row)
    return torch.cat(rows), placement


@torch.no_grad()
def make_keyframes(model: "SVDModel", pictures: Tensor, settings: AnimateSettings) -> list[Keyframe]:
    """Return a keyframe for each fitted picture of [P, 3, 8h, 8w] in -1..1; picture p has its noise from seed + p."""
    made = []
    for number, picture in enumerate(pictures.split(1)):
        condition = condition_on_image(
            model,
            picture,
            fps_id=settings.fps - 1,
            motion_bucket_id=settings.motion_bucket,
            augmentation_level=settings.augmentation,
            seed=(settings.seed + number) % 2**64,
        )
        made.append(Keyframe(condition, model.encode_latent(picture) * LATENT_SCALE))
    return made


def pair_up(keyframes: Sequence[Keyframe], closed: bool = False) -> list[tuple[Keyframe, Keyframe]]:
    """Return neighbours (start, end), with `closed` the last and the first too; ValueError where there are none."""
    if len(keyframes) + closed < 2:
        raise ValueError("there is 1 picture, but going between needs 2; add an end picture, or make a loop of it")
    ends = [*keyframes, keyframes[0]] if closed else keyframes
    return list(pairwise(ends))


def sample_between(
    denoise: Callable[..., Tensor],
    start: Keyframe,
    end: Keyframe,
    frames: int,
    sigmas: Tensor,
    guidance: Guidance | Tensor,
    *,
    seed: int = 0,
    mode: str = "take turns",
    strength: float = 1.0,
    tied: bool = False,
    solver: str = "euler",
    controls: Sequence[Control] = (),
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """Return the scaled latents [frames, 4, h, w] of a clip from the start picture to the end picture, both included.

    `mode` is a key of INBETWEEN_MODES, `strength` and `tied` (both pictures are one, for a loop) as there; other
    `controls` come first. Everything is on one device.
    """
    between = inbetween_control(mode, end.condition, start.latent, end.latent, strength=strength, tied=tied)
    return sample(
        denoise,
        start_noise(frames, *start.latent.shape[-2:], seed).to(start.latent.device),
        sigmas,
        guidance,
        start.condition,
        solver=solver,
        seed=seed,
        controls=(*controls, between),
        on_step=on_step,
    )


def join(clips: Sequence[Tensor], closed: bool = False) -> Tensor:
    """Return one clip of clips [T, ...] that each begin with the frame that ended the one before; none is repeated.

    With `closed` the last frame of all goes too, because the loop goes on with the first.
    """
    last = [] if closed else [clips[-1][-1:]]
    return torch.cat([*(clip[:-1] for clip in clips), *last])


def sample_loop(
    denoise: Callable[..., Tensor],
    key: Keyframe,
    frames: int,
    sigmas: Tensor,
    guidance: Guidance | Tensor,
    *,
    seed: int = 0,
    mode: str = "blend",
    strength: float = 1.0,
    solver: str = "euler",
    controls: Sequence[Control] = (),
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """Return the scaled latents [N, 4, h, w] of a loop of one picture.

    With a `mode` of INBETWEEN_MODES the clip of `frames` starts and ends at the picture, and the end is left out: N =
    frames - 1. With "roll" (`LatentRoll`) N = frames. The rest: see `sample_between`.
    """
    options = {"seed": seed, "solver": solver, "on_step": on_step}
    if mode != ROLL:
        check_loop_mode(mode)
        options |= {"mode": mode, "strength": strength, "tied": True, "controls": controls}
        return join([sample_between(denoise, key, key, frames, sigmas, guidance, **options)], closed=True)
    noise = start_noise(frames, *key.latent.shape[-2:], seed).to(key.latent.device)
    rolled = (*controls, LatentRoll(strength))
    return sample(denoise, noise, sigmas, guidance, key.condition, controls=rolled, **options)


@torch.no_grad()
def inbetween(
    model: "SVDModel",
    images: Sequence[Any],
    settings: AnimateSettings | None = None,
    *,
    mode: str = "take turns",
    strength: float = 1.0,
    closed: bool = False,
    exact_ends: bool = True,
    on_step: Callable[[Step], None] | None = None,
    on_decode: Callable[[int, int], None] | None = None,
    controls: Sequence[Control] = (),
) -> Tensor:
    """Return the clip [N, H, W, 3] in 0..1 (float32, CPU) that passes through all `images` in their order.

    Each image is a PIL image, [H, W, C] or [B, H, W, C] in 0..1, or [B, 3, H, W] in -1..1, such as one batch of all.
    Every pair of neighbours makes settings.frames frames, T, from picture to picture, pair p drawn with seed + p; the
    joint belongs to both and is there once, so P pictures give (P - 1) (T - 1) + 1 frames. With `closed` the clip
    returns from the last picture to the first, and repeats seamlessly: P (T - 1) frames, and one picture is enough.
    `mode` and `strength`: see `sample_between`. `exact_ends`: show the pictures themselves where the clip meets them,
    as far as that makes no jump (`kept_ends.KeptEnds`). `on_step` and `on_decode` as in `animate`, counted over all
    pairs.
    `controls` take part in every pair. ValueError for a camera path or `extend` in the settings: the pictures say where
    the clip goes and ends.
    """
    settings = _resolved(model, settings)
    pictures, placement = fit_alike(images, settings)
    pairs = pair_up([key.to(model.device) for key in make_keyframes(model, pictures, settings)], closed)
    clips = [
        sample_between(
            model.denoise,
            *pair,
            settings.frames,
            settings.sigmas(),
            settings.guidance(),
            seed=(settings.seed + number) % 2**64,
            mode=mode,
            strength=strength,
            tied=len(pictures) == 1,
            solver=settings.solver,
            controls=(*settings.run_controls(), *controls),
            on_step=count_over(on_step, number, len(pairs)),
        )
        for number, pair in enumerate(pairs)
    ]
    kept = finishing(pictures, settings.frames, closed=closed, strength=strength, exact=exact_ends)
    return _decode(model, join(clips, closed), settings, placement, closed, on_decode, (*kept, *controls))


@torch.no_grad()
def loop(
    model: "SVDModel",
    image: Any,
    settings: AnimateSettings | None = None,
    *,
    mode: str = "blend",
    strength: float = 1.0,
    on_step: Callable[[Step], None] | None = None,
    on_decode: Callable[[int, int], None] | None = None,
    controls: Sequence[Control] = (),
) -> Tensor:
    """Return a clip [N, H, W, 3] in 0..1 (float32, CPU) of one picture that repeats seamlessly.

    With a `mode` of INBETWEEN_MODES it has one frame less than settings.frames. With "roll" it has all of them, takes
    half the time, and hardly travels. A batch of B pictures makes B loops, one after the other, picture b drawn with
    seed + b. The rest: see `inbetween`.
    """
    check_loop_mode(mode)
    settings = _resolved(model, settings)
    pictures, placement = fit_alike([image], settings)
    clips = []
    for number, key in enumerate(make_keyframes(model, pictures, settings)):
        latents = sample_loop(
            model.denoise,
            key.to(model.device),
            settings.frames,
            settings.sigmas(),
            settings.guidance(),
            seed=(settings.seed + number) % 2**64,
            mode=mode,
            strength=strength,
            solver=settings.solver,
            controls=(*settings.run_controls(), *controls),
            on_step=count_over(on_step, number, len(pictures)),
        )
        finish = (*finishing(key.latent, settings.frames, closed=True, strength=strength), *controls)
        clips.append(_decode(model, latents, settings, placement, True, on_decode, finish))
    return torch.cat(clips)


def finishing(
    pictures: Tensor, frames: int, *, closed: bool = False, strength: float = 1.0, exact: bool = True
) -> tuple[Control, ...]:
    """Return what goes on in the decoded frames of a clip through fitted `pictures`, one or more.

    A loop of one picture gets an even join; others show the pictures, if `exact`. Nothing without strength.
    """
    if len(pictures) == 1:
        return (EvenJoin(),) if strength > 0 else ()
    return keep_ends(pictures, frames, closed=closed, strength=strength) if exact else ()


def check_loop_mode(mode: str) -> None:
    """Raise ValueError unless `mode` is one of LOOP_MODES."""
    if mode not in LOOP_MODES:
        raise ValueError(f"the loop mode {mode!r} is unknown; use one of {', '.join(LOOP_MODES)}")


def count_over(on_step: Callable[[Step], None] | None, clip: int, clips: int) -> Callable[[Step], None] | None:
    """Return `on_step` for clip number `clip`, counted from 0, of so many: it counts the steps of all."""
    if on_step is None:
        return None
    return lambda step: on_step(step._replace(index=clip * step.steps + step.index, steps=clips * step.steps))


def _resolved(model: "SVDModel", settings: AnimateSettings | None) -> AnimateSettings:
    settings = (settings or AnimateSettings()).resolve(model.config)
    for name, asked in (("camera", settings.camera), ("extend", settings.extend)):
        if asked:
            raise ValueError(f"{name} is {asked!r}, but the pictures say where the clip goes and ends; leave it out")
    warn_off_distribution(settings, model.config)
    return settings


def _decode(
    model: "SVDModel",
    latents: Tensor,
    settings: AnimateSettings,
    placement: Placement,
    closed: bool,
    on_decode: Callable[[int, int], None] | None,
    controls: Sequence[Control],
) -> Tensor:
    def decode(part: Tensor) -> Tensor:
        limit = available_bytes(model.device)
        return model.decode(part, settings.decode, memory_limit=limit, on_progress=on_decode)

    frames = decode_closed(decode, latents) if closed else decode(latents)
    return placement.undo(finish_frames(frames_to_image(frames).float().cpu(), controls))


def _cut_to(picture: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle out of `picture` in the aspect of height x width, and bring it to that size."""
    h, w = picture.shape[2:]
    inner_h, inner_w = min(h, max(1, round(w * height / width))), min(w, max(1, round(h * width / height)))
    top, left = (h - inner_h) // 2, (w - inner_w) // 2
    return resize(picture[:, :, top : top + inner_h, left : left + inner_w], width, height)
