"""Contact sheets of frames as PNG files, for looking at results."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def contact_sheet(rows: Sequence[Tensor], path: str | Path, gap: int = 4) -> None:
    """Write one row of frames per tensor [T, 3, H, W] (values -1..1, clamped) as a PNG."""
    height, width = rows[0].shape[2:]
    columns = max(len(row) for row in rows)
    sheet = torch.ones(3, len(rows) * (height + gap) - gap, columns * (width + gap) - gap)
    for i, row in enumerate(rows):
        for j, frame in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            sheet[:, top : top + height, left : left + width] = frame.clamp(-1, 1)
    pixels = ((sheet + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(path, optimize=True)
