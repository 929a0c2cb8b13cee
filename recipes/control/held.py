"""Measurements of what is not about following a path: holes, sharpness at low guidance, motion of a soft condition.

Holes are compared with the truth: crops of photographs whose surroundings are known, and a second camera's photograph.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import svd_core as svd
from svd_core.controls.camera.control import camera_control, camera_signal
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.path import CameraPath
from svd_core.networks.vae import LATENT_SCALE
from svd_core.pictures import fit
from svd_core.report.measuring import measure

from .bench import psnr, shown
from .photographs import Photograph, model

INNER = 2 / 3  # share of the photograph's side that the start picture shows
METHODS: dict[str, dict] = {
    "partial re-noise": {},
    "replace estimate": {},
    "replace estimate, repeats 3": {"repeats": 3},
    "replace estimate, refine 1": {"refine": 1},
    "replace estimate, refine 2": {"refine": 2},
    "replace estimate, refine 4": {"refine": 4},
}
MOVES = {"pan right 0.2": (1.0, 0.2), "zoom out 1.3": (1.3, 0.0)}  # by how much wider the last frame is, and its shift
SECOND = "second camera"


def holes(photograph: Photograph, case: str) -> dict:
    """Move a camera over what is known around the picture; compare the last frame with the truth, in holes and beside.

    The truth goes through the autoencoder first. sharp: variance of the Laplacian in holes over that of the truth.
    seam: mean Laplacian beside the edges of holes over that of the truth.
    """
    method, move = case.split("; ")
    picture, truth, path, depth = _second_camera(photograph) if move == SECOND else _inner(photograph, move)
    settings = photograph.settings(motion_bucket=10).resolve(model().config)
    signal = camera_signal(model().encode_latent, picture, path, settings.frames, depth=depth)
    control = camera_control(signal.signal, method.split(",")[0], **METHODS[method])
    frame = svd.animate(model(), picture, settings, controls=(control,))[-1]
    wanted = shown(model().decode(model().encode_latent(truth) * LATENT_SCALE))
    hole = signal.warped.valid[-1, 0] < 0.5
    if not bool(hole.any()):
        raise ValueError(f"{case} leaves no holes in {photograph.name}; choose another move")
    near, far = (_grown(part) for part in (hole, ~hole))
    edge, (got, right) = near & far, (_laplacian(one) for one in (frame, wanted))
    return {
        "hole": psnr(frame[hole], wanted[hole]),
        "beside": psnr(frame[~hole], wanted[~hole]),
        "sharp": float(got[hole].var() / right[hole].var()),
        "seam": float(got[edge].abs().mean() / right[edge].abs().mean()),
    }


def _inner(photograph: Photograph, move: str) -> tuple[Tensor, Tensor, CameraPath, None]:
    """Return the inner part of the photograph, what a camera sees of the whole after `move`, and the path."""
    width, height = photograph.width, photograph.height
    whole, _ = fit(photograph.whole, round(width / INNER), round(height / INNER))
    factor, shift = MOVES[move]
    views = [_view(whole, INNER * zoom, 2 * INNER * by, (height, width)) for zoom, by in ((1.0, 0.0), (factor, shift))]
    return views[0], views[1], parse_path(move), None


def _view(whole: Tensor, share: float, right: float, size: tuple[int, int]) -> Tensor:
    """Return the middle `share` of a picture, moved to the right by halves of its side, at `size`."""
    theta = torch.tensor([[[share, 0.0, right], [0.0, share, 0.0]]])
    grid = F.affine_grid(theta, [1, 3, *size], align_corners=False)
    return F.grid_sample(whole, grid, mode="bicubic", align_corners=False).clamp(-1, 1)


def _second_camera(photograph: Photograph) -> tuple[Tensor, Tensor, CameraPath, Tensor]:
    """Return scikit-image's left and right photograph of a motorcycle, the path between them, and the distances."""
    import numpy as np
    import skimage.data

    if photograph.name != "motorcycle_left":
        raise ValueError(f"{SECOND} needs motorcycle_left (got {photograph.name}); leave out other photographs")
    stored = np.load(Path(skimage.data.__file__).parent / "motorcycle_disp.npz")
    shift = torch.from_numpy(stored[stored.files[0]]).float()
    known = torch.isfinite(shift) & (shift > 0)
    shift = torch.where(known, shift, shift[known].median())[None, None]
    size = (photograph.width, photograph.height)
    right = Photograph("motorcycle_right", size, photograph.frames)
    # Disparities are in pixels of the stored picture, whose width the fitted picture may crop.
    across = min(shift.shape[3], shift.shape[2] * size[0] / size[1])
    shift, _ = fit(shift, *size)
    middle = float(shift[..., size[1] // 2, size[0] // 2])
    return photograph.picture, right.picture, parse_path(f"truck right {middle / across:.4f}"), middle / shift


def _grown(area: Tensor) -> Tensor:
    """Return an area [H, W] with two pixels more on every side."""
    return F.max_pool2d(area.float()[None, None], 5, 1, 2)[0, 0] > 0.5


def _laplacian(frame: Tensor) -> Tensor:
    """Return the Laplacian [H, W] of the mean colour of a frame [H, W, 3]."""
    kernel = frame.new_tensor([[[[0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
    return F.conv2d(F.pad(frame.mean(-1)[None, None], (1, 1, 1, 1), mode="replicate"), kernel)[0, 0]


def looks(photograph: Photograph, case: str) -> dict:
    """Make a clip with one setting more; return its motion, sharpness, contrast and colours over the clip."""
    name, _, value = case.partition(" ")
    clip = photograph.clip(**({} if case == "usual" else {name: float(value)}))
    report = measure(clip)
    return {
        "motion": sum(report.motion) / len(report.motion),
        "first": float(_laplacian(clip[0]).var()),
        "last": float(_laplacian(clip[-1]).var()),
        "contrast": report.contrast[-1] - 1,
        "colour": report.colour[-1],
    }


KINDS = {
    "holes": (holes, tuple(f"{method}; {move}" for move in (*MOVES, SECOND) for method in METHODS)),
    "looks": (looks, ("usual", "skip_guidance 0.5", "skip_guidance 1", "soften_above 60", "soften_above 100")),
}
"""Kinds of measurements: the function, and its cases."""
