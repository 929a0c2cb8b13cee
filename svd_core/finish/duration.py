"""Plan the duration of a film: how many frames the model generates, and how many are interpolated between them."""

import math
from dataclasses import dataclass
from fractions import Fraction

from ..video.clip import parse_fps

SLOWEST = 4  # least of the model's frames per second: below it, most of what is seen is interpolated
MOST_FACTOR = 16


@dataclass(frozen=True)
class Duration:
    """A planned film: `frames` of the model, `factor` steps from each to the next, `count` frames shown at `fps`.

    cut: interpolated frames dropped at the end, so that the film has exactly the requested duration.
    """

    frames: int
    factor: int
    fps: Fraction
    count: int
    cut: int

    @property
    def seconds(self) -> float:
        """Duration of the film in seconds."""
        return float(self.count / self.fps)

    @property
    def motion_fps(self) -> float:
        """The model's own frames per second of the film."""
        return float(self.fps / self.factor)

    def text(self, clip_frames: int) -> str:
        """Return the plan in words, for a model of `clip_frames` frames."""
        rate = f"{float(self.fps):g}"
        lines = [
            f"{self.count} frames at {rate} fps: {self.seconds:.2f} s",
            f"{self.frames} frames of the model, {self.factor - 1} between each two: "
            f"({self.frames} - 1) x {self.factor} + 1 = {self.count + self.cut}",
            f"the model's own frames play at {self.motion_fps:.1f} fps; set fps in Set Motion near it",
        ]
        if self.cut:
            lines.append(f"the last {self.cut} frames are dropped to match the duration")
        if self.frames > clip_frames:
            lines.append(
                f"the model makes {clip_frames} frames at once; add Extend SVD Clip, or use Denoise in Windows"
            )
        if self.factor > 8:
            lines.append(f"{self.factor - 1} frames between each two are many: more frames of the model look better")
        return "\n".join(lines)


def plan_duration(
    seconds: float, fps: float | Fraction, *, clip_frames: int = 25, factor: int = 0, keep_frames: bool = True
) -> Duration:
    """Return the film of at least `seconds` at `fps` with the fewest interpolated frames.

    clip_frames: frames of the model's own clip. The plan asks for more of them where the film would otherwise need more
    than 16 steps, or fewer than 4 of the model's frames per second.
    factor: steps between neighbouring frames of the model; 0 chooses it.
    keep_frames: True keeps all frames (5 s at 24 fps become 121), False drops those past the duration (120).
    Raises ValueError for numbers outside their range.
    """
    rate = parse_fps(fps)
    _check_seconds(seconds)
    if clip_frames < 2:
        raise ValueError(f"the model's clip needs 2 frames or more (got {clip_frames}); use 14 for SVD, 25 for SVD-XT")
    if factor and not 1 <= factor <= MOST_FACTOR:
        raise ValueError(f"interpolation factor {factor} is outside 1 to {MOST_FACTOR}; use 2 to 8, or 0 for automatic")
    wanted = max(2, math.ceil(Fraction(str(seconds)) * rate))
    steps = _choose(wanted, rate, clip_frames) if factor == 0 else factor
    frames = 1 + math.ceil((wanted - 1) / steps)
    count = (frames - 1) * steps + 1
    cut = 0 if keep_frames else count - wanted
    return Duration(frames, steps, rate, count - cut, cut)


def fit_duration(seconds: float, fps: float | Fraction, clip_frames: int, ending: str = "open") -> tuple[int, int]:
    """Return the factor and the number of frames of a film of exactly `seconds` from a finished clip.

    The factor is the smallest that makes the film long enough; the film ends after the returned number of frames.
    ending: as in `Reel`. Raises ValueError where the largest factor is too small.
    """
    rate = parse_fps(fps)
    _check_seconds(seconds)
    if clip_frames < 2:
        raise ValueError(f"a clip of {clip_frames} frame cannot be stretched to {seconds:g} s; use 2 frames or more")
    wanted = max(1, round(Fraction(str(seconds)) * rate))
    # Each step from frame to frame gives `factor` frames; an open ending adds the last frame alone.
    steps = {"open": clip_frames - 1, "loop": clip_frames, "ping-pong": 2 * (clip_frames - 1)}[ending]
    alone = 1 if ending == "open" else 0
    factor = max(1, math.ceil(Fraction(wanted - alone, steps)))
    largest = max(1, min(math.floor(rate / SLOWEST), MOST_FACTOR))
    if factor > largest:
        most = steps * largest + alone
        raise ValueError(
            f"{seconds:g} s at {float(rate):g} fps need {wanted} frames, but a clip of {clip_frames} frames gives at "
            f"most {most} ({float(most / rate):.2f} s); make a longer clip, or use --interpolate instead of --seconds"
        )
    return factor, wanted


def _check_seconds(seconds: float) -> None:
    if not 0.1 <= seconds <= 3600:
        raise ValueError(f"the duration of a film must be 0.1 to 3600 s (got {seconds:g}); use 5")


def _choose(wanted: int, rate: Fraction, clip_frames: int) -> int:
    """Return the factor with which one clip of the model fills the film, at most what SLOWEST allows."""
    fitting = math.ceil((wanted - 1) / (clip_frames - 1))
    return max(1, min(fitting, math.floor(rate / SLOWEST), MOST_FACTOR))
