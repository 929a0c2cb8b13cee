"""Moving previews while a clip is sampled, and finished clips, for the players that web/js draws on our nodes."""

import base64
import io
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...svd_core.model.latent_colours import LatentColours
from . import comfy as host
from .sampling import watch_sampling

# Of the autoencoder that SVD shares with Stable Diffusion 1.5, for models without a decoder to measure.
USUAL = LatentColours(
    ((0.3512, 0.2297, 0.3227), (0.325, 0.4974, 0.235), (-0.2829, 0.1762, 0.2721), (-0.212, -0.2616, -0.7177))
)
SIDE, MOST_FRAMES, QUALITY = 320, 48, 80
SHARE = 0.015  # of the run's time that previews may take
PLAYED_SIDE = 768  # pixels of the longer side of clips for the player
COMPARED_SIDE = 1280  # of clips that are compared, where details count
DRAWN_SIDE = 768  # of pictures to draw on
FPS = 7.0
KEY = "svd_reel_preview"
"""Key of the wrapper that shows the host's sampling."""


class ClipPreview:
    """Sends the frames of a clip to the player: of the first step, the last, and as 1.5 % of the time allow."""

    def __init__(self, colours: LatentColours | None, fps: float = FPS):
        self.colours, self.fps = colours or USUAL, fps
        self.started = time.monotonic()
        self.sent, self.cost = 0, 0.0  # previews so far, and seconds of one

    def __call__(self, done: int, total: int, latents: Tensor) -> None:
        """Show latents [T, 4, h, w] after step `done` of `total`."""
        now = time.monotonic()
        # With this one and the last.
        due = done == total or not self.sent or (self.sent + 2) * self.cost < SHARE * (now - self.started)
        if not due or not host.is_watched():
            return
        each = max(1, -(-len(latents) // MOST_FRAMES))
        frames = [encoded(frame) for frame in pictures(self.colours.frames(latents[::each]))]
        left = (now - self.started) / done * (total - done)
        content = {"node": host.running_node(), "step": done, "steps": total, "left": left, "fps": self.fps / each}
        host.send("svd_reel.preview", {**content, "each": each, "count": len(latents), "frames": frames})
        cost = time.monotonic() - now
        # The least of all, because other programs may have taken time meanwhile.
        self.sent, self.cost = self.sent + 1, min(self.cost, cost) if self.sent else cost


def previews_in_sampling(patcher: Any, colours: LatentColours | None) -> None:
    """Send previews from every sampling run of the host with `patcher`, such as that of KSampler."""
    if host.PRESENT:
        watch_sampling(patcher, KEY, lambda: ClipPreview(colours))


def send_picture(image: Tensor) -> None:
    """Send the first image of IMAGE [B, H, W, C] to the drawing of the running node, where no file shows it."""
    if host.is_watched():
        frame = pictures(image[:1, ..., :3].movedim(-1, 1) * 2 - 1, DRAWN_SIDE)[0]
        host.send("svd_reel.picture", {"node": host.running_node(), "jpeg": encoded(frame)})


def pictures(frames: Tensor, side: int = SIDE) -> Tensor:
    """Return frames [T, 3, h, w] in -1..1 as bytes [T, H, W, 3] on the CPU, with a longer side of `side` pixels."""
    height, width = frames.shape[-2:]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = ((frames.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).contiguous()
    # Pillow takes a third of torch's time for bytes.
    resized = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in small.numpy()]
    return torch.stack([torch.from_numpy(np.array(frame)) for frame in resized])


def encoded(frame: Tensor) -> str:
    """Return bytes [H, W, 3] as a JPEG in base64."""
    file = io.BytesIO()
    Image.fromarray(frame.numpy()).save(file, "JPEG", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode()


def played(frames: Tensor, fps: float) -> dict[str, Any]:
    """Return the entry of a finished clip [T, H, W, 3] in 0..1 for the node's player; {} where nobody watches.

    It is a small H.264 file in the host's temporary folder, which every browser plays.
    """
    return {"svd_clip": [_entry(frames, fps)]} if host.is_watched() and len(frames) > 1 else {}


def compared(clips: Sequence[Tensor], fps: float) -> dict[str, Any]:
    """Return the entries of clips [T, H, W, 3] for a player that shows them in step; {} where nobody watches.

    A shorter clip holds its last frame, so that all files have the same duration.
    """
    if not host.is_watched():
        return {}
    frames = max(2, *map(len, clips))
    held = [clip if len(clip) == frames else clip[torch.arange(frames).clamp(max=len(clip) - 1)] for clip in clips]
    return {"svd_compared": [_entry(clip, fps, COMPARED_SIDE) for clip in held]}


def _entry(frames: Tensor, fps: float, longest: int = PLAYED_SIDE) -> dict[str, Any]:
    height, width = frames.shape[1:3]
    scale = min(1.0, longest / max(height, width))
    size = tuple(max(2, round(side * scale) // 2 * 2) for side in (height, width))
    small = frames[..., :3]
    if size != (height, width):
        small = F.interpolate(small.float().movedim(-1, 1), size, mode="area").movedim(1, -1)
    entry = _written(small.float().cpu(), fps)
    return {**entry, "fps": fps, "frames": len(frames), "width": width, "height": height}


def proxy(path: Path, fps: float) -> dict[str, Any]:
    """Return the entry of a small copy of a film whose codec browsers do not play; {} where nobody watches."""
    if not host.is_watched():
        return {}
    from ...svd_core.video import open_clip

    with open_clip(path) as film:
        height, width = film[0].shape[:2]
        scale = min(1.0, PLAYED_SIDE / max(height, width))
        size = tuple(max(2, round(side * scale) // 2 * 2) for side in (height, width))
        small = (F.interpolate(frame.movedim(-1, 0)[None], size, mode="area")[0].movedim(0, -1) for frame in film)
        entry = _written(small, fps)
        return {"svd_clip": [{**entry, "fps": fps, "frames": len(film), "width": width, "height": height}]}


def _written(frames: Iterable[Tensor] | Tensor, fps: float) -> dict[str, str]:
    """Write an H.264 file into the host's temporary folder; return its entry for the browser."""
    folder = host.temporary_folder() / "svd_reel"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{secrets.token_hex(8)}.mp4"
    from ...svd_core.video import write_clip

    write_clip(frames, path, fps=fps)
    return {"filename": path.name, "subfolder": "svd_reel", "type": "temp"}


class Taken:
    """Measures a run, to say under the node what it took."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        host.forget_peak()

    def __call__(self, *words: str) -> dict[str, list[str]]:
        """Return the entry with these words, the memory and the time."""
        peak, seconds = host.peak_bytes(), time.monotonic() - self.started
        memory = [f"{peak / 2**30:.1f} GiB"] if peak else []
        return {"svd_taken": [", ".join([*words, *memory, f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"])]}


def shown(result: tuple, *entries: dict[str, Any]) -> dict | tuple:
    """Return a node's result together with what its player shows; the result alone without a host."""
    ui = {name: value for entry in entries for name, value in entry.items()}
    return {"ui": ui, "result": result} if host.PRESENT and ui else result
