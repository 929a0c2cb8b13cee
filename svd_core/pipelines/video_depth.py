"""A video to steady depth or normals: DepthCrafter (Hu et al. 2025) and NormalCrafter (Bin et al. 2025).

Both are SVD UNets that read a video: one image token and one conditioning latent per frame. Long videos run in windows
that hand their latents on.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..condition import Condition
from ..model.decoding import frames_to_image, parse_plan
from ..model.model import VideoModel
from ..networks.config import SVDConfig
from ..pictures.fitting import resize, snap_size
from ..sampling.controls import Control, Run, Start
from ..sampling.noise import check_seed, seeded_noise
from ..sampling.sampler import sample
from ..sampling.schedules import SIGMA_MAX, karras_sigmas
from ..sampling.solvers import Step
from .defaults import READER_GUIDANCE, READER_STEPS, READER_WINDOWS, VIDEO_READERS

log = logging.getLogger("svd_reel")

MULTIPLE = 64  # pixels; both were trained on sides of this multiple
LONGEST_SIDE = 1024
AT_ONCE = 8  # frames that the encoders read at once
MOST_FRAMES, MOST_STEPS = 100_000, 100


@dataclass(frozen=True)
class VideoDepthSettings:
    """How to read depth or normals from a video; the defaults are those of the official scripts. None: the model's own.

    kind: "depthcrafter" for depth, "normalcrafter" for normals; None goes by the model's variant.
    window, overlap: frames that are denoised at once, and those that neighbouring windows share.
    steps, guidance, augmentation: of DepthCrafter; NormalCrafter evaluates once, without noise.
    longest_side: pixels; a larger video is scaled down for the model and its maps scaled up again.
    decode: "exact", or frames per chunk.
    """

    kind: str | None = None
    window: int | None = None
    overlap: int | None = None
    steps: int = READER_STEPS
    guidance: float = READER_GUIDANCE
    augmentation: float = 0.02
    longest_side: int = LONGEST_SIDE
    seed: int = 42
    decode: str | int = 8

    def resolve(self, config: SVDConfig) -> "VideoDepthSettings":
        """Return these settings with every None filled in; raise ValueError for illegal ones."""
        kind = self.kind or config.variant
        if kind not in VIDEO_READERS:
            raise ValueError(
                f"{config.variant} makes clips and reads no video; load DepthCrafter or NormalCrafter, or name the "
                f"kind of a renamed file: {' or '.join(VIDEO_READERS)}"
            )
        depth = kind == "depthcrafter"
        window = self.window or READER_WINDOWS[kind]
        default_overlap = 25 if depth else 4
        overlap = min(default_overlap, window // 3) if self.overlap is None else self.overlap
        settings = replace(self, kind=kind, window=window, overlap=overlap)
        settings._check()
        return settings

    def _check(self) -> None:
        if not 2 <= self.window <= MOST_FRAMES:
            raise ValueError(
                f"the window must be 2 frames or more (got {self.window}); use 25 to 110, or 14 for normals"
            )
        if not 1 <= self.overlap < self.window:
            raise ValueError(
                f"windows of {self.window} frames can overlap by 1 to {self.window - 1} (got {self.overlap})"
            )
        if not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps must be 1 to {MOST_STEPS} (got {self.steps}); use 5")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise ValueError(f"guidance must be 0 or above (got {self.guidance:g}); use 1, at most 1.2")
        if not (math.isfinite(self.augmentation) and self.augmentation >= 0):
            raise ValueError(f"augmentation must be 0 or above (got {self.augmentation:g}); use 0.02")
        if not MULTIPLE <= self.longest_side <= 4096:
            raise ValueError(f"the longest side must be {MULTIPLE} to 4096 pixels (got {self.longest_side}); use 1024")
        parse_plan(self.decode)
        check_seed(self.seed)


@torch.no_grad()
def video_depth(
    model: VideoModel,
    frames: Tensor,
    settings: VideoDepthSettings | None = None,
    *,
    on_step: Callable[[Step], None] | None = None,
    on_decode: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return depth or normals of the frames [T, H, W, 3] in 0..1: [T, H, W, 3] in 0..1 on the CPU.

    Depth is grey and relative to the whole video: 1 is nearest. Normals are x, y, z in -1..1, stored as 0..1.
    on_step counts over all windows. It and on_decode may raise to stop.
    """
    settings = (settings or VideoDepthSettings()).resolve(model.config)
    height, width = frames.shape[1:3]
    pictures, cut = prepared_video(frames, settings)
    condition = read_video(model, pictures, settings)
    steps_at = sample_depth if settings.kind == "depthcrafter" else sample_normals
    latents = steps_at(model, condition, settings, on_step=on_step)
    chunk = parse_plan(settings.decode)
    made = frames_to_image(model.decode(latents, "exact" if chunk is None else chunk, on_progress=on_decode)).cpu()
    made = made[:, cut[0], cut[1]]
    if settings.kind == "depthcrafter":
        grey = made.mean(-1, keepdim=True)
        low, high = grey.min(), grey.max()
        made = ((grey - low) / (high - low).clamp(min=1e-6)).expand(-1, -1, -1, 3)
    planes = made.movedim(-1, 1)
    if planes.shape[-2:] != (height, width):
        planes = F.interpolate(planes, (height, width), mode="bilinear", align_corners=False)
    return planes.movedim(1, -1).contiguous()


def prepared_video(frames: Tensor, settings: VideoDepthSettings) -> tuple[Tensor, tuple[slice, slice]]:
    """Return the video at the model's size, [T, 3, 64h, 64w] in -1..1, and the rows and columns that hold the picture.

    DepthCrafter rounds both sides to 64; NormalCrafter pads with white.
    """
    if frames.dim() != 4 or not len(frames) or min(frames.shape[1:3]) < 1 or frames.shape[-1] < 3:
        raise ValueError(f"a video must be [frames, height, width, 3] (got {list(frames.shape)})")
    planes = frames[..., :3].movedim(-1, 1).float() * 2 - 1
    height, width = planes.shape[-2:]
    scale = min(1.0, settings.longest_side / max(height, width))
    if settings.kind == "depthcrafter":
        across, down = snap_size(width * scale, height * scale, MULTIPLE)
        return resize(planes, across, down), (slice(0, down), slice(0, across))
    if scale < 1:
        planes = resize(planes, max(1, round(width * scale)), max(1, round(height * scale)))
    height, width = planes.shape[-2:]
    missing_y, missing_x = -height % MULTIPLE, -width % MULTIPLE
    top, left = missing_y // 2, missing_x // 2
    padded = F.pad(planes, (left, missing_x - left, top, missing_y - top), value=1.0)
    return padded, (slice(top, top + height), slice(left, left + width))


def read_video(model: VideoModel, pictures: Tensor, settings: VideoDepthSettings) -> Condition:
    """Return the condition of a video [T, 3, H, W] in -1..1: one token and one latent per frame."""
    augmentation = settings.augmentation if settings.kind == "depthcrafter" else 0.0
    noise = seeded_noise(tuple(pictures.shape), settings.seed) if augmentation else None
    noised = pictures if noise is None else pictures + augmentation * noise
    tokens = torch.cat([model.encode_image(part) for part in pictures.split(AT_ONCE)])
    latents = torch.cat([model.encode_latent(part) for part in noised.split(AT_ONCE)])
    # The 7 is the number itself here, not frames per second minus 1.
    vector = model.embed_motion(fps_id=7, motion_bucket_id=127, augmentation_level=augmentation)
    return Condition(tokens, latents, vector).to(model.device)


# DepthCrafter


@dataclass(frozen=True, eq=False)
class ContinueFrom(Control):
    """Start the first frames of a window from the finished latents [n, 4, h, w] of the window before it."""

    latents: Tensor

    def begin(self, run: Run, start: Start) -> Start:
        """Return the state with the first frames replaced."""
        x, count = start.x.clone(), len(self.latents)
        x[:count] = self.latents.to(x) + run.noise[:count] * start.sigmas[0]
        return start._replace(x=x)


def depth_windows(frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Return [start, end) of each window of DepthCrafter; a clip of at most one window is one."""
    if frames <= window:
        return [(0, frames)]
    return [(start, min(start + window, frames)) for start in range(0, frames - overlap, window - overlap)]


def depth_noise_rows(frames: int, window: int, overlap: int) -> list[list[int]]:
    """Return the rows of one noise tensor of `window` frames that each window starts from: they rotate."""
    rows, found = list(range(min(window, frames))), []
    for start, end in depth_windows(frames, window, overlap):
        found.append(rows[: end - start])
        rows = rows[len(rows) - overlap :] + rows[: len(rows) - overlap]
    return found


def sample_depth(
    model: VideoModel,
    condition: Condition,
    settings: VideoDepthSettings,
    *,
    on_step: Callable[[Step], None] | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Return the scaled latents [T, 4, h, w] of a video's depth.

    noise: [window, 4, h, w], standard normal; None draws it from the seed.
    """
    frames = condition.frames
    window, overlap = min(settings.window, frames), settings.overlap
    if noise is None:
        noise = seeded_noise((window, *condition.latent.shape[1:]), settings.seed)
    noise = noise.to(model.device)
    spans = depth_windows(frames, settings.window, overlap)
    latents: Tensor | None = None
    for number, ((start, end), rows) in enumerate(
        zip(spans, depth_noise_rows(frames, settings.window, overlap), strict=True)
    ):
        own = condition.with_parts(lambda part, s=start, e=end: part[s:e] if len(part) > 1 else part)
        controls = () if latents is None else (ContinueFrom(latents[-overlap:]),)
        made = sample(
            model.denoise,
            noise[rows],
            karras_sigmas(settings.steps),
            settings.guidance,
            own,
            on_step=_counted(on_step, number, len(spans)),
            controls=controls,
            seed=settings.seed,
        )
        latents = made if latents is None else blended(latents, made, overlap, torch.linspace(0, 1, overlap))
    return latents


def blended(before: Tensor, after: Tensor, overlap: int, share: Tensor) -> Tensor:
    """Return two runs of latents joined over `overlap` frames; share [overlap] is the weight of the second."""
    share = share.to(before).reshape(-1, 1, 1, 1)
    joined = before[-overlap:] * (1 - share) + after[:overlap] * share
    return torch.cat([before[:-overlap], joined, after[overlap:]])


def _counted(on_step: Callable[[Step], None] | None, window: int, windows: int) -> Callable[[Step], None] | None:
    if on_step is None:
        return None
    return lambda step: on_step(step._replace(index=window * step.steps + step.index, steps=windows * step.steps))


# NormalCrafter


def normal_windows(frames: int, window: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield [start, end) of each window of NormalCrafter; the last is moved back to end with the clip."""
    if frames <= window:
        yield 0, frames
        return
    end = 0
    for start in range(0, frames - window + 1, window - overlap):
        end = start + window
        yield start, end
    if end < frames:
        yield frames - window, frames


def sample_normals(
    model: VideoModel,
    condition: Condition,
    settings: VideoDepthSettings,
    *,
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """Return the scaled latents [T, 4, h, w] of a video's normals: one evaluation of each window, from no noise."""
    frames = condition.frames
    spans = list(normal_windows(frames, settings.window, settings.overlap))
    latents: Tensor | None = None
    for number, (start, end) in enumerate(spans):
        own = condition.with_parts(lambda part, s=start, e=end: part[s:e] if len(part) > 1 else part)
        x = torch.zeros(end - start, *condition.latent.shape[1:], device=model.device)
        overlap = 0 if latents is None else len(latents) - start
        if overlap:
            x[:overlap] = latents[start:]
        made = model.denoise(x, SIGMA_MAX, own)
        if overlap:
            share = torch.linspace(1, 0, overlap + 2)[1:-1]  # of the window before
            latents = blended(latents, made, overlap, 1 - share)
        else:
            latents = made
        if on_step is not None:
            on_step(Step(number, len(spans), SIGMA_MAX, made, latents))
    return latents
