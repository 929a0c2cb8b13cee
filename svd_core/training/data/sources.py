"""Sources of training clips: videos, folders of frames, tensors, and photographs that a camera moves over.

A source yields clips with their labels. A fingerprint of its contents shows whether it changed since it was cached.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ...pictures import as_batch, composite, open_picture
from ...stopping import stop_if_asked
from ...video import open_clip
from ...video.frames import UNREADABLE
from ...video.picture_clips import natural_order
from .cutting import USUAL_FPS, ClipPlan, CutReport, at_rate, check_film_fps, clip_fps, cut_clips, fitted
from .labels import bucket_of, measured_speed
from .stills import check_move, move_still

log = logging.getLogger("svd_reel")

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".wmv", ".ogv", ".ts")
ANIMATIONS = (".gif", ".webp")
MOVE_FRAMES = 14  # of the clip over which a camera move is checked before the work
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """One clip: frames [T, 3, H, W] in -1..1, the number of its first frame in the source, its labels.

    strength: of a LoRA while it learns the clip; -1 for the opposite camera move.
    """

    frames: Tensor
    number: int
    fps: float
    bucket: float
    strength: float = 1.0


class Source(Protocol):
    """A source of training clips."""

    name: str

    def fingerprint(self) -> str:
        """Return a digest of the contents."""

    def clips(self, plan: ClipPlan, report: CutReport) -> Iterator[TrainingClip]:
        """Yield the clips and count them in `report`."""


@dataclass(frozen=True)
class VideoFile:
    """A video, animated WebP or GIF file."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    def fingerprint(self) -> str:
        """See Source."""
        return _digest_of_files([self.path])

    def clips(self, plan: ClipPlan, report: CutReport) -> Iterator[TrainingClip]:
        """See Source. Raises ValueError for a file that cannot be read."""
        with open_clip(self.path) as clip:
            yield from _cut(clip.timed(), clip.usual_fps, plan, report)


@dataclass(frozen=True)
class FrameFolder:
    """A folder of pictures that are the frames of one film, in the order of their names; `fps` 0 if unknown."""

    path: Path
    fps: float = 0.0

    def __post_init__(self) -> None:
        check_film_fps(self.fps)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    def fingerprint(self) -> str:
        """See Source."""
        return _digest_of_files(pictures_in(self.path))

    def clips(self, plan: ClipPlan, report: CutReport) -> Iterator[TrainingClip]:
        """See Source."""
        files = pictures_in(self.path)
        frames = ((index / (self.fps or USUAL_FPS), file) for index, file in enumerate(files))
        yield from _cut(frames, self.fps, plan, report)


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Frames [N, H, W, C] in 0..1 of one film; `fps` where it is known."""

    images: Tensor
    name: str = "frames"
    fps: float = 0.0

    def __post_init__(self) -> None:
        check_film_fps(self.fps)

    def fingerprint(self) -> str:
        """See Source."""
        return _digest_of_tensor(self.images)

    def clips(self, plan: ClipPlan, report: CutReport) -> Iterator[TrainingClip]:
        """See Source."""
        frames = ((index / (self.fps or USUAL_FPS), image) for index, image in enumerate(self.images))
        yield from _cut(frames, self.fps, plan, report)


@dataclass(frozen=True, eq=False)
class Still:
    """A photograph, as a file or as a tensor [1, H, W, C] in 0..1, that a camera moves over `count` times."""

    picture: Path | Tensor
    name: str
    move: str
    count: int = 8

    def __post_init__(self) -> None:
        check_count(self.count)

    def fingerprint(self) -> str:
        """See Source. The digest includes the move and the number of clips."""
        own = _digest_of_tensor(self.picture) if isinstance(self.picture, Tensor) else _digest_of_files([self.picture])
        return _digits(f"{own} {self.move} {self.count}".encode())

    def clips(self, plan: ClipPlan, report: CutReport) -> Iterator[TrainingClip]:
        """See Source. The motion bucket follows from the speed of the camera.

        Every second clip moves the opposite way and is learned with strength -1, so that the LoRA reverses the move at
        a negative strength.
        """
        path = check_move(self.move, plan.frames)
        given = self.picture if isinstance(self.picture, Tensor) else open_picture(self.picture)
        picture = as_batch(given)  # [1, 3, H, W]
        fps = clip_fps(0.0, plan.fps)
        report.file_fps, report.fps = 0.0, fps
        if min(picture.shape[2] / plan.height, picture.shape[3] / plan.width) < 1:
            report.remarks.append(f"enlarged from {picture.shape[3]}x{picture.shape[2]} pixels")
        seed = int(_digits(f"{self.fingerprint()}".encode())[:12], 16)
        for index in range(self.count):
            strength = -1.0 if index % 2 else 1.0
            generator = torch.Generator().manual_seed(seed + index)
            moved = move_still(picture, path, plan, fps, generator, direction=strength)
            report.frames += plan.frames
            report.clips += 1
            yield TrainingClip(moved.frames, index, fps, bucket_of(moved.speed), strength)


def find_sources(path: str | Path, *, move: str = "", stills_count: int = 0, frame_fps: float = 0.0) -> list[Source]:
    """Return the sources in a training folder, or of a single file.

    A folder may contain videos, folders of frames, or the frames of one film. With a camera `move` such as "pan left",
    its pictures are photographs instead, each of which gives `stills_count` clips (0: about 64 clips in all).
    frame_fps: of folders of frames, 0 if unknown. Raises FileNotFoundError for a missing path, and ValueError if there
    is nothing to train on.
    """
    check_film_fps(frame_fps)
    check_count(stills_count)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"training data {path} does not exist; give a video, or a folder of videos or frames")
    if path.is_file():
        if _is_film(path):
            return [VideoFile(path)]
        if move and _is_picture(path):
            return stills_of([path], move, stills_count)
        remedy = "give a camera move such as pan left" if _is_picture(path) else "give a video, or a folder"
        raise ValueError(f"{path} is not a video; {remedy}")
    inside = sorted(path.iterdir(), key=natural_order)
    films: list[Source] = [VideoFile(file) for file in inside if _is_film(file)]
    films += [FrameFolder(folder, frame_fps) for folder in inside if folder.is_dir() and pictures_in(folder)]
    pictures = pictures_in(path)
    if move:
        return films + stills_of(pictures, move, stills_count) if pictures or films else _nothing(path)
    if pictures and films:
        log.warning(
            "the %d pictures beside the videos of %s are left out; move frames into a folder", len(pictures), path
        )
    return films or ([FrameFolder(path, frame_fps)] if pictures else _nothing(path))


def stills_of(pictures: list[Path], move: str, count: int = 0) -> list[Source]:
    """Return photographs as sources of `count` clips each; 0 for about 64 in all. Raises ValueError for the move."""
    check_move(move, MOVE_FRAMES)
    return [Still(path, path.name, move, count or stills_count(len(pictures))) for path in pictures]


def stills_of_batch(images: Tensor, move: str, count: int = 0) -> list[Source]:
    """Return photographs [B, H, W, C] in 0..1 as sources; see `stills_of`."""
    check_move(move, MOVE_FRAMES)
    count = count or stills_count(len(images))
    return [Still(images[b : b + 1], f"picture {b + 1}", move, count) for b in range(len(images))]


def check_count(count: int) -> None:
    """Raise ValueError for an impossible number of clips per photograph; 0 means the default of `stills_count`."""
    if not isinstance(count, Integral) or count < 0:
        raise ValueError(f"clips per photograph must be 1 or more (got {count}); use 8, or 0 for about 64 in all")


def stills_count(pictures: int) -> int:
    """Return the clips per photograph for about 64 clips in all, at least 4."""
    return max(4, round(64 / max(1, pictures)))


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder sorted by name, with numbers in numeric order."""
    return sorted((file for file in folder.iterdir() if _is_picture(file) and file.is_file()), key=natural_order)


def _is_film(path: Path) -> bool:
    """Return whether a file is a video by its name, or an animation of several frames."""
    if path.suffix.lower() not in ANIMATIONS:
        return path.suffix.lower() in VIDEOS and path.is_file()
    try:
        with Image.open(path) as picture:
            return getattr(picture, "n_frames", 1) > 1
    except UNREADABLE:
        return True  # reading it raises the error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES or (path.suffix.lower() in ANIMATIONS and not _is_film(path))


def _nothing(path: Path) -> list[Source]:
    raise ValueError(
        f"folder {path} has nothing to train on; add videos ({', '.join(VIDEOS[:4])}) or folders of PNG frames, or "
        "photographs with a camera move such as pan left"
    )


def _cut(timed: Iterator, rate: float, plan: ClipPlan, report: CutReport) -> Iterator[TrainingClip]:
    """Yield labelled clips of a film of (seconds, frame); only frames that are kept are converted."""
    fps = clip_fps(rate, plan.fps)
    report.file_fps, report.fps = rate, fps
    if fps < 1:
        raise ValueError(
            f"{report.name} must have 1 frame per second or more (has {fps:.2g}); give its frames as a folder of "
            "pictures with a higher frame rate"
        )
    even = ((index / fps, frame) for index, (_, frame) in enumerate(timed))
    chosen = at_rate(timed, rate, fps) if rate > 0 else even
    pictures = ((seconds, fitted(_as_frame(frame), plan)) for seconds, frame in chosen)
    for clip in cut_clips(pictures, plan, report):
        speed = measured_speed(clip.frames, clip.fps)
        if speed < plan.least_motion:
            report.still += 1
            continue
        report.clips += 1
        yield TrainingClip(clip.frames, clip.number, clip.fps, bucket_of(speed))


def _as_frame(frame: Callable[[], Tensor] | Path | Tensor) -> Tensor:
    """Return a frame of a film, whatever its type, as [H, W, 3] in 0..1."""
    if isinstance(frame, Path):
        return composite(open_picture(frame))[0]
    return composite(frame[None])[0] if isinstance(frame, Tensor) else frame()


def _digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() if len(paths) > 1 else b"")
        with open(path, "rb") as file:
            while block := file.read(2**20):
                stop_if_asked()
                digest.update(block)
    return digest.hexdigest()


def _digest_of_tensor(images: Tensor) -> str:
    pixels = images.detach().float().cpu().contiguous()
    return _digits(str(list(pixels.shape)).encode() + pixels.numpy().tobytes())
