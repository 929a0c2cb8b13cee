"""Makes the clip of a shot, exactly as long as the film needs it, and keeps finished clips in a folder."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checkpoints.writing import write_tensors
from ..controls.camera.moves import parse_path
from ..controls.camera.path import held_frames
from ..files import write_json
from ..pictures import as_batch
from ..pictures.reading import lay_out
from ..pipelines.clip import AnimateSettings, animate
from ..sampling.solvers import Step
from .timing import Shot

if TYPE_CHECKING:
    from ..model.model import SVDModel

LONGER = ("windows", "extend", "slower")
"""How a panel gets longer than the model's own clip.

windows: all its frames at once, in overlapping windows; keeps to the picture, and a camera move takes the whole panel.
extend: goes on from the end of the clip, gets further; a move of the camera ends with the first clip. slower: the
model's own frames, each shown several times; takes no longer to make.
"""
DEPTH = 65535  # clips are kept in 16 bits, on disk and in memory alike: a film is the same whether resumed or not
MANIFEST = "panels.json"
FORMAT = 1  # of kept clips; raised when what `make_clip` makes of the same settings changes


def shot_settings(settings: AnimateSettings, shot: Shot, own_frames: int, longer: str) -> AnimateSettings:
    """The settings of the `animate` call of a shot: those of the film, and what the panel says.

    A shot shorter than the model's own clip of `own_frames` is cut from it, with a camera move that ends in time: the
    model moves best at the length that it was trained on.
    """
    if longer not in LONGER:
        raise ValueError(f"longer is {longer!r}, which is unknown; use one of {', '.join(LONGER)}")
    panel, wanted = shot.panel, shot.clip_frames
    # A move needs two frames to be one.
    move, rest = panel.move or "", own_frames - max(wanted, 2)
    if move and rest > 0 and held_frames(parse_path(move).part) + rest < own_frames - 1:
        move = f"{move} then hold {rest}"
    mine = {"motion_bucket": panel.bucket, "seed": panel.seed, "camera": move}
    if wanted <= own_frames or longer == "slower":
        return replace(settings, frames=own_frames, **mine)
    if longer == "extend":
        overlap = min(settings.extend_overlap, own_frames - 1)
        return replace(settings, frames=own_frames, extend=wanted - own_frames, extend_overlap=overlap, **mine)
    return replace(settings, frames=wanted, windows=own_frames, **mine)


def make_clip(
    model: "SVDModel",
    picture: Tensor,
    shot: Shot,
    settings: AnimateSettings,
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """The clip [shot.clip_frames, height, width, 3] of a picture under `shot_settings`, in 0..1 of 16 bits."""
    frames = animate(model, picture, settings, on_step=on_step)
    if len(frames) < shot.clip_frames:
        frames = frames[[index * len(frames) // shot.clip_frames for index in range(shot.clip_frames)]]
    frames = lay_out(_letterbox(frames[: shot.clip_frames], settings.width, settings.height))
    return (frames * DEPTH).round() / DEPTH


def _letterbox(frames: Tensor, width: int, height: int) -> Tensor:
    """Frames of a padded picture, whose borders were cropped off, in the middle of black ones of the film's size."""
    found_height, found_width = frames.shape[1:3]
    if (found_width, found_height) == (width, height):
        return frames
    whole = frames.new_zeros(len(frames), height, width, 3)
    top, left = (height - found_height) // 2, (width - found_width) // 2
    whole[:, top : top + found_height, left : left + found_width] = frames
    return whole


def shot_key(picture: Tensor, shot: Shot, settings: AnimateSettings, model: str) -> str:
    """What tells finished clips apart: the picture's pixels, all settings, the length, and `model`, which names it."""
    told = {**asdict(settings), "clip_frames": shot.clip_frames, "model": model, "format": FORMAT}
    pixels = as_batch(picture, settings.background).contiguous().numpy().tobytes()
    shape = str(list(picture.shape)).encode()
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode() + shape + pixels).hexdigest()[:24]


class MemoryStore:
    """Keeps nothing: a clip lives as long as the film needs it."""

    def frames(self, key: str, make: Callable[[], Tensor]) -> Sequence[Tensor]:
        """The frames of a clip."""
        return make()


class ClipStore:
    """Keeps clips in a folder, each written whole or not at all, with a manifest that says which panel is which."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, key: str) -> Path:
        """The file of a clip."""
        return self.folder / f"clip_{key}.safetensors"

    def finished(self, key: str) -> bool:
        """Whether the clip is there, whole."""
        try:
            with safe_open(self.path(key), "np") as file:
                return file.get_slice("frames").get_shape()[0] > 0
        except (OSError, SafetensorError):
            return False

    def frames(self, key: str, make: Callable[[], Tensor]) -> Sequence[Tensor]:
        """The frames of a clip, which is made and written if it is not there yet; read one at a time."""
        if not self.finished(key):
            self.folder.mkdir(exist_ok=True)
            levels = (make() * DEPTH).round().numpy().astype(np.uint16)
            write_tensors(self.path(key), {"frames": torch.from_numpy(levels)}, {})
        return StoredClip(self.path(key))

    def write_manifest(self, rows: list[dict]) -> None:
        """Say which clips the film uses, and remove those that the manifest before named and no panel uses any more."""
        path, used = self.folder / MANIFEST, {row["clip"] for row in rows}
        try:
            before = {row["clip"] for row in json.loads(path.read_text(encoding="utf-8"))["panels"]}
        except (OSError, ValueError, KeyError, TypeError):
            before = set()
        self.folder.mkdir(exist_ok=True)
        write_json(path, {"panels": rows})
        for key in before - used:
            if str(key).isalnum():
                self.path(key).unlink(missing_ok=True)


class StoredClip(Sequence):
    """The frames of a clip on disk, each read when it is asked for."""

    def __init__(self, path: Path):
        self.path = path
        with safe_open(path, "np") as file:
            self.count = file.get_slice("frames").get_shape()[0]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < self.count:
            raise IndexError(index)
        with safe_open(self.path, "np") as file:
            levels = file.get_slice("frames")[index : index + 1][0]
        return torch.from_numpy(levels.astype(np.float32)) / DEPTH  # [H, W, 3]
