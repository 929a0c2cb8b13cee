"""Timing of a film: each panel gets whole frames, and the film lasts exactly the sum of the panels' seconds."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .panels import Panel


@dataclass(frozen=True)
class Shot:
    """One panel in the film; all values are in frames.

    start: its first frame in the film. frames: its length until the next panel begins. fade: length of the cross-fade
    from the panel before, at its start. tail: frames after its end, which the next panel's cross-fade still shows.
    """

    panel: Panel
    start: int
    frames: int
    fade: int
    tail: int

    @property
    def clip_frames(self) -> int:
        """Length of the clip that the shot needs."""
        return self.frames + self.tail


@dataclass(frozen=True)
class Timing:
    """All shots of a film, and its frame rate."""

    shots: tuple[Shot, ...]
    fps: Fraction

    @property
    def frames(self) -> int:
        """Number of frames of the film."""
        return sum(shot.frames for shot in self.shots)

    def rows(self) -> list[dict[str, object]]:
        """Return the timing table, one dictionary per panel. Seconds are those of whole frames."""
        rows = []
        for number, shot in enumerate(self.shots, 1):
            panel = shot.panel
            rows.append(
                {
                    "panel": number,
                    "title": panel.title or panel.image or f"picture {number}",
                    "start": self.seconds(shot.start),
                    "end": self.seconds(shot.start + shot.frames),
                    "seconds": self.seconds(shot.frames),
                    "frames": shot.frames,
                    "first_frame": shot.start,
                    "last_frame": shot.start + shot.frames - 1,
                    "transition": "cross-fade" if shot.fade else "cut",
                    "fade_frames": shot.fade,
                    "move": panel.move or "",
                    "bucket": f"{panel.bucket:g}",
                    "seed": panel.seed,
                }
            )
        return rows

    def seconds(self, frames: int) -> float:
        """Return the duration of `frames` frames in seconds, rounded to milliseconds."""
        return round(float(frames / self.fps), 3)

    def to_csv(self) -> str:
        """Return the timing table as CSV for spreadsheets."""
        text, rows = io.StringIO(), self.rows()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def text(self) -> str:
        """Return the timing table as aligned text, with the length of the film in the last line."""
        shown = ("panel", "title", "start", "end", "seconds", "frames", "transition", "move", "bucket", "seed")
        table = [list(shown)]
        for row in self.rows():
            times = {name: f"{row[name]:.2f}" for name in ("start", "end", "seconds")}
            fade = f"cross-fade {row['fade_frames']}" if row["fade_frames"] else "cut"
            table.append([str({**row, **times, "transition": fade}[name]) for name in shown])
        widths = [max(len(line[column]) for line in table) for column in range(len(shown))]
        lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in table]
        length = f"{self.frames} frames, {self.seconds(self.frames):g} s at {float(self.fps):g} fps"
        total = f"{len(self.shots)} panel{'s' * (len(self.shots) > 1)}, {length}"
        return "\n".join([*(line.rstrip() for line in lines), total])


def plan_timing(panels: Sequence[Panel], fps: Fraction, clip_frames: int) -> Timing:
    """Lay out panels at `fps`; all their fields are set except `seconds`, whose default is `clip_frames` frames.

    The ends of panels are rounded to frames, not their lengths. Rounding errors then do not add up: the film has
    round(sum of seconds * fps) frames. A cross-fade takes the first frames of the panel that begins with it and adds no
    time. Raises ValueError for a panel of less than a frame, and for a cross-fade longer than its panel.
    """
    usual = Fraction(clip_frames) / fps
    ends, end = [0], Fraction(0)
    for panel in panels:
        end += usual if panel.seconds is None else Fraction(panel.seconds).limit_denominator(100000)
        ends.append(_rounded(end * fps))
    lengths = [after - start for start, after in zip(ends[:-1], ends[1:], strict=True)]
    fades = [0]
    for panel, length in list(zip(panels, lengths, strict=True))[1:]:
        fade = _rounded(Fraction(panel.fade or 0).limit_denominator(100000) * fps)
        fades.append(fade if panel.transition == "cross-fade" else 0)
        if fades[-1] > length > 0:
            raise ValueError(
                f"{panel.row}: the cross-fade lasts {panel.fade:g} s, longer than the panel of {float(length / fps):g} "
                "s; shorten it, or give the panel more seconds"
            )
    for panel, length in zip(panels, lengths, strict=True):
        if length < 1:
            raise ValueError(
                f"{panel.row}: {panel.seconds:g} s at {float(fps):g} frames per second are less than a frame; give it "
                f"at least {float(1 / fps):.3g} s"
            )
    tails = [*fades[1:], 0]
    shots = (Shot(*part) for part in zip(panels, ends[:-1], lengths, fades, tails, strict=True))
    return Timing(tuple(shots), fps)


def _rounded(value: Fraction) -> int:
    """Round to the nearest whole number, halves up."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)
