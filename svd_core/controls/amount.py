"""Controls of the amount of motion: a lower start, a softened condition, curves of the motion numbers, other buckets.

None of them needs an extra evaluation of the model.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..condition import Condition
from ..files import printable
from ..networks.layers import sinusoidal_embedding
from ..networks.vae import LATENT_SCALE
from ..pictures.reading import lay_out
from ..sampling.controls import Control, Inputs, Run, Start
from ..sampling.guidance import custom_guidance
from .signal import levels_below

log = logging.getLogger("svd_reel")

BLUR = 8.0  # latent cells at 1024x576
FPS, BUCKET = 0, 1  # places of the scalars in the motion vector (spec section 7)

Points = tuple[tuple[float, float], ...]


def picture_latent(run: Run, latent: Tensor | None = None) -> Tensor:
    """Return the scaled latent [1, 4, h, w] of the start picture, on the device of the run.

    latent: scaled, [1|T, 4, h, w]; only its first frame is used. None takes the latent of the condition, which includes
    the augmentation noise. Raises ValueError if the condition holds no picture, or if the size is not that of the clip.
    """
    if latent is None:
        own = getattr(run.inputs.condition, "latent", None)
        if not isinstance(own, Tensor) or not bool(own.any()):
            raise ValueError(
                "the control needs the start picture, but the condition holds none; use Prepare Image for SVD, or pass "
                "the latent of the picture"
            )
        latent = own * LATENT_SCALE
    if latent.ndim != 4 or latent.shape[1:] != run.noise.shape[1:]:
        raise ValueError(
            f"the latent of the start picture has shape {list(latent.shape)}, the clip {list(run.noise.shape)}; encode "
            "the picture at the size of the clip"
        )
    return lay_out(latent[:1].to(run.noise))


@dataclass(frozen=True, eq=False)
class LowPassStart(Control):
    """Start at a lower sigma, from noise around a blurred start picture (Analytic-Init, Zhao et al. 2024).

    At the usual first sigma of 700 the model tends to copy the picture. Starting at 50 to 300 gives more motion; lower
    values break the clip apart. Levels above the start are skipped, which saves time. The control does nothing if an
    existing clip or another control has already set the start.

    sigma: where to start, for 1024x576 and scaled to the clip; 0 is off.
    blur: standard deviation in latent cells at 1024x576, scaled as well.
    latent: scaled latent of the picture; None takes that of the condition.
    """

    sigma: float = 100.0
    blur: float = BLUR
    latent: Tensor | None = None

    def __post_init__(self) -> None:
        for name, value in (("start sigma", self.sigma), ("blur", self.blur)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"the {name} must be 0 or above (got {value:g}); use sigma 50 to 300 and blur 8")

    @property
    def active(self) -> bool:
        """Whether a start sigma is set."""
        return self.sigma > 0

    def begin(self, run: Run, start: Start) -> Start:
        """Replace a start from pure noise."""
        # Imported here because ComfyUI imports every pack at its start, and few starts need optical flow.
        from ..flow.planes import blur

        first = run.sigmas[0]
        if start.sigmas[0] != first or not torch.equal(start.x, run.noise * math.sqrt(1 + first**2)):
            return start
        sigma = min(self.sigma * run.scale, first)
        if sigma <= start.sigmas[-1]:
            raise ValueError(
                f"the start sigma must be above the end of the schedule (got {sigma:.3g} and {start.sigmas[-1]:.3g}); "
                "raise the start sigma, or let the schedule end at 0"
            )
        picture = picture_latent(run, self.latent)
        cells = self.blur * run.scale
        mean = blur(picture, cells) if cells > 0 else picture  # [1, 4, h, w]
        spread = (picture - mean).pow(2).mean().item()
        return Start(mean + run.noise * math.sqrt(sigma**2 + spread), [sigma, *levels_below(start.sigmas, sigma)])


@dataclass(frozen=True, eq=False)
class MotionCurves(Control):
    """Give each frame a motion bucket and a frame rate of its own, instead of one number for the clip.

    A curve is a list of points (position, value): position 0 is the first frame, 1 the last, linear in between, as in
    `custom_guidance`. An empty curve leaves that number alone.

    bucket: motion buckets, 0 to 255. fps: frames per second, 1 or above; the network receives the value minus one.
    """

    bucket: Points = ()
    fps: Points = ()

    def __post_init__(self) -> None:
        check_points(self.bucket, "motion bucket", 0)
        check_points(self.fps, "fps", 1)

    @property
    def active(self) -> bool:
        """Whether there is a curve."""
        return bool(self.bucket or self.fps)

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Replace the numbers in both conditions, unless the unconditional one has a number of its own."""
        for place, points, offset in ((BUCKET, self.bucket, 0), (FPS, self.fps, 1)):
            if not points:
                continue
            values = custom_guidance(points, len(run.noise)) - offset  # [T]
            condition, other = inputs.condition, inputs.unconditional
            if other is not None and torch.equal(_scalar(condition, place), _scalar(other, place)):
                other = with_scalar(other, place, values)
            inputs = inputs._replace(condition=with_scalar(condition, place, values), unconditional=other)
        return inputs


@dataclass(frozen=True, eq=False)
class BucketGuidance(Control):
    """Use another motion bucket in the unconditional pass, so that guidance pushes away from it.

    A bucket below that of the clip makes it livelier, one above makes it calmer. There is no effect in frames whose
    guidance is 1.

    bucket: of the unconditional pass; None is off.
    picture: keep the start picture in the unconditional pass, so that guidance acts on motion only.
    """

    bucket: float | None = 0.0
    picture: bool = False

    def __post_init__(self) -> None:
        if self.bucket is not None:
            check_points(((0.0, self.bucket),), "motion bucket", 0)

    @property
    def active(self) -> bool:
        """Whether there is another bucket."""
        return self.bucket is not None

    def begin(self, run: Run, start: Start) -> Start:
        """Return the start unchanged; log a warning if the control has no effect."""
        if bool((run.inputs.guidance.scale == 1).all()):
            log.warning("guidance is 1 in all frames, so no bucket is compared with; raise it to 1.5 or more")
        return start

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Replace the bucket of the unconditional condition."""
        other = inputs.unconditional
        if self.picture:
            other = inputs.condition
        elif other is None:
            other = inputs.condition.unconditional()
        return inputs._replace(unconditional=with_scalar(other, BUCKET, torch.tensor([float(self.bucket)])))


@dataclass(frozen=True, eq=False)
class SoftenedCondition(Control):
    """Blur the picture in the condition at high noise, and show it sharp below (ALG, Choi et al. 2025, 2506.08456).

    At high noise an image-conditioned model tends to settle on a still copy of its picture. A soft picture says less
    about it, so the layout of motion forms first; details come below `sigma`. It costs nothing.

    sigma: for 1024x576 and scaled to the clip; 0 is off, 40 to 100 usual. share: size to which the latent of the
    picture is reduced and enlarged again, above 0 to 1.
    """

    sigma: float = 60.0
    share: float = 0.4

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise ValueError(
                f"the softening sigma must be 0 or above (got {self.sigma:g}); use 40 to 100, or 0 for none"
            )
        if not 0 < self.share <= 1:
            raise ValueError(f"the softening share must be above 0 and at most 1 (got {self.share:g}); use 0.25 to 0.6")

    @property
    def active(self) -> bool:
        """Whether anything is softened."""
        return self.sigma > 0 and self.share < 1

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Soften the latent of the condition above the level; the unconditional pass keeps its own, usually none."""
        if sigma <= self.sigma * run.scale or not isinstance(getattr(inputs.condition, "latent", None), Tensor):
            return inputs
        latent = inputs.condition.latent
        size = tuple(latent.shape[-2:])
        small = tuple(max(1, round(self.share * side)) for side in size)
        given = {"mode": "bilinear", "align_corners": False}
        soft = F.interpolate(F.interpolate(lay_out(latent), small, antialias=True, **given), size, **given)
        return inputs._replace(condition=replace(inputs.condition, latent=soft))


def with_scalar(condition: Condition, place: int, values: Tensor) -> Condition:
    """Return the condition with one number of its motion vector replaced.

    place: 0 for fps minus one, 1 for the bucket, 2 for augmentation. values: [1], or [T] for one per frame.
    Raises ValueError for models whose motion vector does not hold these three numbers.
    """
    vector = condition.vector  # [1|T, V]
    channels = _channels(vector)
    embedded = sinusoidal_embedding(values.float().cpu(), channels).to(vector)  # [1|T, V / 3]
    rows = max(len(vector), len(embedded))
    parts = list(vector.expand(rows, -1).split(channels, dim=1))
    parts[place] = embedded.expand(rows, -1)
    return replace(condition, vector=torch.cat(parts, dim=1))


def parse_points(text: str, what: str) -> Points:
    """Parse "0:60, 0.5:180, 1:127", or "60, 180, 127" at even distances, into points (position, value).

    An empty text gives no points. Raise ValueError, naming `what`, for anything else.
    """
    words = text.replace(",", " ").split()
    points = []
    for number, word in enumerate(words):
        position, colon, value = word.rpartition(":")
        try:
            points.append((float(position) if colon else number / max(len(words) - 1, 1), float(value)))
        except ValueError:
            points.clear()
            break
    if bool(points) != bool(words) or 0 < text.count(":") < len(words):
        raise ValueError(
            f"{what} cannot be read (got {printable(text)!r}); write positions and values such as 0:60, 0.5:180, 1:127"
        )
    return tuple(points)


def check_points(points: Sequence[tuple[float, float]], name: str, least: float) -> None:
    """Raise ValueError unless positions rise from 0 to 1 and values are finite and `least` or above."""
    before = -math.inf
    for position, value in points:
        if not (0 <= position <= 1 and position > before):
            raise ValueError(
                f"positions of the {name} curve must rise from 0 (first frame) to 1 (last frame) (got {position:g}); "
                "put the points in order"
            )
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"the {name} must be {least:g} or above (got {value:g}); use bucket 127, fps 7")
        before = position


def _scalar(condition: Condition, place: int) -> Tensor:
    """Return the embedding [1|T, V / 3] of one number of a motion vector."""
    channels = _channels(condition.vector)
    return condition.vector[:, place * channels : (place + 1) * channels]


def _channels(vector: Tensor) -> int:
    """Return how many channels each of the three numbers of a motion vector takes."""
    width = vector.shape[-1]
    if width % 3:
        raise ValueError(
            f"the motion vector of the model has {width} values, which is not fps, bucket and augmentation; use a "
            "model of the SVD family, or remove the control"
        )
    return width // 3


PRESETS: dict[str, tuple[Control, ...]] = {
    "calm": (MotionCurves(bucket=((0.0, 30.0),)), BucketGuidance(127.0)),
    "lively": (
        LowPassStart(100.0),
        MotionCurves(bucket=((0.0, 127.0), (0.3, 200.0), (1.0, 180.0))),
        BucketGuidance(0.0),
    ),
}
"""Combinations of the three controls by name; "lively" starts gently, so that the first frames match the picture."""
