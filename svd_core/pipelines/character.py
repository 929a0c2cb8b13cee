"""A picture of a person and a video of poses to a clip of that person: MimicMotion and ControlNeXt-SVD."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..condition import Adapter, Condition
from ..controls.adapters import AdapterControl
from ..controls.anchored_windows import AnchoredWindows, DropFirstFrame
from ..controls.poses import ControlNeXtAdapter, LoadedPoseNetwork, MimicMotionAdapter
from ..model.conditioning import condition_on_image
from ..model.decoding import parse_plan
from ..model.model import VideoModel
from ..networks.config import UNetConfig
from ..pictures import as_batch, check_size, fit
from ..sampling.controls import Control, finish_frames
from ..sampling.limits import MAX_STEPS
from ..sampling.noise import check_seed, start_noise
from ..sampling.sampler import sample
from ..sampling.schedules import karras_sigmas
from ..sampling.solvers import SOLVERS, Step
from .batch import decoder_of
from .settings import FIT_MODES

log = logging.getLogger("svd_reel")


class CharacterDefaults(NamedTuple):
    """What the authors of a pose network sample with."""

    window: int
    overlap: int
    guidance: float
    augmentation: float


DEFAULTS = {
    "mimicmotion": CharacterDefaults(window=16, overlap=6, guidance=2.0, augmentation=0.0),
    "controlnext": CharacterDefaults(window=24, overlap=6, guidance=3.0, augmentation=0.02),
}


@dataclass(frozen=True)
class CharacterSettings:
    """How to let poses drive a person; the defaults are those of the authors. None: the pose network's own.

    width, height: pixels, multiples of 8; 576x1024 for a standing person.
    window, overlap: frames that are denoised at once and those that windows share; MimicMotion 1.1 takes 72 and 4.
    strength: of the poses, 0 to 2; 0 leaves them out.
    start, end: shares of the sampling between which the poses act.
    keep_first: keep the first frame, which shows the reference picture's own pose and is not part of the motion.
    """

    width: int = 576
    height: int = 1024
    window: int | None = None
    overlap: int | None = None
    steps: int = 25
    guidance: float | None = None
    augmentation: float | None = None
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    keep_first: bool = False
    fit: str = "crop"
    solver: str = "euler"
    seed: int = 42
    decode: str | int = "exact"

    def resolve(self, kind: str) -> "CharacterSettings":
        """Return these settings with the defaults of a pose network filled in; raise ValueError for illegal ones."""
        own = DEFAULTS[kind]
        window = self.window or own.window
        most = window - (2 if kind == "mimicmotion" else 1)
        settings = replace(
            self,
            window=window,
            overlap=min(own.overlap, max(0, most)) if self.overlap is None else self.overlap,
            guidance=own.guidance if self.guidance is None else self.guidance,
            augmentation=own.augmentation if self.augmentation is None else self.augmentation,
        )
        settings._check(kind)
        return settings

    def _check(self, kind: str) -> None:
        check_size(self.width, self.height)
        AnchoredWindows(self.window, self.overlap, kind)
        if not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"steps must be 1 to {MAX_STEPS} (got {self.steps}); use 25")
        for name in ("guidance", "augmentation", "strength"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be 0 or above (got {value:g}); leave it at its default")
        if self.fit not in FIT_MODES:
            raise ValueError(f"fit {self.fit!r} is unknown; use {', '.join(FIT_MODES)}")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver {self.solver!r} is unknown; use one of {', '.join(SOLVERS)}")
        parse_plan(self.decode)
        check_seed(self.seed)


@torch.no_grad()
def animate_character(
    model: VideoModel,
    poses_network: LoadedPoseNetwork,
    image: Tensor,
    drawings: Tensor,
    settings: CharacterSettings | None = None,
    *,
    controls: Sequence[Control] = (),
    on_step: Callable[[Step], None] | None = None,
    on_decode: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the clip [T, H, W, 3] in 0..1 (CPU) of the person in `image` doing what the pose drawings show.

    image: as in `animate`, one picture. drawings: [N, H, W, 3] in 0..1, skeletons on black; the first is the pose of
    the picture itself, and its frame is dropped unless `keep_first`. controls: more controls, applied first.
    """
    settings = (settings or CharacterSettings()).resolve(poses_network.kind)
    picture, _ = fit(as_batch(image)[:1], settings.width, settings.height, settings.fit)
    sized = fitted_drawings(drawings, settings)
    check_poses(poses_network, sized, model.config.unet)
    condition = condition_on_image(model, picture, augmentation_level=settings.augmentation, seed=settings.seed)
    steering = [*controls, *character_controls(poses_network, sized.to(model.device), settings)]
    cells = (settings.height // 8, settings.width // 8)
    noise = start_noise(len(sized), *cells, settings.seed).to(model.device)
    latents = sample_character(
        model.denoise, noise, karras_sigmas(settings.steps), settings.guidance, condition.to(model.device), steering,
        solver=settings.solver, seed=settings.seed, on_step=on_step,
    )  # fmt: skip
    return finish_frames(decoder_of(model, settings.decode)(latents, on_decode), steering)


def fitted_drawings(drawings: Tensor, settings: CharacterSettings) -> Tensor:
    """Return pose drawings [N, H, W, C] in 0..1 at the size of the clip: [N, 3, H, W] in 0..1."""
    if drawings.dim() != 4 or not len(drawings) or drawings.shape[-1] < 3:
        raise ValueError(f"pose drawings must be [frames, height, width, 3] (got {list(drawings.shape)})")
    planes = drawings[..., :3].movedim(-1, 1).float()
    return fit(planes, settings.width, settings.height, settings.fit)[0].clamp(0, 1)


def check_poses(network: LoadedPoseNetwork, drawings: Tensor, config: UNetConfig) -> None:
    """Raise ValueError for a network of another width than the UNet's, or drawings that show nothing."""
    width = network.network.channels
    if width != config.model_channels:
        raise ValueError(
            f"{network.name} is made for a UNet {width} channels wide (this one has {config.model_channels}); use the "
            "UNet that it was published with"
        )
    if float(drawings.amax()) <= 0.02:
        raise ValueError("the pose drawings are black; connect the pictures of a pose detector such as DWPose")


def pose_adapter(network: LoadedPoseNetwork, drawings: Tensor, strength: float = 1.0) -> Adapter:
    """Return the adapter of pose drawings [T, 3, 8h, 8w] in 0..1."""
    if network.kind == "mimicmotion":
        return MimicMotionAdapter.of(network.network, drawings, strength)
    return ControlNeXtAdapter(network.network, drawings, strength)


def character_controls(
    network: LoadedPoseNetwork, drawings: Tensor, settings: CharacterSettings
) -> tuple[Control, ...]:
    """Return the controls of resolved settings: the poses, the windows that frame 0 leads, and its removal."""
    adapter = pose_adapter(network, drawings, settings.strength)
    poses = AdapterControl(adapter, settings.start, settings.end, enabled=settings.strength > 0)
    windows = AnchoredWindows(settings.window, settings.overlap, network.kind)
    return (poses, windows) if settings.keep_first else (poses, windows, DropFirstFrame())


def sample_character(
    denoise: Callable[..., Tensor],
    noise: Tensor,
    sigmas: Tensor,
    guidance: float,
    condition: Condition,
    controls: Sequence[Control],
    *,
    solver: str = "euler",
    seed: int = 42,
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """Return the scaled latents [T, 4, h, w]: constant guidance, and the unconditional pass without poses."""
    return sample(
        denoise, noise, sigmas, guidance, condition, solver=solver, controls=controls, seed=seed, on_step=on_step
    )
