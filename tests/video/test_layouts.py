"""A clip file does not depend on how the frames that are written lie in memory."""

from pathlib import Path

import pytest
import torch

from svd_core.video import write_clip
from svd_core.video.yuv import FORMATS, to_yuv
from tests.helpers.layouts import other_layouts

FRAMES = torch.rand(2, 33, 47, 3, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.webp", "clip.gif", "frames"])
def test_written_files_are_the_same(tmp_path: Path, name: str):
    def content(frames: torch.Tensor) -> list[bytes]:
        path = write_clip(frames, tmp_path / name, fps=7)
        return [file.read_bytes() for file in (sorted(path.iterdir()) if path.is_dir() else [path])]

    expected = content(FRAMES)
    for layout, view in other_layouts(FRAMES).items():
        assert content(view) == expected, layout


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_encoded_planes_are_the_same(pixel_format: str):
    expected = [bytes(plane) for plane in to_yuv(FRAMES[0], 0, pixel_format).planes]
    for layout, view in other_layouts(FRAMES[0]).items():
        assert [bytes(plane) for plane in to_yuv(view, 0, pixel_format).planes] == expected, layout
