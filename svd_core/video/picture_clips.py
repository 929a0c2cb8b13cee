"""Clips made of pictures: animations that Pillow reads, and folders of numbered frames."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import accumulate, islice
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image, ImageSequence
from torch import Tensor

from ..pictures import from_pil, open_picture
from ..pictures.reading import MOST_PIXELS
from ..stopping import stop_if_asked
from .animated import IMAGE_DESCRIPTION
from .clip import MARK, parse_settings
from .frames import UNTIMED_FPS, Clip, Recent, check_index, check_pixels, opaque, reading

ANIMATED_SUFFIXES = (".webp", ".gif", ".png", ".apng", ".avif", ".avifs")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")
TICKS = {"GIF": 100}  # smallest units of duration per second of a format; 1000 for all others
UNTIMED = 100  # milliseconds for which players show a frame without a duration
UNEVEN = 20  # milliseconds by which durations differ in an even animation, because GIF counts in hundredths
MOST_NAMED = 5  # missing frames that a note lists


def text_of(picture: Image.Image, key: str) -> str | bytes | None:
    """Return the text that may hold our settings: of PNG, GIF or WebP."""
    return picture.info.get(key) or picture.info.get("comment") or picture.getexif().get(IMAGE_DESCRIPTION)


class AnimatedClip(Clip):
    """An animation, or a still picture as a clip of one frame, read by Pillow."""

    def __init__(self, path: Path, background: str):
        self.path, self.background, self.notes = path, background, []
        self._picture: Image.Image | None = None
        self._at = 0
        with Image.open(path) as picture:
            self.width, self.height = picture.size
            check_pixels(path, *picture.size)
            settings = parse_settings(text_of(picture, MARK))
            self._milliseconds = []
            for frame in ImageSequence.Iterator(picture):
                check_pixels(path, *frame.size)  # a later frame of a GIF may be larger than the first
                self._milliseconds.append(_milliseconds(frame))
            ticks = TICKS.get(picture.format or "", 1000)
        self.metadata = settings.metadata
        if settings.fault:
            self.notes.append(f"its embedded settings are ignored: {settings.fault}")
        total = round(sum(self._milliseconds))
        self.fps = Fraction(1000 * len(self._milliseconds), total) if total else Fraction(0)
        if settings.fps is not None:
            # The file rounds durations to ticks; the settings have the exact rate unless somebody retimed the file.
            if total * ticks == 1000 * round(len(self._milliseconds) * ticks / settings.fps):
                self.fps = settings.fps
            else:
                self.notes.append(f"it was retimed: {float(self.fps):g} fps, written at {float(settings.fps):g}")
        self._recent = Recent(4 * self.width * self.height)

    @property
    def header_frames(self) -> int:
        return len(self._milliseconds)

    def __len__(self) -> int:
        return len(self._milliseconds)

    def timed(self) -> Iterator[tuple[float, Callable[[], Tensor]]]:
        with reading(self.path), Image.open(self.path) as picture:
            for begin, frame in zip(self._begins(), ImageSequence.Iterator(picture), strict=False):
                yield begin, lambda frame=frame: self._converted(frame)

    def __getitem__(self, index: int) -> Tensor:
        index = check_index(index, len(self))
        if index not in self._recent:
            with reading(self.path):
                self._decode_to(index)
        return self._converted(self._recent[index])

    def _decode_to(self, index: int) -> None:
        """Decode up to a frame, and keep it and those before it."""
        if self._picture is None:
            self._picture, self._at = Image.open(self.path), -1
        for place in range(self._at + 1 if self._at < index else 0, index + 1):
            self._picture.seek(place)
            self._recent.add(place, self._picture.copy())
            self._at = place

    def close(self) -> None:
        if self._picture is not None:
            self._picture.close()
        self._picture = None
        self._recent.clear()

    @property
    def usual_fps(self) -> float:
        shown = [duration or UNTIMED for duration in self._milliseconds]
        return float(self.fps) if len(shown) < 2 or _is_even(shown) else 1000 / median(shown[:-1])

    def _begins(self) -> list[float]:
        """Return the second at which each frame is shown; even animations count by their exact rate."""
        shown = [duration or UNTIMED for duration in self._milliseconds]
        if len(shown) < 2 or _is_even(shown):
            return [index / float(self.fps or UNTIMED_FPS) for index in range(len(shown))]
        return [milliseconds / 1000 for milliseconds in accumulate(shown[:-1], initial=0)]

    def _converted(self, frame: Image.Image) -> Tensor:
        return opaque(from_pil(frame)[0], self.background)


def _is_even(milliseconds: list[float]) -> bool:
    return max(milliseconds) - min(milliseconds) <= UNEVEN


def _milliseconds(frame: Image.Image) -> float:
    stop_if_asked()
    frame.load()  # WebP has a frame's duration only then
    return frame.info.get("duration", 0) or 0


class FolderClip(Clip):
    """A folder of pictures that are the frames of one clip, in the order of their numbers."""

    def __init__(self, path: Path, background: str):
        self.path, self.background, self.fps = path, background, Fraction(0)
        self.files = frames_in(path)
        if not self.files:
            raise ValueError(f"clip {path} holds no frames; use a video, an animation or a folder of numbered pictures")
        self.notes = [*_notes(self.files)]
        with Image.open(self.files[0]) as picture:
            settings = parse_settings(text_of(picture, MARK))
        self.metadata = settings.metadata
        if settings.fault:
            self.notes.append(f"its embedded settings are ignored: {settings.fault}")
        if settings.fps is not None:
            self.fps = settings.fps
        sizes = {file: _size(file) for file in self.files}
        self.width, self.height = sizes[self.files[0]]
        check_pixels(path, self.width, self.height, MOST_PIXELS)  # larger pictures are averaged down
        for file, (width, height) in sizes.items():
            if (width, height) != (self.width, self.height):
                raise ValueError(
                    f"{file} is {width}x{height}, but {self.files[0].name} is {self.width}x{self.height}; resize them "
                    "to one size, or use a folder for each"
                )

    @property
    def header_frames(self) -> int:
        return len(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def timed(self) -> Iterator[tuple[float, Callable[[], Tensor]]]:
        for index, file in enumerate(self.files):
            yield index / float(self.fps or UNTIMED_FPS), lambda file=file: self._read(file)

    def __getitem__(self, index: int) -> Tensor:
        return self._read(self.files[check_index(index, len(self))])

    def _read(self, file: Path) -> Tensor:
        return opaque(open_picture(file)[0], self.background)


def _size(file: Path) -> tuple[int, int]:
    """Return (width, height) of a picture as it is shown."""
    stop_if_asked()
    with reading(file), Image.open(file) as picture:
        turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return picture.size[::-1] if turned else picture.size


def frames_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder by name, numbers in counting order."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file())
    return sorted(files, key=natural_order)


def natural_order(path: Path) -> list[Any]:
    """Return a sort key that counts: frame 10 comes after frame 9; equal names but for case or zeros have an order."""
    parts = re.split(r"(\d+)", path.name)  # every second one is a number
    return [(0, int(part), "") if place % 2 else (1, 0, part.lower()) for place, part in enumerate(parts)] + [
        (2, 0, path.name)
    ]


def _notes(files: list[Path]) -> Iterator[str]:
    """Yield what is unusual about the names of frames: several sequences, or missing numbers."""
    parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", file.name) for file in files]
    names = {part and part.group(1, 3) for part in parts}
    if len(names) > 1:
        yield f"its {len(files)} pictures have names of {len(names)} kinds; they are read in the order of their names"
        return
    numbers = [int(part[2]) for part in parts if part]
    pairs = zip(numbers, numbers[1:], strict=False)
    gaps = (number for low, high in pairs for number in range(low + 1, high))
    missing = list(islice(gaps, MOST_NAMED + 1))
    if missing:
        more = ", ..." if len(missing) > MOST_NAMED else ""
        listed = ", ".join(map(str, missing[:MOST_NAMED]))
        which = f"frame {listed} is" if len(missing) == 1 else f"frames {listed}{more} are"
        yield f"{which} missing between {files[0].name} and {files[-1].name}; the rest is read"
