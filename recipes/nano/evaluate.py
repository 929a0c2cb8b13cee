"""Measures nano on the photographs it never saw: python -m recipes.nano.evaluate [--model FILE] [--sheet PNG].

Prints the autoencoder's round trip, and per photograph and motion bucket: PSNR of the first frame, mean optical flow,
its share along the camera move that was taught, the zoom that fits the clip best, and the drift of the mean colour.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from skimage.registration import optical_flow_tvl1
from torch import Tensor

import svd_core as svd

from .camera import bright_focus, expected_flow, push_in, travel_per_frame
from .networks import psnr
from .photographs import HELD_OUT, fit_square, load_photograph
from .sheets import contact_sheet

BUCKETS = (10, 60, 127, 200, 255)


def mean_flow(frames: Tensor, focus: Tensor) -> tuple[float, float]:
    """Measure a clip [T, 3, H, W]: mean flow in pixels per frame, and the mean of its component away from the focus.

    Every second frame is compared, and halved, because the estimator is weak below a pixel.
    """
    grey = (frames.mean(1) + 1).numpy() / 2
    height, width = grey.shape[1:]
    x = (np.arange(width) + 0.5) / width * 2 - 1 - float(focus[0])
    y = (np.arange(height) + 0.5) / height * 2 - 1 - float(focus[1])
    radius = np.hypot(x[None, :], y[:, None]) + 1e-6
    sizes, outward = [], []
    for first in range(0, len(grey) - 2, 2):
        down, right = optical_flow_tvl1(grey[first], grey[first + 2])
        sizes.append(np.hypot(down, right).mean() / 2)
        outward.append(((right * x[None, :] + down * y[:, None]) / radius).mean() / 2)
    return float(np.mean(sizes)), float(np.mean(outward))


def fitted_travel(frames: Tensor, focus: Tensor) -> float:
    """Fit the camera move to a clip [T, 3, H, W]: the log zoom of the first frame that gives the last one best."""
    travels = torch.linspace(0, 0.6, 121)
    candidates = push_in(frames[:1], focus[None], travels[None])[0]
    errors = (candidates - frames[-1]).square().mean(dim=(1, 2, 3))
    return float(travels[errors.argmin()])


def look_at(model: svd.SVDModel, name: str, steps: int | None, fps: float, seed: int) -> list[Tensor]:
    """Animate one photograph at every bucket, print its numbers, return its clips [T, 3, H, W] in -1..1."""
    size = model.config.width
    picture = fit_square(load_photograph(name), size)
    focus = bright_focus(picture[None])[0]
    trip = model.decode(model.encode_latent(picture[None]) * 0.18215, plan="exact")
    print(f"{name}: round trip {psnr(trip[0], picture):.2f} dB")
    clips = []
    for bucket in BUCKETS:
        settings = svd.AnimateSettings(motion_bucket=bucket, steps=steps, fps=fps, seed=seed)
        started = time.time()
        frames = svd.animate(model, picture[None], settings).permute(0, 3, 1, 2) * 2 - 1
        seconds = time.time() - started
        flow, outward = mean_flow(frames, focus)
        drift = (frames.mean(dim=(2, 3)) - frames[0].mean(dim=(1, 2))).abs().max() / 2
        taught = expected_flow(picture, bucket, fps)
        zoom, wanted = fitted_travel(frames, focus), float(travel_per_frame(bucket, fps)) * (len(frames) - 1)
        print(
            f"  bucket {bucket:3d}: first frame {psnr(frames[0], picture):.2f} dB, to round trip "
            f"{psnr(frames[0], trip[0]):.2f} dB, flow {flow:.2f} px (outward {outward:.2f}, taught {taught:.2f}), "
            f"zoom x{math.exp(zoom):.2f} (taught x{math.exp(wanted):.2f}), "
            f"colour drift {100 * drift:.1f} %, {seconds:.1f} s",
            flush=True,
        )
        clips.append(frames)
    return clips


def main() -> None:
    """Read the command line, measure, draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--photographs", nargs="+", default=list(HELD_OUT))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--fps", type=float, default=7)
    parser.add_argument("--seed", type=int, default=23)
    arguments = parser.parse_args()
    model = svd.load_model(arguments.model)
    rows: list[Tensor] = []
    with torch.inference_mode():
        for name in arguments.photographs:
            rows += look_at(model, name, arguments.steps, arguments.fps, arguments.seed)
    if arguments.sheet:
        contact_sheet(rows, arguments.sheet)


if __name__ == "__main__":
    main()
