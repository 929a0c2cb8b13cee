"""Measures nano on pictures it has never seen: python -m recipes.nano.evaluate [--table FILE] [--sheet FILE].

For every held-out photograph and scene, or every picture of a folder (--folder DIR): round trip through the
autoencoder, then a clip at every motion bucket: first frame against the picture, optical flow (scikit-image's TV-L1),
drift of the mean colour.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from skimage.registration import optical_flow_tvl1
from torch import Tensor

import svd_core as svd
from svd_core.pictures import as_batch, open_picture
from svd_core.storyboard.panels import PICTURES

from .camera import expected_flow
from .networks import HELD_OUT_SEED, psnr
from .photographs import HELD_OUT, fit_frame, load_photograph
from .scenes import draw_held_out_scene
from .sheets import contact_sheet

BUCKETS = (10, 60, 127, 200, 255)
SCENES = 4


@dataclass(frozen=True)
class Shot:
    """The measurements of one clip."""

    picture: str
    size: str
    frames: int
    fps: float
    bucket: int
    round_trip: float
    first_frame: float
    flow: float
    taught: float
    drift: float
    seconds: float

    def row(self) -> str:
        """Return one line of the Markdown table."""
        return (
            f"| {self.picture} | {self.size} | {self.frames} | {self.fps:g} | {self.bucket} | {self.round_trip:.2f} dB "
            f"| {self.first_frame:.2f} dB | {self.flow:.2f} ({self.taught:.2f}) "
            f"| {self.drift:.1f} % |"
        )


HEADING = (
    "| picture | size | frames | fps | bucket | autoencoder | first frame | flow, pixels per frame (taught) "
    "| drift |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def mean_flow(frames: Tensor) -> float:
    """Return the mean length of the flow in pixels per frame of a clip [T, 3, H, W] in -1..1.

    Every second frame is compared, and the flow halved, because the estimator is weak below a pixel.
    """
    grey = (frames.mean(1) + 1).numpy() / 2
    flows = [optical_flow_tvl1(grey[first], grey[first + 2]) for first in range(0, len(grey) - 2, 2)]
    return float(np.mean([np.hypot(down, right).mean() / 2 for down, right in flows]))


def colour_drift(frames: Tensor) -> float:
    """Return the largest drift of a channel's mean from frame 0 in [T, 3, H, W] in -1..1, in per cent of the range."""
    means = frames.mean(dim=(2, 3))
    return float((means - means[0]).abs().max()) * 50


def shoot(model: svd.SVDModel, name: str, picture: Tensor, settings: svd.AnimateSettings) -> tuple[Shot, Tensor]:
    """Animate one picture [3, H, W]; return the measurements and the clip [T, 3, H, W] in -1..1."""
    trip = model.decode(model.encode_latent(picture[None]) * 0.18215, plan="exact")[0]
    started = time.time()
    frames = svd.animate(model, picture[None], settings).permute(0, 3, 1, 2) * 2 - 1
    seconds = time.time() - started
    if not frames.isfinite().all():
        raise ValueError(f"{name} at bucket {settings.motion_bucket} holds numbers that are not finite")
    shot = Shot(
        picture=name,
        size=f"{picture.shape[2]}x{picture.shape[1]}",
        frames=len(frames),
        fps=settings.fps,
        bucket=settings.motion_bucket,
        round_trip=psnr(trip, picture),
        first_frame=psnr(frames[0], picture),
        flow=mean_flow(frames),
        taught=expected_flow(picture, settings.motion_bucket, settings.fps),
        drift=colour_drift(frames),
        seconds=seconds,
    )
    return shot, frames


def held_out_pictures(width: int, height: int) -> dict[str, Tensor]:
    """Return photographs and scenes that were never trained on, [3, H, W] in -1..1."""
    pictures = {name: fit_frame(load_photograph(name), width, height) for name in HELD_OUT}
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    for number in range(SCENES):
        pictures[f"scene {number + 1}"] = draw_held_out_scene(width, height, generator)
    return pictures


def pictures_of(folder: Path, width: int, height: int) -> dict[str, Tensor]:
    """Return the pictures of a folder in the order of their names, [3, H, W] in -1..1."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURES]
    if not files:
        raise SystemExit(f"{folder} holds no pictures; give a folder with {', '.join(PICTURES)} files")
    return {file.stem: fit_frame(as_batch(open_picture(file))[0], width, height) for file in files}


def rises_strictly(shots: list[Shot]) -> bool:
    """Return whether every motion bucket moves the picture more than the one before."""
    return all(first.flow < second.flow for first, second in zip(shots, shots[1:], strict=False))


def verdict(shots: list[Shot]) -> str:
    """Return one line about a picture: whether the flow rises strictly with the bucket, and by how much."""
    trend = "rises strictly" if rises_strictly(shots) else "does not rise"
    return f"{shots[0].picture}: flow {trend}, x{shots[-1].flow / shots[0].flow:.1f}"


def summary(measured: list[list[Shot]]) -> str:
    """Return a summary over all pictures, each given as a list of shots by bucket."""
    trips = [shots[0].round_trip for shots in measured]
    every = [shot for shots in measured for shot in shots]
    return (
        f"{len(measured)} pictures: round trip {np.mean(trips):.2f} dB on average, first frame at most "
        f"{max(shot.round_trip - shot.first_frame for shot in every):.2f} dB below it; flow rises strictly on "
        f"{sum(map(rises_strictly, measured))}, by {min(shots[-1].flow / shots[0].flow for shots in measured):.1f} "
        f"times or more; drift at most {max(shot.drift for shot in every):.1f} %"
    )


def main() -> None:
    """Read the command line, measure, and write the table and the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--table", type=Path, help="Markdown file of the numbers")
    parser.add_argument("--sheet", type=Path, help="picture of the clips at buckets 10, 127 and 255")
    parser.add_argument("--folder", type=Path, help="pictures of your own instead of the held-out ones")
    parser.add_argument("--pictures", nargs="+", help="only these pictures (default: all)")
    parser.add_argument("--buckets", nargs="+", type=int, default=list(BUCKETS))
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--fps", type=float, default=7)
    parser.add_argument("--seed", type=int, default=23)
    given = parser.parse_args()
    model = svd.load_model(given.model)
    width, height = given.width or model.config.width, given.height or model.config.height
    pictures = pictures_of(given.folder, width, height) if given.folder else held_out_pictures(width, height)
    measured, clips = [], []
    with torch.inference_mode():
        for name, picture in pictures.items():
            if given.pictures and name not in given.pictures:
                continue
            shots = []
            for bucket in given.buckets:
                settings = svd.AnimateSettings(
                    motion_bucket=bucket, steps=given.steps, fps=given.fps, seed=given.seed, frames=given.frames,
                    width=width, height=height,
                )  # fmt: skip
                shot, frames = shoot(model, name, picture, settings)
                print(shot.row(), f"{shot.seconds:.1f} s", flush=True)
                shots.append(shot)
                if bucket in (10, 127, 255):
                    clips.append(frames)
            measured.append(shots)
            print(verdict(shots), flush=True)
    print(summary(measured))
    if given.table:
        rows = [shot.row() for shots in measured for shot in shots]
        given.table.write_text("\n".join([HEADING, *rows]) + "\n", encoding="utf-8")
    if given.sheet:
        contact_sheet(clips, given.sheet)


if __name__ == "__main__":
    main()
