"""The report of a clip: its measures per frame and pair, their summary, and both as text and JSON."""

import json
import math
from dataclasses import asdict, dataclass

import numpy

SLIGHT = 0.1  # per cent of the range; a smaller median change counts as this, because it is mostly rounding


@dataclass(frozen=True)
class Seam:
    """A join between parts of a clip, compared with the other steps.

    frame: index of the first frame after the join. step: its change over the median change of the other steps.
    flicker: the same for the change that motion does not explain. speed: difference of the pan from that of the steps
    beside it, in pixels per frame.
    """

    frame: int
    step: float
    flicker: float
    speed: float

    @property
    def score(self) -> float:
        """The larger of step and flicker: 1 for a join like any other step, 2 for twice the change."""
        return max(self.step, self.flicker)


@dataclass(frozen=True)
class ClipReport:
    """Measures of a clip. Per-pair tuples hold T - 1 numbers, the first from frame 0 to 1; per-frame tuples hold T.

    Motion is that of the picture, not of the camera, at the centre of the frame: a camera that pans right moves the
    picture left. All motion is per frame.

    pan_x, pan_y: pixels, positive to the right and down. zoom: factor, above 1 where things grow. roll: degrees,
    positive clockwise. rigid: share of the picture, 0..1, that follows this shared motion.
    motion, fast_motion: mean length of the dense motion in pixels, and that of the fastest 5 % of the picture.
    motion_inside, motion_outside: the mean within and without the mask; None without one.
    flicker: mean change of luminance along the motion, in per cent of the range. step: mean change of the colours of
    neighbouring frames, in per cent. loop_step: the same from the last frame to the first.
    colour: distance of the mean colour from that of frame 0, in per cent. contrast, sharpness: standard deviations of
    the luminance and of its Laplacian over those of frame 0.
    psnr (dB, 100 at most), ssim (-1..1): of frame 0 against the start image; None without one.
    similarity: cosine of each frame and the start image (or else frame 0) in the image encoder; None without one.
    seams: one entry per asked join.
    """

    frames: int
    width: int
    height: int
    pan_x: tuple[float, ...]
    pan_y: tuple[float, ...]
    zoom: tuple[float, ...]
    roll: tuple[float, ...]
    rigid: tuple[float, ...]
    motion: tuple[float, ...]
    fast_motion: tuple[float, ...]
    motion_inside: tuple[float, ...] | None
    motion_outside: tuple[float, ...] | None
    flicker: tuple[float, ...]
    step: tuple[float, ...]
    loop_step: float
    colour: tuple[float, ...]
    contrast: tuple[float, ...]
    sharpness: tuple[float, ...]
    psnr: float | None = None
    ssim: float | None = None
    similarity: tuple[float, ...] | None = None
    seams: tuple[Seam, ...] = ()

    @property
    def loop_score(self) -> float:
        """The step from the last frame to the first over the median step: 1 for a seamless loop, 0 for one frame."""
        return ratio(self.loop_step, self.step) if self.step else 0.0

    @property
    def largest_step(self) -> float:
        """The largest step over the median step."""
        return ratio(max(self.step), self.step) if self.step else 0.0

    @property
    def sharpness_slope(self) -> float:
        """How much sharper (or, negative, softer) each frame is than the one before, in per cent of frame 0."""
        return 100 * slope(self.sharpness)

    @property
    def frozen_share(self) -> float | None:
        """Motion inside the mask over motion outside; None without a mask, or where nothing moves outside."""
        if self.motion_inside is None or self.motion_outside is None or not any(self.motion_outside):
            return None
        return mean(self.motion_inside) / mean(self.motion_outside)

    def summary(self) -> dict[str, float | None]:
        """One number per measure: means of the per-pair ones, the median step, the largest drift, the worst seam.

        The shared motion is weighted by the share of the picture that follows it, so that a cut hardly counts. Per cent
        of pans are of the width, for both axes.
        """
        pan_x, pan_y, roll = (mean(values, self.rigid) for values in (self.pan_x, self.pan_y, self.roll))
        return {
            "pan_x": pan_x,
            "pan_y": pan_y,
            "pan_x_percent": 100 * pan_x / self.width,
            "pan_y_percent": 100 * pan_y / self.width,
            "zoom": math.exp(mean(tuple(math.log(factor) for factor in self.zoom), self.rigid)),
            "roll": roll,
            "rigid": mean(self.rigid),
            "motion": mean(self.motion),
            "motion_percent": 100 * mean(self.motion) / self.width,
            "fast_motion": mean(self.fast_motion),
            "motion_inside": None if self.motion_inside is None else mean(self.motion_inside),
            "motion_outside": None if self.motion_outside is None else mean(self.motion_outside),
            "frozen_share": self.frozen_share,
            "flicker": mean(self.flicker),
            "step": float(numpy.median(self.step)) if self.step else 0.0,
            "largest_step": self.largest_step,
            "loop_score": self.loop_score,
            "colour_drift": max(self.colour),
            "contrast_drift": 100 * (max(self.contrast, key=lambda factor: abs(factor - 1)) - 1),
            "sharpness_slope": self.sharpness_slope,
            "psnr": self.psnr,
            "ssim": self.ssim,
            "similarity": None if self.similarity is None else mean(self.similarity),
            "seam_score": max((seam.score for seam in self.seams), default=None),
        }

    def text(self) -> str:
        """The summary in words, a line per measure."""
        return "\n".join(f"{label:<18} {value}" for label, value in self.lines())

    def lines(self) -> list[tuple[str, str]]:
        """The summary in words, as pairs of what was measured and what was found."""
        total = self.summary()
        lines = [("clip", f"{self.frames} frame{'s' * (self.frames > 1)} of {self.width}x{self.height}")]
        if self.frames > 1:
            lines += _motion_lines(self, total)
        if self.psnr is not None and self.ssim is not None:
            lines.append(("first frame", f"PSNR {self.psnr:.1f} dB, SSIM {self.ssim:.3f} against the start image"))
        if self.similarity is not None:
            lines.append(("similarity", f"{total['similarity']:.3f} on average, {min(self.similarity):.3f} at least"))
        for seam in self.seams:
            told = f"step {seam.step:.2f} and flicker {seam.flicker:.2f} times the others'"
            lines.append((f"seam at frame {seam.frame}", f"{told}, speed differs by {seam.speed:.2f} px"))
        return lines

    def to_json(self) -> str:
        """Every number: the fields of this class, and the summary under `summary`."""
        return json.dumps(_rounded({**asdict(self), "summary": self.summary()}), indent=1)


def mean(values: tuple[float, ...], weights: tuple[float, ...] | None = None) -> float:
    """The mean, 0 of nothing; without weights above 0 all count the same."""
    if not values:
        return 0.0
    if weights is None or not any(weights):
        return float(numpy.mean(values))
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def ratio(value: float, others: tuple[float, ...]) -> float:
    """`value` over the median of `others`, both in per cent of the range; 1 where there are no others."""
    return value / max(float(numpy.median(others)), SLIGHT) if others else 1.0


def slope(values: tuple[float, ...]) -> float:
    """Slope per step of the straight line through `values`; 0 of fewer than two."""
    middle = (len(values) - 1) / 2
    spread = sum((index - middle) ** 2 for index in range(len(values)))
    return sum((index - middle) * value for index, value in enumerate(values)) / spread if spread else 0.0


def _motion_lines(report: ClipReport, total: dict) -> list[tuple[str, str]]:
    across = f"{abs(total['pan_x']):.2f} px {'right' if total['pan_x'] >= 0 else 'left'}"
    down = f"{abs(total['pan_y']):.2f} px {'down' if total['pan_y'] >= 0 else 'up'}"
    percent = f"{abs(total['pan_x_percent']):.2f} % and {abs(total['pan_y_percent']):.2f} % of the width"
    lines = [
        ("picture moves", f"{across} and {down} a frame ({percent})"),
        ("zoom", f"{total['zoom']:.4f} a frame, {math.prod(report.zoom):.3f} over the clip"),
        ("roll", f"{total['roll']:+.3f} degrees a frame, clockwise positive"),
        ("rigid", f"{100 * total['rigid']:.0f} % of the picture follows this motion"),
        ("motion amount", f"{total['motion']:.2f} px a frame, {total['fast_motion']:.2f} px the fastest 5 %"),
    ]
    if report.motion_inside is not None:
        inside, outside = total["motion_inside"], total["motion_outside"]
        lines.append(("inside the mask", f"{inside:.2f} px a frame, outside {outside:.2f} px"))
    lines += [
        ("flicker", f"{total['flicker']:.2f} % a frame, beyond motion"),
        ("step", f"{total['step']:.2f} % in the median, the largest is {total['largest_step']:.2f} times that"),
        ("loop", f"last to first frame is {total['loop_score']:.2f} times the median step"),
        ("colour drift", f"{total['colour_drift']:.2f} % at most from frame 0"),
        ("contrast drift", f"{total['contrast_drift']:+.1f} % at most from frame 0"),
        ("sharpness", f"{total['sharpness_slope']:+.2f} % a frame"),
    ]
    return lines


def _rounded(value: object) -> object:
    """Floats to six digits: more is noise."""
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
