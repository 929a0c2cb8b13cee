"""Reading clips back: ours with their settings, other people's as frames and a frame rate."""

from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace
from PIL import Image, ImageSequence, UnidentifiedImageError
from torch import Tensor

from .animated import IMAGE_DESCRIPTION
from .clip import MARK, Settings, parse_settings
from .media import open_input
from .target import frame_files

# FFmpeg's numbers of the matrix in a frame's tag, and PyAV's name for it.
BT709_TAG, UNKNOWN_TAG = 1, 2


def read_clip(path: str | PathLike) -> tuple[Tensor, float, dict[str, Any]]:
    """Read a clip file or a folder of PNG frames: frames [T, H, W, 3] in 0..1, frames per second, settings.

    The settings are what `write_clip` was given, or {} for files from elsewhere; frames per second is 0.0 where the
    file does not say. All frames are held in memory. Raises FileNotFoundError, or ValueError for a file without frames.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"clip {path} does not exist; check the path")
    try:
        if path.is_dir():
            frames, fps, settings = _read_folder(path)
        elif path.suffix.lower() in (".webp", ".gif"):
            frames, fps, settings = _read_animated(path)
        else:
            frames, fps, settings = _read_encoded(path)
    except (av.FFmpegError, UnidentifiedImageError, OSError, IndexError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"clip {path} cannot be read ({reason}); it may be cut short or no clip") from error
    if not frames:
        raise ValueError(f"clip {path} holds no frames; give a video, an animation or a folder of frame_00000.png")
    clip = torch.from_numpy(np.stack(frames)).clamp(0, 1)  # [T, H, W, 3]
    if settings.size:
        width, height = settings.size
        clip = clip[:, :height, :width]
    return clip, float(settings.fps or fps), settings.metadata


def read_settings(path: str | PathLike) -> dict[str, Any]:
    """The settings inside a clip, without decoding it; {} for other people's clips and for what is no clip at all."""
    path = Path(path)
    try:
        if path.is_dir():
            files = frame_files(path)
            return _settings_of_picture(files[0]).metadata if files else {}
        if path.suffix.lower() in (".webp", ".gif"):
            return _settings_of_picture(path).metadata
        with open_input(path) as container:
            return parse_settings(_comment(container)).metadata
    except (av.FFmpegError, UnidentifiedImageError, OSError):
        return {}


def _settings_of_picture(path: Path) -> Settings:
    with Image.open(path) as picture:
        return parse_settings(
            picture.info.get(MARK) or picture.info.get("comment") or picture.getexif().get(IMAGE_DESCRIPTION)
        )


def _comment(container: Any) -> str | None:
    return next((value for key, value in container.metadata.items() if key.lower() == "comment"), None)


def _read_folder(path: Path) -> tuple[list[np.ndarray], Fraction, Settings]:
    frames, settings = [], Settings({})
    for index, file in enumerate(frame_files(path)):
        with Image.open(file) as picture:
            if index == 0:
                settings = parse_settings(picture.info.get(MARK))
            frames.append(_from_pil(picture))
    return frames, Fraction(0), settings


def _read_animated(path: Path) -> tuple[list[np.ndarray], Fraction, Settings]:
    frames, milliseconds = [], 0
    with Image.open(path) as picture:
        text = picture.info.get("comment") or picture.getexif().get(IMAGE_DESCRIPTION)
        for frame in ImageSequence.Iterator(picture):
            frames.append(_from_pil(frame))
            milliseconds += frame.info.get("duration", 0)
    fps = Fraction(1000 * len(frames), round(milliseconds)) if milliseconds else Fraction(0)
    return frames, fps, parse_settings(text)


def _from_pil(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255


def _read_encoded(path: Path) -> tuple[list[np.ndarray], Fraction, Settings]:
    with open_input(path) as container:
        text = _comment(container)
        if not container.streams.video:
            return [], Fraction(0), Settings({})
        stream = container.streams.video[0]
        frames = [to_rgb(frame) for frame in container.decode(stream)]
        return frames, stream.average_rate or Fraction(0), parse_settings(text)


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """[H, W, 3] floats, by the matrix of the frame's tag, or the one that players assume for its size.

    Through a float format, because swscale's shortcut to 8 bits is a level too dark on average.
    """
    bt709 = frame.colorspace == BT709_TAG or (frame.colorspace == UNKNOWN_TAG and frame.height >= 720)
    matrix = Colorspace.ITU709 if bt709 else Colorspace.ITU601
    # RGB has no matrix, but PyAV before 15 ignores the source's unless another one is named as the destination's.
    rgb = frame.reformat(format="gbrpf32le", src_colorspace=matrix, dst_colorspace=Colorspace.FCC)
    return rgb.to_ndarray()
