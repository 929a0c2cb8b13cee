"""Small videos made with ffmpeg, and frame 0 of each as ffmpeg shows it; see tests/data/video/make.sh."""

from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).resolve().parents[1] / "data" / "video"


def reference(name: str, width: int = 48, height: int = 32) -> torch.Tensor:
    """Return frame 0 [H, W, 3] in 0..1 as ffmpeg and zscale show it."""
    planes = np.fromfile(DATA / f"{name}.frame", np.uint16).reshape(3, height, width)  # green, blue, red
    return torch.from_numpy(planes[[2, 0, 1]].transpose(1, 2, 0) / 65535).float()
