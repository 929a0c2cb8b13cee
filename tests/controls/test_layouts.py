"""Controls do not depend on how their tensors lie in memory: the same values give the same bits in any strides."""

import math

import pytest
import torch
import torch.nn.functional as F

from svd_core.controls.amount import LowPassStart
from svd_core.controls.between import Blend, TakeTurns, inbetween_control
from svd_core.controls.brush import MotionBrush, motion_brush
from svd_core.controls.camera.control import camera_signal, fit_map, scene_depth
from svd_core.controls.camera.depth import depth_from_foreground, depth_from_map
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.warping import fill_holes, warp
from svd_core.controls.colour_lock import LookLock, keep_detail, lock_colour, match_overlap, mean_look
from svd_core.controls.drag import drag_frames, drag_signal, parse_drag
from svd_core.controls.extend import Extension, HoldFrames
from svd_core.controls.kept_ends import KeptEnds, keep_ends
from svd_core.controls.loop import EvenJoin
from svd_core.controls.mask import StillOverlay, feathered, fit_masks, still_overlay
from svd_core.controls.signal import DualClock, PartialRenoise, ReplaceEstimate, Signal
from svd_core.controls.steady import FirstFrame
from svd_core.pipelines.extend import extend_clip
from svd_core.sampling.schedules import karras_sigmas
from tests.helpers.layouts import other_layouts
from tests.helpers.motion_models import FRAMES, H, W, condition, obedient_model, run, still

DRAW = torch.Generator().manual_seed(4)
LATENTS = torch.randn(FRAMES, 4, H, W, generator=DRAW)
VALID = (torch.rand(FRAMES, 1, H, W, generator=DRAW) > 0.3).float() * torch.rand(FRAMES, 1, H, W, generator=DRAW)
PICTURE = torch.rand(1, 3, 48, 64, generator=DRAW) * 2 - 1
MASK = (torch.rand(1, 1, 48, 64, generator=DRAW) > 0.6).float()
CLIP = torch.rand(9, 24, 32, 3, generator=DRAW)
LAYOUTS = list(other_layouts(LATENTS))


def encode(picture: torch.Tensor) -> torch.Tensor:
    """An encoder that answers in the strides of its input, as convolutions do."""
    cells = F.avg_pool2d(torch.cat([picture, picture[:, :1]], 1), 8)
    return cells.to(memory_format=torch.channels_last) if not picture.is_contiguous() else cells


def bits(found: object) -> list[torch.Tensor]:
    """Every tensor of a result."""
    if isinstance(found, torch.Tensor):
        return [found]
    if isinstance(found, (Signal, StillOverlay)):
        return [found.latents, found.valid] if isinstance(found, Signal) else list(found)
    return [tensor for part in found for tensor in bits(part)]


# Each row: what is tried, and a function of `view`, which puts a tensor into other strides.
SAMPLED = {
    "signal of partial re-noise": lambda view: PartialRenoise(Signal(view(LATENTS), view(VALID))),
    "signal of dual clock": lambda view: DualClock(Signal(view(LATENTS), view(VALID))),
    "signal of replace estimate": lambda view: ReplaceEstimate(Signal(view(LATENTS), view(VALID)), keep=0.7, repeats=2),
    "latent of low-pass start": lambda view: LowPassStart(100.0, latent=view(still())),
    "latent of first frame": lambda view: FirstFrame(latent=view(still())),
    "mask and latent of brush": lambda view: MotionBrush(
        view(VALID), latent=view(still()), still_bucket=5.0, moving_bucket=200.0
    ),
    "held frames": lambda view: HoldFrames(view(LATENTS[:2]), repeats=2),
    "ends of take turns": lambda view: TakeTurns(condition(picture=still(seed=8)), view(still()), view(still(seed=8))),
    "ends of blend": lambda view: Blend(condition(picture=still(seed=8)), view(still()), view(still(seed=8))),
    "ends of a control by name": lambda view: inbetween_control(
        "blend", condition(picture=still(seed=8)), view(still()), view(still(seed=8))
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SAMPLED)
def test_a_clip_does_not_depend_on_the_strides_of_a_control(name: str, layout: str) -> None:
    plain, viewed = (
        run([SAMPLED[name](view)], steps=3)
        for view in (lambda tensor: tensor, lambda tensor: other_layouts(tensor).get(layout, tensor))
    )
    assert torch.equal(plain, viewed) and viewed.stride() == plain.stride()


PATH = parse_path("orbit left 12, zoom in 1.1")
MADE = {
    "warp of a flat picture": lambda view: warp(view(PICTURE), parse_path("pan right 0.1, roll cw 5").poses(3)),
    "warp with depth": lambda view: warp(view(PICTURE), PATH.poses(3), view(PICTURE[:, :1] + 2)),
    "filled holes": lambda view: fill_holes(view(PICTURE), view(MASK)),
    "camera signal": lambda view: camera_signal(encode, view(PICTURE), PATH, 3),
    "depth from a map": lambda view: depth_from_map(view(PICTURE[:, :1]), view(MASK)),
    "depth from a foreground": lambda view: depth_from_foreground(view(MASK)),
    "scene depth": lambda view: scene_depth((30, 40), view(PICTURE[:, :1])),
    "fitted map": lambda view: fit_map(view(PICTURE.movedim(1, -1)), 0, (48, 64), 32, 32, "crop", "map"),
    "fitted masks": lambda view: fit_masks(view(MASK.movedim(1, -1)), (48, 64), 40, 32, "crop"),
    "feathered mask": lambda view: feathered(view(MASK), 2),
    "still overlay": lambda view: still_overlay(view(PICTURE), view(MASK), 2),
    "brush": lambda view: (lambda brush: [brush.motion, brush.latent.contiguous(), brush.overlay])(
        motion_brush(encode, view(PICTURE), view(MASK))
    ),
    "overlaid frames": lambda view: StillOverlay(view((PICTURE + 1) / 2), view(MASK)).over(view(CLIP)),
    "dragged frames": lambda view: drag_frames(
        view(PICTURE), [(view(MASK), parse_drag("0,0; 0.2,0.1", "1.2", "9"))], 3
    ),
    "dragged signal": lambda view: drag_signal(encode, view(PICTURE), [(view(MASK), parse_drag("0,0; 0.2,0.1"))], 3),
    "look": lambda view: mean_look(view(LATENTS)),
    "matched overlap": lambda view: match_overlap(view(LATENTS), view(LATENTS[:2] * 1.1 + 0.1), 0.8),
    "locked colour": lambda view: lock_colour(view(LATENTS), mean_look(LATENTS[:2] + 0.2), 0.9, 2),
    "kept detail": lambda view: keep_detail(view(LATENTS), mean_look(LATENTS * 1.3), 0.9, 2),
    "look lock": lambda view: LookLock(4, 0.9, 2).edit_frames(view(CLIP)),
    "even join": lambda view: EvenJoin().edit_frames(view(torch.cat([CLIP[:1] + math.pi, CLIP[1:]]))),
    "kept ends": lambda view: KeptEnds(view(CLIP[[1, 2]].movedim(-1, 1)), (0, 8), 9).edit_frames(view(CLIP)),
    "ends by name": lambda view: keep_ends(view(PICTURE.repeat(2, 1, 1, 1)), 9)[0].edit_frames(view(CLIP)),
    "extended clip": lambda view: extend_clip(
        obedient_model,
        view(LATENTS),
        condition(),
        karras_sigmas(3),
        1.0,
        4,
        Extension(FRAMES, 2, anchor=1.0, detail=0.5),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MADE)
def test_what_controls_are_made_of_does_not_depend_on_strides(name: str, layout: str) -> None:
    plain = bits(MADE[name](lambda tensor: tensor))
    viewed = bits(MADE[name](lambda tensor: other_layouts(tensor).get(layout, tensor)))
    assert len(plain) == len(viewed) > 0
    assert all(torch.equal(one, other) for one, other in zip(plain, viewed, strict=True))
