"""Measure a clip: check the input, then measure every frame, and every pair of neighbouring frames."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..flow.pairs import measure_pairs
from ..flow.planes import luminance, resize
from ..pictures import composite
from ..pictures.reading import lay_out
from .clip_report import CameraTrack, ClipReport, Seam, mean, ratio
from .fidelity import change, contrast, cover, psnr, sharpness, ssim

SMALLEST = 16  # pixels per side; the windows of the measures need them
LONGEST_SIDE = 256  # motion is estimated on frames of this size, to about a hundredth of their pixel
OVERSHOOT = 0.5  # of the range 0..1; more means a clip of another range
CLIP_BATCH = 8  # frames in the image encoder at once


class EncodesImages(Protocol):
    """A model with an image encoder, such as SVDModel."""

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the tokens [B, n, D] of images [B, 3, H, W] in -1..1."""


def _nothing() -> None:
    """Do nothing between two frames."""


@torch.no_grad()
def measure(
    clip: Tensor | Sequence[Tensor],
    *,
    image: Tensor | None = None,
    model: EncodesImages | None = None,
    mask: Tensor | None = None,
    seams: Sequence[int] = (),
    asked: Tensor | None = None,
    on_work: Callable[[], None] = _nothing,
) -> ClipReport:
    """Return the measures of a clip [T, H, W, 3] in 0..1, T >= 1, with sides of at least 16 pixels.

    clip: a tensor, or a sequence of frames [H, W, 3] such as `video.open_clip` returns; then few are in memory.

    image: start image [1, H, W, C] or [H, W, C] in 0..1 to compare frame 0 with, cropped to the aspect of the clip.
    model: its image encoder measures how similar the frames stay to the start image.
    mask: [H, W], [1, H, W] or [T, H, W] in 0..1, of any size; motion is also measured inside and outside of it.
    seams: indices of frames, 1 to T - 1, that begin a new part.
    asked: camera track that the clip was made with, of its first K <= T frames: right and up in widths, zoom factor and
    roll in degrees, [K, 4] (`camera.poses.Poses.views`).
    on_work: called between frames and pairs of frames; may raise to stop.
    Raises ValueError for a clip, image or mask of another shape or range or with NaN, and for seams outside the clip.
    """
    check_clip(clip)
    frames, (height, width), device = len(clip), clip[0].shape[:2], clip[0].device
    seams = check_seams(seams, frames)
    small = _small_size(height, width)
    area = None if mask is None else _mask_at(mask, frames, small).to(device)
    start = None if image is None else cover(_picture(image).to(device), height, width)
    single, grey = _measure_frames(clip, small, on_work)
    pairs = measure_pairs(grey, area, (height, width), on_work)
    return ClipReport(
        frames=frames,
        width=width,
        height=height,
        **pairs,
        **single,
        psnr=None if start is None else psnr(_frame(clip, 0), start),
        ssim=None if start is None else ssim(_frame(clip, 0), start),
        similarity=None if model is None else _similarity(clip, _frame(clip, 0) if start is None else start, model),
        seams=tuple(_seam(index, single["step"], pairs) for index in seams),
        asked=None if asked is None else _track(asked, frames),
    )


def check_clip(clip: Tensor | Sequence[Tensor]) -> None:
    """Raise ValueError unless the clip can be measured; of a sequence, its first frame is checked."""
    if isinstance(clip, Sequence) and len(clip) and isinstance(clip[0], Tensor):
        clip = clip[0][None]
    if not isinstance(clip, Tensor) or not clip.is_floating_point():
        kind = clip.dtype if isinstance(clip, Tensor) else type(clip).__name__
        raise ValueError(f"the clip must be a float tensor in 0 to 1 (got {kind}); convert it first")
    if clip.ndim != 4 or clip.shape[-1] != 3 or not len(clip):
        raise ValueError(f"the clip has shape {list(clip.shape)}; give [frames, height, width, 3]")
    height, width = clip.shape[1:3]
    if min(height, width) < SMALLEST:
        raise ValueError(f"the clip must be at least {SMALLEST}x{SMALLEST} pixels (got {width}x{height}); enlarge it")
    least, most = (float(value) for value in clip.aminmax())
    if not (math.isfinite(least) and math.isfinite(most)):
        bad = int((~torch.isfinite(clip)).sum())
        raise ValueError(f"the clip has {bad} values that are NaN or infinite; check the step that made it")
    if least < -OVERSHOOT or most > 1 + OVERSHOOT:
        raise ValueError(
            f"the values of the clip must be 0 to 1 (got {least:g} to {most:g}); divide 8-bit values by 255"
        )


def check_seams(seams: Sequence[int], frames: int) -> tuple[int, ...]:
    """Return the seams as integers; raises ValueError unless each is a frame of the clip after the first."""
    for index in seams:
        if int(index) != index or not 1 <= index < frames:
            remedy = f"use 1 to {frames - 1}" if frames > 1 else "leave them out, because the clip has one frame"
            raise ValueError(f"seams must be frames after the first (got {index:g} of {frames} frames); {remedy}")
    return tuple(int(index) for index in seams)


def _track(views: Tensor, frames: int) -> CameraTrack:
    """Return the asked track [K, 4] of a clip of `frames` frames; raises ValueError for another shape."""
    if views.ndim != 2 or views.shape[1] != 4 or not 1 <= len(views) <= frames or not torch.isfinite(views).all():
        raise ValueError(
            f"the asked camera track has shape {list(views.shape)} or values that are not finite; give [K, 4] with K "
            f"from 1 to {frames}"
        )
    right, up, zoom, roll = (tuple(column) for column in views.double().T.tolist())
    return CameraTrack(tuple(100 * x for x in right), tuple(100 * y for y in up), zoom, roll)


def _picture(image: Tensor) -> Tensor:
    """Return the start image as [1, H, W, 3], without transparency."""
    image = image[None] if image.ndim == 3 else image
    if image.ndim == 4 and len(image) > 1:
        raise ValueError(f"the start image must be one picture (got a batch of {len(image)}); give the first")
    return lay_out(composite(image))


def _mask_at(mask: Tensor, frames: int, size: tuple[int, int]) -> Tensor:
    """Return the mask at another size (height, width): [1 | T, h, w]."""
    given = mask[None] if mask.ndim == 2 else mask
    if given.ndim != 3 or len(given) not in (1, frames) or 0 in given.shape or not given.is_floating_point():
        raise ValueError(
            f"the mask has shape {list(mask.shape)} of {mask.dtype}; give floats [height, width], or one per frame "
            f"[{frames}, height, width]"
        )
    if not torch.isfinite(given).all():
        raise ValueError("the mask has values that are NaN or infinite; give 0 to 1")
    return resize(given[:, None].float(), size)[:, 0]


def _small_size(height: int, width: int) -> tuple[int, int]:
    """Return the size at which motion is estimated."""
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))


def _frame(clip: Tensor | Sequence[Tensor], index: int) -> Tensor:
    """Return one frame [H, W, 3], contiguous, as floats in 0..1."""
    return lay_out(clip[index]).float().clamp(0, 1)


def _measure_frames(
    clip: Tensor | Sequence[Tensor], small: tuple[int, int], on_work: Callable[[], None]
) -> tuple[dict, Tensor]:
    """Return the measures of single frames and of their differences, and the small luminance [T, 1, h, w].

    Works frame by frame, because a clip may fill most of the memory.
    """
    colours, contrasts, edges, steps = [], [], [], []
    before = first = _frame(clip, 0)
    # Allocated at once: small pieces between large frames would split the memory that a frame leaves for the next one.
    greys = first.new_empty(len(clip), 1, *small)
    for index in range(len(clip)):
        on_work()
        frame = _frame(clip, index)
        greys[index] = resize(luminance(frame)[None, None], small)[0]
        colours.append(frame.mean(dim=(0, 1)))
        contrasts.append(contrast(frame))
        edges.append(sharpness(frame))
        if index:
            steps.append(change(frame, before))
        before = frame
    single = {
        "step": tuple(steps),
        "loop_step": change(before, first),
        "colour": tuple(100 * float((colour - colours[0]).norm()) / math.sqrt(3) for colour in colours),
        "contrast": _against_first(contrasts),
        "sharpness": _against_first(edges),
    }
    return single, greys


def _against_first(values: list[float]) -> tuple[float, ...]:
    """Return values divided by the first; values below a quarter of an 8-bit step count as that."""
    least = 0.25 / 255
    return tuple(max(value, least) / max(values[0], least) for value in values)


def _similarity(clip: Tensor | Sequence[Tensor], start: Tensor, model: EncodesImages) -> tuple[float, ...]:
    """Return the cosine between the token of each frame and that of the start image [H, W, 3]."""
    wanted = _tokens(start[None], model)
    found = []
    for index in range(0, len(clip), CLIP_BATCH):
        batch = range(index, min(index + CLIP_BATCH, len(clip)))
        tokens = _tokens(torch.stack([_frame(clip, place) for place in batch]), model)
        found += F.cosine_similarity(tokens, wanted).tolist()
    return tuple(found)


def _tokens(frames: Tensor, model: EncodesImages) -> Tensor:
    """Return the flattened image tokens [B, n*D] of frames [B, H, W, 3] in 0..1."""
    return model.encode_image(frames.movedim(-1, 1) * 2 - 1).float().flatten(1)  # [B, n*D]


def _seam(index: int, steps: tuple[float, ...], pairs: dict) -> Seam:
    """Return how the step to frame `index` differs from the other steps."""
    place = index - 1
    others = {
        name: values[:place] + values[place + 1 :] for name, values in (("step", steps), ("flicker", pairs["flicker"]))
    }
    beside = [near for near in (place - 1, place + 1) if 0 <= near < len(steps)]
    speed = 0.0
    if beside:
        speed = math.hypot(
            *(pairs[axis][place] - mean(tuple(pairs[axis][near] for near in beside)) for axis in ("pan_x", "pan_y"))
        )
    return Seam(index, ratio(steps[place], others["step"]), ratio(pairs["flicker"][place], others["flicker"]), speed)
