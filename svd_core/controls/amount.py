"""Controls of how much moves, and when: a lower start, curves of the motion numbers, guidance between motion buckets.

None evaluates the model once more than usual.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..condition import Condition
from ..networks.layers import sinusoidal_embedding
from ..networks.vae import LATENT_SCALE
from ..sampling.controls import Control, Inputs, Run, Start
from ..sampling.guidance import custom_guidance
from .signal import CLOSE


def picture_latent(run: Run, given: Tensor | None = None) -> Tensor:
    """Return the scaled latent [1, 4, h, w] of the start picture, on the run's device.

    `given` [1|T, 4, h, w] is scaled; of several frames the first counts. Without it the condition's own latent is
    taken, which has the augmentation noise in it. ValueError where there is no picture, or one of another size.
    """
    if given is None:
        latent = getattr(run.inputs.condition, "latent", None)
        if not isinstance(latent, Tensor) or not bool(latent.any()):
            raise ValueError(
                "the control needs the start picture, but the condition holds none; use Prepare Image for SVD, or give "
                "the control the picture's latent"
            )
        given = latent * LATENT_SCALE
    if given.ndim != 4 or given.shape[1:] != run.noise.shape[1:]:
        raise ValueError(
            f"the start picture's latent has shape {list(given.shape)}, the clip {list(run.noise.shape)}; encode the "
            "picture at the size of the clip"
        )
    return given[:1].to(run.noise)


log = logging.getLogger("svd_reel")

BLUR = 8.0  # latent cells at 1024x576
FPS, BUCKET = 0, 1  # places of the scalars in the motion vector (spec section 7)

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class LowPassStart(Control):
    """Start at a lower sigma, from noise about a blur of the start picture (Analytic-Init, Zhao et al. 2024).

    From the usual sigma of 700 the model first settles on copying the picture; it moves more from 50 to 300, but comes
    apart below. `sigma` is meant for 1024x576 and scaled to the clip; 0 is off. `blur` is the standard deviation in
    latent cells at 1024x576, scaled as well. Levels above the start are skipped, which saves time. A start that
    another control or an existing clip has set is left alone. `latent`, scaled, replaces the condition's picture.
    """

    sigma: float = 100.0
    blur: float = BLUR
    latent: Tensor | None = None

    def __post_init__(self) -> None:
        for name, value in (("start sigma", self.sigma), ("blur", self.blur)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"the {name} is {value:g}, but it must be 0 or above; use sigma 50 to 300 and blur 8")

    @property
    def active(self) -> bool:
        """Whether there is a sigma to start at."""
        return self.sigma > 0

    def begin(self, run: Run, start: Start) -> Start:
        """Replace a start from nothing."""
        # Imported when used: the host imports every pack when it starts, and few starts measure.
        from ..flow.planes import blur

        first = run.sigmas[0]
        if start.sigmas[0] != first or not torch.equal(start.x, run.noise * math.sqrt(1 + first**2)):
            return start
        sigma = min(self.sigma * run.scale, first)
        if sigma <= start.sigmas[-1]:
            raise ValueError(
                f"the control starts at sigma {sigma:.3g}, but the schedule ends at {start.sigmas[-1]:.3g}; raise the "
                "start sigma, or let the schedule end at 0"
            )
        picture = picture_latent(run, self.latent)
        cells = self.blur * run.scale
        mean = blur(picture, cells) if cells > 0 else picture  # [1, 4, h, w]
        spread = (picture - mean).pow(2).mean().item()
        rest = [level for level in start.sigmas if level < sigma * CLOSE] or start.sigmas[-1:]
        return Start(mean + run.noise * math.sqrt(sigma**2 + spread), [sigma, *rest])


@dataclass(frozen=True, eq=False)
class MotionCurves(Control):
    """Give each frame its own motion bucket and frames per second, where other clips have one number for all.

    Points are pairs (position, value), position 0 at the first frame and 1 at the last, linear between them, as for
    `custom_guidance`; no points leave that number alone. `bucket` 0 to 255, `fps` frames per second from 1 (the network
    is told one less).
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
        """Replace the numbers in both branches; a branch that has a number of its own keeps it."""
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
    """Let guidance compare with another motion bucket, so that it pushes away from that one.

    A `bucket` below the clip's own makes it livelier, one above calmer; None is off. `picture` keeps the start picture
    in the branch that is compared with, so that guidance is about motion alone; otherwise that branch has none, as
    usual. Nothing changes where guidance is 1.
    """

    bucket: float | None = 0.0
    picture: bool = False

    def __post_init__(self) -> None:
        if self.bucket is not None:
            check_points(((0.0, self.bucket),), "motion bucket", 0)

    @property
    def active(self) -> bool:
        """Whether there is a bucket to compare with."""
        return self.bucket is not None

    def begin(self, run: Run, start: Start) -> Start:
        """Change nothing, but say where the control can do nothing."""
        if bool((run.inputs.guidance.scale == 1).all()):
            log.warning("guidance is 1 in all frames, so no bucket is compared with; raise it to 1.5 or more")
        return start

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Replace the unconditional branch."""
        other = inputs.unconditional
        if self.picture:
            other = inputs.condition
        elif other is None:
            other = inputs.condition.unconditional()
        return inputs._replace(unconditional=with_scalar(other, BUCKET, torch.tensor([float(self.bucket)])))


def with_scalar(condition: Condition, place: int, values: Tensor) -> Condition:
    """Return the condition with number `place` of its motion vector (0 fps id, 1 bucket, 2 augmentation) replaced.

    values: [1], or one per frame [T]. ValueError for models whose vector holds other numbers.
    """
    vector = condition.vector  # [1|T, V]
    channels = _channels(vector)
    embedded = sinusoidal_embedding(values.float().cpu(), channels).to(vector)  # [1|T, V / 3]
    rows = max(len(vector), len(embedded))
    parts = list(vector.expand(rows, -1).split(channels, dim=1))
    parts[place] = embedded.expand(rows, -1)
    return replace(condition, vector=torch.cat(parts, dim=1))


def check_points(points: Sequence[tuple[float, float]], what: str, least: float) -> None:
    """Raise ValueError unless points (position, value) rise from 0 to 1 and values are `least` or above."""
    before = -math.inf
    for position, value in points:
        if not (0 <= position <= 1 and position > before):
            raise ValueError(
                f"a point of the {what} curve is at {position:g}, but positions rise from 0 (first frame) to 1 (last "
                "frame); put the points in order"
            )
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"the {what} is {value:g}, but it must be {least:g} or above; use bucket 127, fps 7")
        before = position


def _scalar(condition: Condition, place: int) -> Tensor:
    channels = _channels(condition.vector)
    return condition.vector[:, place * channels : (place + 1) * channels]


def _channels(vector: Tensor) -> int:
    width = vector.shape[-1]
    if width % 3:
        raise ValueError(
            f"the model's motion vector has {width} values, which are not fps, bucket and augmentation; use a model of "
            "the SVD family, or leave the control out"
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
"""Combinations of the three, by name; `lively` starts gently, so that the first frames stay with the picture."""
