"""Measure the controls at the product's untouched defaults, as a user gets them, on photographs outside all training:

    python -m recipes.control.defaults KIND [--size 192x128] [--frames 14]
        [--photographs coffee camera FILE.jpg ...] [--cases TEXT ...] [--log FILE.jsonl]

Only the path, the size and the number of frames are given; strength, mode, motion bucket, steps, guidance and seed are
those of the product. Every result is added to the log at once, and results in the log are not measured again, so a run
may be stopped at any time. Moves are summed up at the end: slope, correlation and least sharpness of each kind of move.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from svd_core.controls.camera.control import camera_signal
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.warping import shrink, warp
from svd_core.flow.planes import luminance

from . import combined, edited, held, steered
from .camera import SWEEP, measured_move, sharpness_kept, slope_of
from .photographs import PACKAGED, Photograph, model

LOG = Path("control_defaults.jsonl")
KEY = ("what", "photograph", "size", "frames", "case")  # of a result in the log
BORDER = 2  # pixels beside what comes into view, where the Laplacian sees both sides

Measurement = Callable[[Photograph, str], dict]


def move(photograph: Photograph, path: str) -> dict:
    """Move the camera along a path of one move; return what was asked and measured, and the sharpness kept.

    filmed_got, filmed_kept: the same of the frames that are imposed, which only the autoencoder has seen. Detail that
    leaves the picture, and what the fill of the part that comes into view lacks, is lost there, too.
    """
    kind = path.split()[0]
    asked = dict(SWEEP[kind])[path]
    clip = photograph.clip(camera=path)
    filmed = filmed_clip(photograph, path, len(clip))
    return {
        "kind": kind,
        "asked": asked,
        "got": measured_move(kind, clip),
        "kept": sharpness_kept(clip),
        "content": content_kept(clip, path),
        "filmed_got": measured_move(kind, filmed),
        "filmed_kept": sharpness_kept(filmed),
    }


def filmed_clip(photograph: Photograph, path: str, frames: int) -> Tensor:
    """Return what the camera sees of the photograph along a path after the autoencoder: [T, H, W, 3] in 0..1."""
    signal = camera_signal(model().encode_latent, photograph.picture, parse_path(path), frames).signal
    return ((model().decode(signal.latents) + 1) / 2).clamp(0, 1).movedim(1, -1).contiguous()


def content_kept(clip: Tensor, path: str) -> float:
    """Return the variance of the Laplacian of the last frame over that of the first, for what both of them show.

    The first frame is warped along the path, so that the same content is compared at the same size; what came into
    view is left out.
    """
    poses = parse_path(path).poses(len(clip)).at([len(clip) - 1])
    moved, valid = warp(clip[:1].movedim(-1, 1), poses)
    inside = shrink(valid, BORDER)[0, 0, 1:-1, 1:-1] > 0.5
    before, after = (laplacian(frame)[inside].var() for frame in (moved[0].movedim(0, -1), clip[-1]))
    return float(after / before.clamp(min=1e-9))


def laplacian(frame: Tensor) -> Tensor:
    """Return the Laplacian [H - 2, W - 2] of the luminance of a frame [H, W, 3]."""
    grey = luminance(frame)
    return grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]


KINDS: dict[str, tuple[Measurement, tuple[str, ...]]] = {
    "moves": (move, tuple(path for rows in SWEEP.values() for path, _ in rows)),
    **steered.KINDS,
    **combined.KINDS,
    **edited.KINDS,
    **held.KINDS,
}
"""Kinds of measurements: the function, and what it is called with."""


def jobs(
    kind: str, names: list[str], size: tuple[int, int], frames: int | None, cases: Sequence[str] = ()
) -> Iterator[tuple[dict, Callable]]:
    """Yield the key of each measurement, and a function that measures it; without `cases`, the usual ones."""
    function, usual = KINDS[kind]
    for name in names:
        photograph = lru_cache(maxsize=1)(lambda name=name: Photograph(name, size, frames))
        for case in cases or usual:
            key = {"what": kind, "photograph": Path(name).stem, "size": list(size), "frames": frames, "case": case}
            yield key, lambda photograph=photograph, case=case: function(photograph(), case)


def read_log(path: Path) -> list[dict]:
    """Return the results in a log; none if there is no log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def summary(rows: list[dict]) -> dict[tuple, dict]:
    """Return slope, correlation, signs and the least sharpness of the moves by (photograph, size, frames, kind)."""
    grouped: dict[tuple, list[dict]] = {}
    for row in rows:
        group = (row["photograph"], tuple(row["size"]), row["frames"], row["kind"])
        grouped.setdefault(group, []).append(row)
    found = {}
    for (*where, kind), members in grouped.items():
        asked, got = [row["asked"] for row in members], [row["got"] for row in members]
        middle = 1.0 if kind == "zoom" else 0.0
        found[(*where, kind)] = {
            "slope": slope_of(kind, asked, got),
            "correlation": float(torch.corrcoef(torch.tensor([asked, got], dtype=torch.float64))[0, 1]),
            "signs": sum((a > middle) == (g > middle) for a, g in zip(asked, got, strict=True)),
            "amounts": len(members),
            "kept": min(row["kept"] for row in members),
            "content": min(row["content"] for row in members),
        }
    return found


def main() -> None:
    """Read the command line, measure what the log lacks, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=tuple(KINDS), default="moves")
    parser.add_argument("--size", default="128x128", metavar="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, help="default: the model's own")
    parser.add_argument("--photographs", nargs="+", default=list(PACKAGED), metavar="NAME|FILE")
    parser.add_argument(
        "--cases", nargs="+", metavar="TEXT", help="paths, pictures or settings to measure instead of the usual ones"
    )
    parser.add_argument("--log", type=Path, default=LOG)
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = (int(side) for side in options.size.split("x"))
    done = [
        {key: row[key] for key in ("what", "photograph", "size", "frames", "case")} for row in read_log(options.log)
    ]
    for key, measurement in jobs(
        options.kind, options.photographs, (width, height), options.frames, options.cases or ()
    ):
        if key in done:
            continue
        started = time.monotonic()
        with torch.inference_mode():
            row = key | measurement()
        with options.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        print(f"{row['photograph']}, {row['case']}: {row} ({time.monotonic() - started:.0f} s)", flush=True)
    for where, numbers in summary([row for row in read_log(options.log) if row["what"] == "moves"]).items():
        print(*where, {name: round(value, 3) for name, value in numbers.items()})


if __name__ == "__main__":
    main()
