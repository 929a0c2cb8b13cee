"""Measurements of each control on a photograph: numbers with their targets, and clips to look at."""

import math

import torch
from torch import Tensor

import svd_core as svd
from svd_core.controls.brush import motion_brush
from svd_core.controls.drag import drag_signal, parse_drag
from svd_core.controls.signal import DualClock
from svd_core.pictures import fit
from svd_core.pipelines.between import BETWEEN_MODES, inbetween, loop
from svd_core.pipelines.settings import window_controls
from svd_core.report.measuring import measure

from .bench import CALM, Bench, Found, flow, psnr, shown

MASK = "Motion mask: flow in the still part relative to the moving part, and how exact the still part is"
DRAG = "Cut and drag: the last frame around the object, against the pasted frame and the picture, and where it ends"
BETWEEN = (
    "In-betweens of two crops: the end frame, the largest step, the sharpness of the middle, and the shared motion"
)
LOOP = "Loops: the step from the last frame to the first, relative to the median step"
EXTENSION = "Extension over four clips: the last clip against the first"
WINDOWS = "Windows: 60 frames, the step at window borders relative to the step elsewhere"
LONG = 60


def mask(bench: Bench) -> Found:
    """Move the left half and hold the right half; measure both separately."""
    found, middle = Found(), bench.width // 2
    masks = torch.zeros(1, 1, bench.height, bench.width)
    masks[..., :middle] = 1.0
    for keep in (True, False):
        brush = motion_brush(bench.model.encode_latent, bench.picture, masks, keep_still=keep)
        clip = bench.clip(controls=(brush,))
        still, moving = flow(clip[:, :, middle:]), flow(clip[:, :, :middle])
        quality = psnr(clip[:, :, middle:], bench.image[:, middle:].expand(len(clip), -1, -1, -1))
        share = still / max(moving, 1e-6)
        words = (f"{still:.3f}", f"{moving:.2f}", f"{100 * share:.1f} %", f"{quality:.1f} dB")
        met = share <= 0.15 and (quality >= 30 or not keep)
        found.add(MASK, (bench.name, "yes" if keep else "no", *words), met)
        if keep:
            found.clips.append((f"{bench.name}: left half moves", clip))
    return found


def drag(bench: Bench) -> Found:
    """Drag a disc from the middle to the right."""
    found = Found()
    y, x = torch.meshgrid(torch.linspace(-1, 1, bench.height), torch.linspace(-1, 1, bench.width), indexing="ij")
    disc = ((x.square() + y.square()).sqrt() < 0.4).float()[None, None]
    made = drag_signal(
        bench.model.encode_latent, bench.picture, [(disc, parse_drag("0.5,0.5; 0.72,0.5"))], bench.frames
    )
    clip = bench.clip(controls=(DualClock(made.signal),), motion_bucket=None)
    pasted = shown(made.warped.frames[-1:])
    area = disc[0, 0].roll(round(0.22 * bench.width), 1) > 0.5
    near, far = psnr(clip[-1][area], pasted[area]), psnr(clip[-1][area], bench.image[area])
    error = end_error(clip[-1], bench.image, disc[0, 0] > 0.5, round(0.22 * bench.width))
    words = (bench.name, f"{near:.1f} dB", f"{far:.1f} dB", f"{100 * error / bench.width:.1f} %")
    found.add(DRAG, words, near > far and error <= 0.05 * bench.width)
    found.clips.append((f"{bench.name}: dragged to the right", clip))
    return found


def end_error(frame: Tensor, picture: Tensor, area: Tensor, asked: int) -> float:
    """Return how many pixels from `asked`, along x and y, the object under `area` of the picture is found in a frame.

    It is looked for by its pixels: the shift of least mean square error, within an eighth of the width around.
    """
    reach, errors = frame.shape[1] // 8, {}
    for right in range(asked - reach, asked + reach + 1):
        for down in range(-reach, reach + 1):
            inside = area.roll((down, right), (0, 1))
            moved = picture.roll((down, right), (0, 1))
            errors[(right - asked) ** 2 + down**2, right, down] = float((frame - moved)[inside].square().mean())
    return min(errors, key=errors.get)[0] ** 0.5


def between(bench: Bench) -> Found:
    """Sample from one crop of the photograph to another, in every mode."""
    found = Found()
    height, width = bench.photograph.shape[2:]
    crops = [
        bench.photograph[..., : height - height // 10, : width - width // 10],
        bench.photograph[..., height // 10 :, width // 10 :],
    ]
    end, _ = fit(crops[1], bench.width, bench.height)
    ceiling = psnr(bench.round_trip(end), shown(end))
    for mode in BETWEEN_MODES:
        # Without exact_ends: the model is judged, not the pictures pasted over its end frames.
        clip = inbetween(bench.model, crops, bench.settings(motion_bucket=None), mode=mode, exact_ends=False)
        report = measure(clip)
        quality, largest = psnr(clip[-1], shown(end)), report.largest_step
        middle = (report.sharpness[len(clip) // 2] ** 2) / (1 + report.sharpness[-1] ** 2) * 2
        moved = math.hypot(report.camera.right[-1], report.camera.up[-1])
        words = (f"{quality:.1f} dB", f"{ceiling:.1f} dB", f"{largest:.2f}", f"{100 * middle:.0f} %", f"{moved:.1f} %")
        found.add(BETWEEN, (bench.name, mode, *words), quality >= ceiling - 3 and largest <= 1.5 and middle >= 0.5)
        if mode == "match":
            found.clips.append((f"{bench.name}: in-betweens", clip))
    return found


def loops(bench: Bench, mode: str, own_steps: bool = True) -> Found:
    """Make a loop of one picture, at the steps of the run and, if `own_steps`, at the model's own."""
    found = Found()
    own = svd.AnimateSettings().resolve(bench.model.config).steps
    for steps in sorted({bench.steps, own} if own_steps else {bench.steps}):
        clip = loop(bench.model, bench.picture, bench.settings(steps=steps), mode=mode)
        score = measure(clip).loop_score
        found.add(LOOP, (bench.name, mode, str(steps), f"{score:.2f}"), score <= 1.5)
    found.clips.append((f"{bench.name}: loop, {mode}", clip))
    return found


def windows(bench: Bench) -> Found:
    """Make sixty frames in windows of the model's own length."""
    found = Found()
    settings = bench.settings(frames=LONG, windows=bench.frames).resolve(bench.model.config)
    clip = svd.animate(bench.model, bench.picture, settings)
    borders = {start for window in window_controls(settings) for start in window.starts(LONG)[1:]}
    step = torch.tensor([float((b - a).abs().mean()) for a, b in zip(clip[:-1], clip[1:], strict=True)])
    at = torch.tensor([index + 1 in borders for index in range(len(step))])
    ratio = float(step[at].mean() / step[~at].mean().clamp(min=1e-6))
    found.add(WINDOWS, (bench.name, f"{ratio:.2f}"), ratio <= 1.2)
    found.clips.append((f"{bench.name}: {LONG} frames", clip))
    return found


def extension(bench: Bench, bucket: int) -> Found:
    """Extend a clip three times."""
    found, overlap = Found(), min(4, bench.frames - 1)
    length = bench.model.config.frames
    more = 3 * (length - overlap)
    clip = bench.clip(frames=length, extend=more, extend_overlap=overlap, motion_bucket=bucket)
    first, last = clip[:length], clip[-length:]
    colour, contrast = drift(first, last)
    met = colour < 3 and abs(contrast) < 3
    found.add(EXTENSION, (bench.name, str(bucket), f"{colour:.2f} %", f"{contrast:+.2f} %"), met)
    if bucket != CALM:
        found.clips.append((f"{bench.name}: four clips", clip))
    return found


def drift(first: Tensor, last: Tensor) -> tuple[float, float]:
    """Return the changes of mean colour (of the range) and of contrast between two clips, in per cent."""
    colour = 100 * float((last.mean((0, 1, 2)) - first.mean((0, 1, 2))).abs().max())
    contrast = 100 * float(last.mean(-1).std((1, 2)).mean() / first.mean(-1).std((1, 2)).mean() - 1)
    return colour, contrast


HEADS = {
    MASK: (
        ("photograph", "kept", "flow, still px", "flow, moving px", "share", "still part against picture"),
        "at most 15 %, at least 30 dB if the still part is kept",
    ),
    DRAG: (
        ("photograph", "against pasted", "against the picture", "end point off by"),
        "default strength and bucket; closer to the pasted frame, at most 5 % of the width",
    ),
    BETWEEN: (
        ("photograph", "mode", "end frame", "autoencoder alone", "largest step", "middle's sharpness", "moved"),
        "before pictures are pasted; within 3 dB of the autoencoder, at most 1.5 times the median, half as sharp "
        "as the ends",
    ),
    LOOP: (("photograph", "mode", "steps", "score"), "at most 1.5"),
    EXTENSION: (("photograph", "motion bucket", "mean colour", "contrast"), "both under 3 %"),
    WINDOWS: (("photograph", "ratio"), "at most 1.20"),
}
"""Headings and target of every table."""

BUCKETS = (127, CALM)
