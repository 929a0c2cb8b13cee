"""Write clips: frames are checked one by one and passed to the writer of the file's kind."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import av
import torch
from PIL import PngImagePlugin
from torch import Tensor

from ..files import replacing, write_error
from .animated import write_gif, write_webp
from .clip import MARK, ClipOptions, parse_fps, to_pil
from .encoded import write_encoded
from .target import FOLDER_KIND, FRAME_NAME, check_output


def write_clip(
    frames: Tensor | Iterable[Tensor],
    path: str | PathLike,
    *,
    fps: float | Fraction,
    metadata: dict[str, Any] | None = None,
    quality: int = 90,
    loop: bool = True,
) -> Path:
    """Write frames [T, H, W, 3], or an iterable of [H, W, 3], in 0..1 to a clip file, and return its path.

    The name selects the kind: .mp4 (H.264), .webm (VP9), .webp, .gif, or a folder of PNG frames without a suffix.
    fps: for playback. quality: 0..100, for mp4, webm and webp. loop: for webp and gif. metadata: plain JSON values,
    which are embedded and returned by `read_clip`. Frames are consumed one at a time. The file gets its name when it is
    whole; until then a clip of that name stays as it is. Raises ValueError for invalid frames or settings, OSError
    where the clip cannot be written; exceptions of the iterable are passed on.
    """
    kind = check_output(path, fps=fps, quality=quality)
    path = Path(path)
    source = _Checked(frames)
    checked = iter(source)
    first = next(checked)
    height, width = first.shape[:2]
    options = ClipOptions(parse_fps(fps), width, height, metadata or {}, quality, loop)
    try:
        with replacing(path) as temporary:
            _write(temporary, kind, chain([first], checked), options)
    except (OSError, av.FFmpegError) as error:
        if error is source.error:
            raise
        raise write_error(path, error) from error
    return path


def _write(path: Path, kind: str, frames: Iterator[Tensor], options: ClipOptions) -> None:
    if kind == FOLDER_KIND:
        _write_folder(path, frames, options)
    elif kind == "webp":
        write_webp(path, frames, options)
    elif kind == "gif":
        write_gif(path, frames, options)
    else:
        write_encoded(path, frames, options, kind)


def _write_folder(path: Path, frames: Iterator[Tensor], options: ClipOptions) -> None:
    """Write 8-bit PNG frames, with the settings as a text chunk in each, so that a single frame keeps its origin."""
    text = PngImagePlugin.PngInfo()
    text.add_text(MARK, options.text)
    path.mkdir()
    for index, frame in enumerate(frames):
        to_pil(frame).save(path / FRAME_NAME.format(index), pnginfo=text)


class _Checked:
    """Frames as float32 [H, W, 3] on the CPU, clamped to 0..1, with ValueError for the first invalid one.

    error: the exception that ended the iteration, to distinguish it from one of writing.
    """

    def __init__(self, frames: Tensor | Iterable[Tensor]):
        if isinstance(frames, Tensor) and frames.ndim != 4:
            raise ValueError(f"clip has shape {list(frames.shape)}; give [frames, height, width, 3]")
        self.frames = frames
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Tensor]:
        try:
            yield from self._each()
        except BaseException as error:
            self.error = error
            raise

    def _each(self) -> Iterator[Tensor]:
        shape = None
        for index, frame in enumerate(self.frames):
            frame = torch.as_tensor(frame)
            if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape or not frame.is_floating_point():
                raise ValueError(f"frame {index} is {list(frame.shape)} {frame.dtype}; give [height, width, 3] floats")
            shape = shape or frame.shape
            if frame.shape != shape:
                raise ValueError(
                    f"frame {index} is {_size(frame.shape)} but frame 0 is {_size(shape)}; make them equal"
                )
            if not torch.isfinite(frame).all():
                raise ValueError(f"frame {index} has NaN or infinite values; decode it again in a higher precision")
            yield frame.detach().float().cpu().clamp(0, 1)
        if shape is None:
            raise ValueError("clip has 0 frames; give at least 1")


def _size(shape: torch.Size) -> str:
    return f"{shape[1]}x{shape[0]}"
