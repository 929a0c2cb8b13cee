"""From two or more pictures, or one that returns to itself, to a clip: fit, condition, sample, join, decode."""

import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..condition import Condition
from ..controls.between import INBETWEEN_MODES, inbetween_control
from ..controls.between_weights import FineTunedBetween, LoadedBackwardMotion
from ..controls.kept_ends import keep_ends
from ..controls.loop import EvenJoin, LatentRoll
from ..controls.matched import MatchedBetween, match_pictures, matched_signal
from ..model.model import VideoModel
from ..networks.vae import LATENT_SCALE
from ..pictures import Placement, as_batch, fit
from ..pictures.fitting import resize
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
from .clip import warn_off_distribution
from .control_settings import own_controls
from .settings import AnimateSettings, reuse_controls, window_controls

log = logging.getLogger("svd_reel")

ROLL = "roll"
LOOP_MODES = ("blend", "take turns", ROLL)
"""How to make a loop of one picture, the evenest first."""


MATCH, FINE_TUNED = "match", "fine-tuned"
BETWEEN_MODES = (MATCH, *INBETWEEN_MODES)
"""How to get from one picture to the next. Pictures that do not match are blended. FINE_TUNED needs weights of its own.
"""
UNRELATED_EASE = 0.75  # of that blend: with nano its largest step is 1.1 to 1.3 medians, 1.3 to 1.6 with even weights


class Keyframe(NamedTuple):
    """A picture that the clip passes through: its condition, and its scaled latent [1, 4, h, w] without noise."""

    condition: Condition
    latent: Tensor

    def to(self, device: torch.device | str) -> "Keyframe":
        """Return this keyframe on `device`."""
        return Keyframe(self.condition.to(device), self.latent.to(device))


def fit_alike(images: Sequence[Any], settings: AnimateSettings) -> tuple[Tensor, Placement]:
    """Return all pictures [P, 3, H, W] in -1..1 at the size of resolved `settings`, placed as the first one is.

    Each image is what `pictures.as_batch` takes; a batch gives its pictures in order. A picture of another aspect than
    the first is cropped to it, or with fit "stretch" distorted, with a warning in the log.
    """
    pictures = [row for image in images for row in as_batch(image, settings.background).split(1)]
    if not pictures:
        raise ValueError("there are 0 pictures; give 1 for a loop, or 2 and more for a clip between them")
    height, width = pictures[0].shape[2:]
    rows, placement = [], None
    for number, picture in enumerate(pictures, 1):
        h, w = picture.shape[2:]
        if abs(w * height / (h * width) - 1) > 0.01:
            what = "distorted" if settings.fit == "stretch" else "cropped"
            log.warning("picture %d is %dx%d, the first %dx%d; it is %s to fit", number, w, h, width, height, what)
        if settings.fit == "pad" and placement is not None:
            picture = _crop_to(picture, height, width)
        row, found = fit(picture, settings.width, settings.height, settings.fit)
        placement = placement or found
        rows.append(row)
    return torch.cat(rows), placement


@torch.no_grad()
def make_keyframes(model: VideoModel, pictures: Tensor, settings: AnimateSettings) -> list[Keyframe]:
    """Return a keyframe for each fitted picture of [P, 3, 8h, 8w] in -1..1, on the model's device.

    The noise of picture p is drawn from seed + p.
    """
    conditions = condition_pictures(model, pictures, settings)
    latents = [model.encode_latent(picture) * LATENT_SCALE for picture in pictures.split(1)]
    return [Keyframe(*parts).to(model.device) for parts in zip(conditions, latents, strict=True)]


def pair_up(keyframes: Sequence[Keyframe], closed: bool = False) -> list[tuple[Keyframe, Keyframe]]:
    """Return neighbours (start, end), with `closed` the last and the first too; ValueError where there are none."""
    if len(keyframes) + closed < 2:
        raise ValueError("a clip between pictures needs 2 (got 1 picture); add an end picture, or make a loop of it")
    ends = [*keyframes, keyframes[0]] if closed else keyframes
    return list(pairwise(ends))


def between_input(
    start: Keyframe,
    end: Keyframe,
    *,
    mode: str = "take turns",
    strength: float = 1.0,
    tied: bool = False,
    controls: Sequence[Control] = (),
    weights: LoadedBackwardMotion | None = None,
    repeats: int = 0,
    ease: float = 0.0,
) -> ClipInput:
    """Return the input of a clip from the start picture to the end picture, both included.

    `mode` is a key of INBETWEEN_MODES, or FINE_TUNED with its `weights` and `repeats` (`FineTunedBetween`); for
    `strength` and `tied` (both pictures are one, for a loop) see `inbetween_control`. `ease` is for "blend" alone.
    Other `controls` come first.
    """
    ends = (end.condition, start.latent, end.latent)
    if mode == FINE_TUNED:
        between = FineTunedBetween(*ends, strength, tied=tied, weights=weights, repeats=repeats)
    else:
        own = {"ease": ease} if ease else {}
        between = inbetween_control(mode, *ends, strength=strength, tied=tied, **own)
    return ClipInput(start.condition, controls=(*controls, between))


def between_inputs(
    model: VideoModel,
    pictures: Tensor,
    keyframes: Sequence[Keyframe],
    frames: int,
    *,
    mode: str = MATCH,
    strength: float = 1.0,
    closed: bool = False,
    controls_of: Callable[[int, int], Sequence[Control]] = lambda pair, pairs: (),
    weights: LoadedBackwardMotion | None = None,
    repeats: int = 0,
) -> list[ClipInput]:
    """Return the inputs of all clips of `frames` frames between neighbours of fitted `pictures` [P, 3, H, W] in -1..1.

    mode: one of BETWEEN_MODES, or FINE_TUNED with `weights` and `repeats`. "match" moves one picture into the next
    where they show one scene (`Match.sure`), and otherwise blends them, with a line in the log. controls_of(pair,
    pairs): further controls of a pair, which come first. closed: return from the last picture to the first.
    """
    if mode not in (*BETWEEN_MODES, FINE_TUNED):
        raise ValueError(f"the mode {mode!r} is unknown; use one of {', '.join(BETWEEN_MODES)}")
    pairs = pair_up(keyframes, closed)
    rows = [*pictures.split(1), pictures[:1]]
    inputs = []
    for number, (start, end) in enumerate(pairs):
        controls, tied = controls_of(number, len(pairs)), len(pictures) == 1
        between = None
        if mode == MATCH and not tied and strength > 0:
            between = _matched(model, rows[number], rows[number + 1], frames, strength, number + 1)
        if between is not None:
            inputs.append(ClipInput(start.condition, controls=(*controls, between)))
            continue
        own = "blend" if mode == MATCH else mode
        given = {"weights": weights, "repeats": repeats} if own == FINE_TUNED else {}
        given |= {"ease": UNRELATED_EASE} if mode == MATCH else {}
        inputs.append(between_input(start, end, mode=own, strength=strength, tied=tied, controls=controls, **given))
    return inputs


def _matched(
    model: VideoModel, first: Tensor, second: Tensor, frames: int, strength: float, number: int
) -> MatchedBetween | None:
    """Return the control that moves one picture into the next; None, with a line in the log, if they do not match."""
    if frames < 3:
        raise ValueError(f"a clip between two pictures needs at least 3 frames (got {frames}); use 14 or 25")
    match = match_pictures(first, second)
    if not match.sure:
        share = 100 * match.share
        log.info(
            "pictures %d and %d match by %.0f %% only; the clip blends the views from both", number, number + 1, share
        )
        return None
    return MatchedBetween(matched_signal(model.encode_latent, match, frames), strength)


def loop_input(
    key: Keyframe, *, mode: str = "blend", strength: float = 1.0, controls: Sequence[Control] = ()
) -> ClipInput:
    """Return the input of a loop of one picture: `LatentRoll` with mode "roll", else a clip that returns to it."""
    check_loop_mode(mode)
    if mode == ROLL:
        return ClipInput(key.condition, controls=(*controls, LatentRoll(strength)))
    return between_input(key, key, mode=mode, strength=strength, tied=True, controls=controls)


def join(clips: Sequence[Tensor], closed: bool = False) -> Tensor:
    """Return one clip of clips [T, ...] that each begin with the last frame of the one before, without repeats.

    With `closed` the last frame of all is dropped too, because the loop continues with the first.
    """
    last = [] if closed else [clips[-1][-1:]]
    return torch.cat([*(clip[:-1] for clip in clips), *last])


def close_loop(clip: Tensor, mode: str) -> Tensor:
    """Return the loop of a clip sampled from `loop_input`: without its last frame where that repeats the first."""
    return clip if mode == ROLL else join([clip], closed=True)


@torch.no_grad()
def inbetween(
    model: VideoModel,
    images: Sequence[Any],
    settings: AnimateSettings | None = None,
    *,
    mode: str = MATCH,
    strength: float = 1.0,
    closed: bool = False,
    exact_ends: bool = True,
    on_step: OnStep | None = None,
    on_decode: OnDecode | None = None,
    controls: Sequence[Control] = (),
    weights: LoadedBackwardMotion | None = None,
    repeats: int = 0,
) -> Tensor:
    """Return the clip [N, H, W, 3] in 0..1 (float32, CPU) that passes through all `images` in their order.

    images: each a PIL image, [H, W, C] or [B, H, W, C] in 0..1, or [B, 3, H, W] in -1..1, such as one batch of all.
    Every pair of neighbours makes settings.frames frames, T, pair p drawn with seed + p. The frame where two pairs meet
    appears once, so P pictures give (P - 1) (T - 1) + 1 frames.
    closed: return from the last picture to the first, for a seamless loop of P (T - 1) frames; one picture is enough.
    mode, weights, repeats: one of BETWEEN_MODES (`between_inputs`). strength: see `between_input`.
    exact_ends: show the pictures themselves where the clip meets them, as far as that makes no jump
    (`kept_ends.KeptEnds`).
    on_step, on_decode: as in `animate`, counted over all pairs. `controls` steer every pair.

    Raises ValueError for a camera path or `extend` in the settings: the pictures decide where the clip goes and ends.
    """
    settings = _resolved(model, settings)
    pictures, placement = fit_alike(images, settings)
    keyframes = make_keyframes(model, pictures, settings)
    own = own_controls(settings)
    shared = (*window_controls(settings), *reuse_controls(settings), *own, *controls)
    given = {"mode": mode, "strength": strength, "closed": closed, "controls_of": lambda pair, pairs: shared}
    given |= {"weights": weights, "repeats": repeats}
    inputs = between_inputs(model, pictures, keyframes, settings.frames, **given)
    clips = sample_clips(model, inputs, sampling_of(settings), on_step=on_step)
    kept = end_controls(pictures, settings.frames, closed=closed, strength=strength, exact=exact_ends)
    return decode_clips(
        decoder_of(model, settings.decode),
        [join(clips, closed)],
        closed=closed,
        finish=[(*kept, *own, *controls)],
        placement=placement,
        on_decode=on_decode,
    )


@torch.no_grad()
def loop(
    model: VideoModel,
    image: Any,
    settings: AnimateSettings | None = None,
    *,
    mode: str = "blend",
    strength: float = 1.0,
    on_step: OnStep | None = None,
    on_decode: OnDecode | None = None,
    controls: Sequence[Control] = (),
) -> Tensor:
    """Return a clip [N, H, W, 3] in 0..1 (float32, CPU) of one picture that repeats seamlessly.

    With a `mode` of INBETWEEN_MODES it has one frame less than settings.frames. With "roll" it has all of them, takes
    half the time, and hardly travels. A batch of B pictures makes B loops, one after the other, loop b
    drawn with seed + b. For the rest see `inbetween`.
    """
    check_loop_mode(mode)
    settings = _resolved(model, settings)
    pictures, placement = fit_alike([image], settings)
    own = own_controls(settings)
    shared = (*window_controls(settings), *reuse_controls(settings), *own, *controls)
    keyframes = make_keyframes(model, pictures, settings)
    inputs = [loop_input(key, mode=mode, strength=strength, controls=shared) for key in keyframes]
    clips = sample_clips(model, inputs, sampling_of(settings), on_step=on_step)
    kept = end_controls(pictures[:1], settings.frames, closed=True, strength=strength)
    return decode_clips(
        decoder_of(model, settings.decode),
        [close_loop(clip, mode) for clip in clips],
        closed=True,
        finish=[(*kept, *own, *controls)] * len(clips),
        placement=placement,
        on_decode=on_decode,
    )


def end_controls(
    pictures: Tensor, frames: int, *, closed: bool = False, strength: float = 1.0, exact: bool = True
) -> tuple[Control, ...]:
    """Return the controls that edit the decoded frames of a clip through fitted `pictures`, one or more.

    A loop of one picture gets an even join; others show the pictures, if `exact`. Without strength there are none.
    """
    if len(pictures) == 1:
        return (EvenJoin(),) if strength > 0 else ()
    return keep_ends(pictures, frames, closed=closed, strength=strength) if exact else ()


def check_loop_mode(mode: str) -> None:
    """Raise ValueError unless `mode` is one of LOOP_MODES."""
    if mode not in LOOP_MODES:
        raise ValueError(f"loop mode {mode!r} is unknown; use one of {', '.join(LOOP_MODES)}")


def _resolved(model: VideoModel, settings: AnimateSettings | None) -> AnimateSettings:
    settings = (settings or AnimateSettings()).resolve(model.config)
    for name, given in (("camera", settings.camera), ("extend", settings.extend)):
        if given:
            raise ValueError(f"{name} ({given!r}) does not go with end pictures or loops; leave {name} out")
    warn_off_distribution(settings, model.config)
    return settings


def _crop_to(picture: Tensor, height: int, width: int) -> Tensor:
    """Crop the middle of `picture` to the aspect of height x width, and resize it to that size."""
    h, w = picture.shape[2:]
    inner_h, inner_w = min(h, max(1, round(w * height / width))), min(w, max(1, round(h * width / height)))
    top, left = (h - inner_h) // 2, (w - inner_w) // 2
    return resize(picture[:, :, top : top + inner_h, left : left + inner_w], width, height)
