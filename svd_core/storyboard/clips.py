"""Generate the clip of each shot at the length that the film needs, and keep finished clips in a folder."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checkpoints.networks_by_name import load_networks
from ..checkpoints.writing import write_tensors
from ..controls.camera.moves import parse_path
from ..controls.camera.path import held_frames
from ..files import JsonError, read_json, remove_leftovers, write_json
from ..pictures import as_batch
from ..pictures.reading import lay_out
from ..pipelines.settings import AnimateSettings, settings_metadata
from ..pipelines.steered import FILES, open_steering, steered_clip
from ..sampling.solvers import Step
from .timing import Shot

if TYPE_CHECKING:
    from ..model.model import SVDModel

LONGER = ("windows", "extend", "slower")
"""How to make a panel longer than the model's own clip.

windows: sample all frames at once in overlapping windows. The panel stays close to its picture, and a camera move lasts
for the whole panel. extend: continue from the end of the clip. The panel moves further away from its picture, and a
camera move ends with the first clip. slower: show each of the model's own frames several times, at no cost.
"""
DEPTH = 65535  # clips have 16 bits on disk and in memory, so that a resumed film equals one made in one run
MANIFEST = "panels.json"
FORMAT = 2  # of kept clips; increase it when `make_clip` gives another clip for the same settings


def shot_settings(settings: AnimateSettings, shot: Shot, own_frames: int, longer: str) -> AnimateSettings:
    """Return the `animate` settings of a shot: those of the film with the values of the panel.

    A shot shorter than the model's own clip of `own_frames` frames is cut from a whole clip, because the model moves
    best at the length it was trained at. Its camera move ends with the shot. `longer` is one of LONGER.
    """
    if longer not in LONGER:
        raise ValueError(f"longer {longer!r} is unknown; use {', '.join(LONGER)}")
    panel, wanted = shot.panel, shot.clip_frames
    move, rest = panel.move or "", own_frames - max(wanted, 2)  # a move needs 2 frames
    if move and rest > 0 and held_frames(parse_path(move).part) + rest < own_frames - 1:
        move = f"{move} then hold {rest}"
    own = {"motion_bucket": panel.bucket, "seed": panel.seed, "camera": move}
    own |= {"camera_strength": panel.strength, "camera_mode": panel.mode, **panel.settings}
    if wanted <= own_frames or longer == "slower":
        return replace(settings, frames=own_frames, **own)
    if longer == "extend":
        overlap = min(settings.extend_overlap, own_frames - 1)
        return replace(settings, frames=own_frames, extend=wanted - own_frames, extend_overlap=overlap, **own)
    return replace(settings, frames=wanted, windows=own_frames, **own)


def make_clip(
    model: "SVDModel",
    picture: Tensor,
    shot: Shot,
    settings: AnimateSettings,
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """Return the clip [shot.clip_frames, height, width, 3] of a picture, in 0..1 rounded to 16 bits.

    settings: those of `shot_settings`. The steering of the panel is opened here, so that one panel's is in memory.
    """
    steering = open_steering(load_networks(shot.panel.steering, model)) if shot.panel.steering else None
    frames = steered_clip(model, picture, settings, steering, on_step=on_step)
    if len(frames) < shot.clip_frames:
        frames = frames[[index * len(frames) // shot.clip_frames for index in range(shot.clip_frames)]]
    frames = lay_out(_letterbox(frames[: shot.clip_frames], settings.width, settings.height))
    return (frames * DEPTH).round() / DEPTH


def _letterbox(frames: Tensor, width: int, height: int) -> Tensor:
    """Return frames of a padded picture, which were cropped to it, centred on black at the film's size."""
    found_height, found_width = frames.shape[1:3]
    if (found_width, found_height) == (width, height):
        return frames
    whole = frames.new_zeros(len(frames), height, width, 3)
    top, left = (height - found_height) // 2, (width - found_width) // 2
    whole[:, top : top + found_height, left : left + found_width] = frames
    return whole


def shot_key(picture: Tensor, shot: Shot, settings: AnimateSettings, model: str) -> str:
    """Return 24 hexadecimal digits that identify a clip: its picture, all settings, its length and the model's name."""
    settled = {**settings_metadata(settings), "clip_frames": shot.clip_frames, "model": model, "format": FORMAT}
    if shot.panel.steering:
        settled["steering"] = {k: _content(v) if k in FILES else v for k, v in shot.panel.steering.items()}
    pixels = as_batch(picture, settings.background).contiguous().numpy().tobytes()
    shape = str(list(picture.shape)).encode()
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode() + shape + pixels).hexdigest()[:24]


def _content(paths: str | list[str]) -> list[str]:
    """Return the SHA-256 of files, or of the files in folders of frames; a name that is no file stands for itself."""
    found = []
    for path in map(Path, [paths] if isinstance(paths, str) else paths):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        parts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]
        found.append(" ".join(parts) or str(path))
    return found


class MemoryStore:
    """Keeps no clips: each lives only while the film needs it."""

    def frames(self, key: str, make: Callable[[], Tensor]) -> Sequence[Tensor]:
        """Return the frames of a new clip."""
        return make()


class ClipStore:
    """Keeps clips in a folder, each file written whole or not at all, with a manifest of which panel uses which.

    What killed runs left in the folder is removed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        remove_leftovers(folder)

    def path(self, key: str) -> Path:
        """Return the path of a clip's file."""
        return self.folder / f"clip_{key}.safetensors"

    def finished(self, key: str) -> bool:
        """Return whether the folder holds the whole clip."""
        try:
            with safe_open(self.path(key), "np") as file:
                return file.get_slice("frames").get_shape()[0] > 0
        except (OSError, SafetensorError):
            return False

    def frames(self, key: str, make: Callable[[], Tensor]) -> Sequence[Tensor]:
        """Return the frames of a clip, read one at a time; `make` is called if the folder does not hold it yet."""
        if not self.finished(key):
            self.folder.mkdir(exist_ok=True)
            levels = (make() * DEPTH).round().numpy().astype(np.uint16)
            write_tensors(self.path(key), {"frames": torch.from_numpy(levels)}, {})
        return StoredClip(self.path(key))

    def write_manifest(self, rows: list[dict]) -> None:
        """Write which clips the film uses, and delete clips of the previous manifest that no panel uses any more."""
        path, used = self.folder / MANIFEST, {row["clip"] for row in rows}
        try:
            before = {row["clip"] for row in read_json(path)["panels"] if isinstance(row["clip"], str)}
        except (OSError, JsonError, KeyError, TypeError):
            before = set()
        self.folder.mkdir(exist_ok=True)
        write_json(path, {"panels": rows})
        for key in before - used:
            if key.isalnum():  # the manifest may have been edited: delete nothing outside the folder
                self.path(key).unlink(missing_ok=True)


class StoredClip(Sequence):
    """The frames [H, W, 3] of a clip on disk; each is read when it is indexed."""

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
