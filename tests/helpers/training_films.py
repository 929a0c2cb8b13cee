"""Small films, pictures and encoders for the tests of training."""

from fractions import Fraction

import av
import numpy as np
import torch
from PIL import Image

from svd_core.training.data.cache import encode_sources
from svd_core.training.data.cutting import ClipPlan, CutReport, cut_clips

SIZE, FRAMES = 32, 4
PLAN = ClipPlan(SIZE, SIZE, FRAMES, fps=7)


class TinyEncoders:
    """Encoders that cost nothing: block means as latents, the mean colour as token. Counts its pictures."""

    def __init__(self):
        self.seen = 0

    def encode_latent(self, image):
        self.seen += len(image)
        means = torch.nn.functional.avg_pool2d(image, 8)
        return torch.cat([means, means.mean(1, keepdim=True)], dim=1)

    def encode_image(self, image):
        return image.mean((2, 3))[:, None]


def texture(height=96, width=96, seed=0):
    """A smooth random picture [1, H, W, 3] in 0..1 that flow can follow."""
    noise = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    return smooth.movedim(1, -1)


def film(frames, step=2, seed=0, size=48):
    """Frames [N, size, size, 3]: a window that slides over a picture by `step` pixels, so the content goes left."""
    picture = texture(size, size + frames * step + 8, seed)[0]
    return torch.stack([picture[:, index * step : index * step + size] for index in range(frames)])


def encode(sources, folder, plan=PLAN, model=None, **more):
    """The clip set of some sources by the tiny encoders."""
    return encode_sources(sources, plan, model or TinyEncoders(), folder, encoders="tiny", **more)


def save_pictures(folder, frames):
    """Write frames as numbered PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray((frame.numpy() * 255).round().astype(np.uint8)).save(folder / f"f{index}.png")


def write_timed(path, frames, seconds):
    """Write frames to a Matroska file with time stamps of their own; it says of itself 30 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, second in zip(frames, seconds, strict=True):
            picture = av.VideoFrame.from_ndarray((frame.numpy() * 255).round().astype(np.uint8), format="rgb24")
            picture.pts, picture.time_base = round(second * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def save_animation(path, frames, milliseconds):
    """Write frames as an animation, each for so long."""
    first, *others = [Image.fromarray((frame.numpy() * 255).round().astype(np.uint8)) for frame in frames]
    first.save(path, save_all=True, append_images=others, duration=milliseconds)
    return path


def times(*parts):
    """Seconds of frames, from (first frame's, how many, per second)."""
    return [start + index / rate for start, count, rate in parts for index in range(count)]


def as_planes(frames):
    """[N, H, W, 3] in 0..1 to [N, 3, H, W] in -1..1."""
    return frames.movedim(-1, 1) * 2 - 1


def cut(frames, plan=PLAN, seconds=None, file_fps=0.0):
    """Clips and report of frames that are at the wanted rate already."""
    report = CutReport("film", fps=plan.fps, file_fps=file_fps)
    timed = zip(seconds or times((0, len(frames), plan.fps)), as_planes(frames), strict=True)
    return list(cut_clips(timed, plan, report)), report
