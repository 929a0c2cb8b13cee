"""How many frames a film of some seconds needs: what the model makes, and how many are put between them."""

import math
from dataclasses import dataclass
from fractions import Fraction

from ..video.clip import parse_fps

SLOWEST = 4  # frames of the model a second: below it, what lies between them is mostly guessed
MOST_FACTOR = 16


@dataclass(frozen=True)
class Duration:
    """A film: `frames` of the model, `factor` steps from each to the next, `count` frames shown at `fps`.

    `cut` frames are left out at the end, so that the film has the length that was asked for.
    """

    frames: int
    factor: int
    fps: Fraction
    count: int
    cut: int

    @property
    def seconds(self) -> float:
        """How long the film is shown."""
        return float(self.count / self.fps)

    @property
    def motion_fps(self) -> float:
        """Frames per second at which the model's own frames are passed."""
        return float(self.fps / self.factor)

    def text(self, clip_frames: int) -> str:
        """What is made of a model of `clip_frames` frames, in words."""
        rate = f"{float(self.fps):g}"
        lines = [
            f"{self.count} frames at {rate} a second: {self.seconds:.2f} s",
            f"{self.frames} frames of the model, {self.factor - 1} between each two: "
            f"({self.frames} - 1) x {self.factor} + 1 = {self.count + self.cut}",
            f"the model's frames are passed at {self.motion_fps:.1f} a second; set fps in Set Motion near it",
        ]
        if self.cut:
            lines.append(f"the last {self.cut} of them are left out, to meet the duration")
        if self.frames > clip_frames:
            lines.append(
                f"the model makes {clip_frames} at once: go on with Extend SVD Clip, or use Denoise in Windows"
            )
        if self.factor > 8:
            lines.append(f"{self.factor - 1} frames between each two is much: more frames of the model look better")
        return "\n".join(lines)


def plan_duration(
    seconds: float, fps: float | Fraction, *, clip_frames: int = 25, factor: int = 0, keep_frames: bool = True
) -> Duration:
    """The film of at least `seconds` at `fps` that a model of `clip_frames` frames gives with the fewest in between.

    factor: steps between neighbouring frames of the model, 0 to choose it. keep_frames: whether all frames that come
    of it are shown ("5 s at 24 fps" is 121 frames), or those past the duration are left out (120). The clip is made
    longer than `clip_frames` where more than 16 steps, or fewer than 4 of the model's frames a second, would be needed.
    Raises ValueError for numbers that make no film.
    """
    rate = parse_fps(fps)
    _check_seconds(seconds)
    if clip_frames < 2:
        raise ValueError(f"a model of {clip_frames} frames cannot move; use 14 for SVD, 25 for SVD-XT")
    if factor and not 1 <= factor <= MOST_FACTOR:
        raise ValueError(f"interpolation factor {factor} is outside 1 to {MOST_FACTOR}; use 2 to 8, or 0 to choose it")
    wanted = max(2, math.ceil(Fraction(str(seconds)) * rate))
    steps = _choose(wanted, rate, clip_frames) if factor == 0 else factor
    frames = 1 + math.ceil((wanted - 1) / steps)
    count = (frames - 1) * steps + 1
    cut = 0 if keep_frames else count - wanted
    return Duration(frames, steps, rate, count - cut, cut)


def fit_duration(seconds: float, fps: float | Fraction, clip_frames: int, ending: str = "open") -> tuple[int, int]:
    """For a clip that is there already: the factor, and the frames of a film that lasts exactly `seconds`.

    The factor is the least with which the way through the clip (ending: as in `Reel`) is long enough; the film ends
    after so many frames of it. Raises ValueError where even the most frames in between are too few.
    """
    rate = parse_fps(fps)
    _check_seconds(seconds)
    if clip_frames < 2:
        raise ValueError(f"a clip of {clip_frames} frame cannot be stretched to {seconds:g} s; give one of 2 or more")
    wanted = max(1, round(Fraction(str(seconds)) * rate))
    # Steps from frame to frame, each of which gives `factor` frames; the last frame of an open end stands alone.
    steps = {"open": clip_frames - 1, "loop": clip_frames, "ping-pong": 2 * (clip_frames - 1)}[ending]
    alone = 1 if ending == "open" else 0
    factor = max(1, math.ceil(Fraction(wanted - alone, steps)))
    largest = max(1, min(math.floor(rate / SLOWEST), MOST_FACTOR))
    if factor > largest:
        most = steps * largest + alone
        raise ValueError(
            f"{seconds:g} s at {float(rate):g} a second need {wanted} frames, and a clip of {clip_frames} gives at "
            f"most {most}, {float(most / rate):.2f} s; make a longer clip, or leave --seconds out and give "
            "--interpolate"
        )
    return factor, wanted


def _check_seconds(seconds: float) -> None:
    if not 0.1 <= seconds <= 3600:
        raise ValueError(f"a film of {seconds:g} seconds cannot be planned; use 0.1 to 3600")


def _choose(wanted: int, rate: Fraction, clip_frames: int) -> int:
    """The factor with which a whole clip fills the film, unless it would be passed too slowly."""
    fitting = math.ceil((wanted - 1) / (clip_frames - 1))
    return max(1, min(fitting, math.floor(rate / SLOWEST), MOST_FACTOR))
