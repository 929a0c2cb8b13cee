"""The report of a clip: its measures per frame and pair, their summary, and both as text and JSON."""

import cmath
import json
import math
from dataclasses import asdict, dataclass

import numpy

SLIGHT = 0.1  # per cent of the range; a smaller median change counts as this, because it is mostly rounding
# A cut: a smaller share of the picture than this moves together, and the change is above this multiple of the median
# flicker.
CUT_SHARE, CUT_FLICKER = 0.5, 5.0
LEAST_MOVES = {"right": 2.0, "up": 2.0, "zoom": 4.0, "roll": 1.0}
"""Least amounts of an asked move to compare with, by field of CameraTrack: per cent of the width, per cent, degrees."""


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
        """Return the larger of step and flicker: 1 for a join like any other step, 2 for twice the change."""
        return max(self.step, self.flicker)


@dataclass(frozen=True)
class CameraTrack:
    """A camera over a flat picture, one value per frame, relative to frame 0.

    right, up: the point in the middle of the frame, in per cent of the width. zoom: factor. roll: degrees clockwise.
    """

    right: tuple[float, ...]
    up: tuple[float, ...]
    zoom: tuple[float, ...]
    roll: tuple[float, ...]

    def text(self) -> str:
        """Return the position in the last frame in words."""
        across = f"{'right' if self.right[-1] >= 0 else 'left'} {abs(self.right[-1]):.1f} %"
        along = f"{'up' if self.up[-1] >= 0 else 'down'} {abs(self.up[-1]):.1f} %"
        return f"{across}, {along} of the width, zoom {self.zoom[-1]:.3f}, roll {self.roll[-1]:+.1f} degrees"

    def followed(self, asked: "CameraTrack") -> dict[str, float | None]:
        """Return how far this track follows another: 1 for all of a move, 0 for none, by the name of the move.

        The slope through the origin of this track over the other; None for a move that the other hardly makes.
        """
        found: dict[str, float | None] = {}
        for name, least in LEAST_MOVES.items():
            own, wanted = getattr(self, name), getattr(asked, name)
            if name == "zoom":
                own, wanted = (tuple(100 * math.log(factor) for factor in values) for values in (own, wanted))
            power = sum(value**2 for value in wanted)
            moves = max(abs(value) for value in wanted) >= least
            found[name] = sum(a * b for a, b in zip(own, wanted, strict=True)) / power if moves else None
        return found


@dataclass(frozen=True)
class ClipReport:
    """Measures of a clip. Tuples per pair hold T - 1 numbers, the first from frame 0 to 1; tuples per frame hold T.

    All motion is per frame, and that of the picture: a camera that pans right moves the picture left.

    pan_x, pan_y: shared motion at the centre in pixels, positive to the right and down. zoom: factor, above 1 if things
    grow. roll: degrees, positive clockwise. rigid: share of the picture, 0..1, that follows this shared motion.
    motion, fast_motion: mean length of the dense flow in pixels, and that of the fastest 5 % of the picture.
    motion_inside, motion_outside: the mean inside and outside of the mask; None without a mask.
    flicker: mean change of luminance along the motion, in per cent of the range.
    step: mean change of colours between neighbouring frames, in per cent. loop_step: from the last frame to the first.
    colour: distance of the mean colour from that of frame 0, in per cent.
    contrast, sharpness: standard deviations of the luminance and of its Laplacian, over those of frame 0.
    psnr (dB, at most 100), ssim (-1..1): of frame 0 and the start image; None without one.
    similarity: cosine of each frame and the start image (or else frame 0) in the image encoder; None without one.
    seams: one entry per requested join. asked: the camera path that the clip was made with; None if unknown.
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
    asked: CameraTrack | None = None

    @property
    def cuts(self) -> tuple[int, ...]:
        """Return the pairs (0 for that of frames 0 and 1) whose frames seem to belong to different scenes."""
        return tuple(
            pair
            for pair, (share, flicker) in enumerate(zip(self.rigid, self.flicker, strict=True))
            if share < CUT_SHARE and ratio(flicker, self.flicker) > CUT_FLICKER
        )

    @property
    def camera(self) -> CameraTrack:
        """The shared motion of all pairs put together, as the track of a camera.

        Pans after a zoom or roll are turned and scaled with it. A cut counts as no motion.
        """
        scale, shift, roll = 1 + 0j, 0j, 0.0  # the picture of frame 0 in frame k: p -> scale * p + shift
        rows = [(0.0, 0.0, 1.0, 0.0)]
        for pair, (x, y, zoom, turn) in enumerate(zip(self.pan_x, self.pan_y, self.zoom, self.roll, strict=True)):
            if pair not in self.cuts:
                step = cmath.rect(zoom, math.radians(turn))
                scale, shift, roll = step * scale, step * shift + complex(x, y), roll - turn
            middle = -shift / scale
            rows.append((100 * middle.real / self.width, -100 * middle.imag / self.width, abs(scale), roll))
        return CameraTrack(*zip(*rows, strict=True))

    @property
    def loop_score(self) -> float:
        """Return the step from the last frame to the first over the median step: 1 is seamless, 0 for one frame."""
        return ratio(self.loop_step, self.step) if self.step else 0.0

    @property
    def largest_step(self) -> float:
        """Return the largest step over the median step."""
        return ratio(max(self.step), self.step) if self.step else 0.0

    @property
    def sharpness_slope(self) -> float:
        """Return how much sharper (negative: softer) the frames become per frame, in per cent of frame 0."""
        return 100 * slope(self.sharpness)

    @property
    def frozen_share(self) -> float | None:
        """Return motion inside the mask over motion outside; None without a mask or without motion outside."""
        if self.motion_inside is None or self.motion_outside is None or not any(self.motion_outside):
            return None
        return mean(self.motion_inside) / mean(self.motion_outside)

    @property
    def followed(self) -> dict[str, float | None]:
        """Return how far the clip follows the asked camera path (`CameraTrack.followed`); empty if none is known."""
        if self.asked is None:
            return {}
        known = len(self.asked.right)
        own = CameraTrack(*(getattr(self.camera, name)[:known] for name in LEAST_MOVES))
        return own.followed(self.asked)

    def summary(self) -> dict[str, float | None]:
        """Return one number per measure: means of pairs, the median step, the largest drift, the worst seam.

        Shared motion is weighted by the share of the picture that follows it, so a cut hardly counts. Per cent of pans
        are of the width, on both axes. `camera_` numbers are the track over the whole clip, `followed_` ones how much
        of the asked path it follows (None for moves that were not asked for).
        """
        pan_x, pan_y, roll = (mean(values, self.rigid) for values in (self.pan_x, self.pan_y, self.roll))
        camera = {f"camera_{name}": getattr(self.camera, name)[-1] for name in LEAST_MOVES}
        followed = {f"followed_{name}": self.followed.get(name) for name in LEAST_MOVES}
        return {
            "pan_x": pan_x,
            "pan_y": pan_y,
            "pan_x_percent": 100 * pan_x / self.width,
            "pan_y_percent": 100 * pan_y / self.width,
            "zoom": math.exp(mean(tuple(math.log(factor) for factor in self.zoom), self.rigid)),
            "roll": roll,
            "rigid": mean(self.rigid),
            **camera,
            **followed,
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
        """Return the summary in words, a line per measure."""
        return "\n".join(f"{label:<18} {value}" for label, value in self.lines())

    def lines(self) -> list[tuple[str, str]]:
        """Return the summary in words, as pairs of a name and its values."""
        total = self.summary()
        lines = [("clip", f"{self.frames} frame{'s' * (self.frames > 1)} of {self.width}x{self.height}")]
        if self.frames > 1:
            lines += _motion_lines(self, total)
        if self.psnr is not None and self.ssim is not None:
            lines.append(("first frame", f"PSNR {self.psnr:.1f} dB, SSIM {self.ssim:.3f} against the start image"))
        if self.similarity is not None:
            lines.append(("similarity", f"{total['similarity']:.3f} on average, {min(self.similarity):.3f} at least"))
        for seam in self.seams:
            values = f"step {seam.step:.2f} and flicker {seam.flicker:.2f} times those of other frames"
            lines.append((f"seam at frame {seam.frame}", f"{values}, speed differs by {seam.speed:.2f} px"))
        return lines

    def to_json(self) -> str:
        """Return every number as JSON: the fields of this class, the camera track, and the summary."""
        content = {**asdict(self), "camera": asdict(self.camera), "summary": self.summary()}
        return json.dumps(_rounded(content), indent=1)


def mean(values: tuple[float, ...], weights: tuple[float, ...] | None = None) -> float:
    """Return the weighted mean, 0 for no values; without weights above 0 all count the same."""
    if not values:
        return 0.0
    if weights is None or not any(weights):
        return float(numpy.mean(values))
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def ratio(value: float, others: tuple[float, ...]) -> float:
    """Return `value` over the median of `others`, both in per cent of the range; 1 if there are no others."""
    return value / max(float(numpy.median(others)), SLIGHT) if others else 1.0


def slope(values: tuple[float, ...]) -> float:
    """Return the slope per step of the straight line through `values`; 0 for fewer than two."""
    middle = (len(values) - 1) / 2
    spread = sum((index - middle) ** 2 for index in range(len(values)))
    return sum((index - middle) * value for index, value in enumerate(values)) / spread if spread else 0.0


def _motion_lines(report: ClipReport, total: dict) -> list[tuple[str, str]]:
    """Return the lines of the summary that need two frames."""
    across = f"{abs(total['pan_x']):.2f} px {'right' if total['pan_x'] >= 0 else 'left'}"
    down = f"{abs(total['pan_y']):.2f} px {'down' if total['pan_y'] >= 0 else 'up'}"
    percent = f"{abs(total['pan_x_percent']):.2f} % and {abs(total['pan_y_percent']):.2f} % of the width"
    lines = [
        ("picture moves", f"{across} and {down} a frame ({percent})"),
        ("zoom", f"{total['zoom']:.4f} a frame"),
        ("roll", f"{total['roll']:+.3f} degrees a frame, clockwise positive"),
        ("as a camera", report.camera.text()),
    ]
    if report.asked is not None:
        followed = ", ".join(f"{name} {100 * s:.0f} %" for name, s in report.followed.items() if s is not None)
        lines.append(("asked for", report.asked.text()))
        lines.append(("followed", followed or "no pan, zoom or roll was requested"))
    lines += [
        ("shared by", f"{100 * total['rigid']:.0f} % of the picture; the rest moves differently"),
        ("motion amount", f"{total['motion']:.2f} px a frame, {total['fast_motion']:.2f} px in the fastest 5 %"),
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
    """Return nested numbers with floats rounded to six digits, because more are noise."""
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
