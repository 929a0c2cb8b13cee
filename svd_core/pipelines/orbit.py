"""Picture of an object to an orbit around it, with SV3D: prepare, condition, sample, decode (Voleti et al. 2024)."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..condition import Condition
from ..model.conditioning import augment
from ..model.model import VideoModel
from ..model.orbit import DEFAULT_ELEVATION, OrbitPath, orbit_vector
from ..networks.config import SVDConfig
from ..pictures import check_size, composite, from_pil
from ..pictures.objects import OBJECT_RATIO, object_mask, prepare_object
from ..sampling.guidance import triangle_guidance
from ..sampling.noise import check_seed, start_noise
from ..sampling.sampler import sample
from ..sampling.schedules import karras_sigmas
from ..sampling.solvers import SOLVERS, Step
from .batch import decoder_of
from .defaults import LARGEST_ORBIT, LONGEST_ORBIT, MOST_ORBIT_STEPS, ORBIT, ORBIT_VARIANTS

log = logging.getLogger("svd_reel")


@dataclass(frozen=True)
class OrbitSettings:
    """How to orbit an object; the defaults are those of the official script. None means the model's own.

    size: pixels of the square frames, a multiple of 8.
    frames, steps: counts.
    min_guidance, max_guidance: ends of the triangle of guidance; the back view gets most.
    elevation: degrees above the object that the picture was taken from; sv3d_p only, like all other angles.
    elevation_start: elevation of the first frame, from which it goes evenly to `elevation`.
    elevations, azimuths: one value per frame in degrees, in place of both; see `OrbitPath`.
    augmentation: standard deviation of the noise on the picture in -1..1.
    reverse: turn the other way.
    object_ratio: share of the frame that the object's longer side takes; None keeps the scale of the picture.
    prepared: the picture already is an object on white and is only resized.
    keep_picture: the last frame is the prepared picture itself, as in the official script.
    decode: "exact", or frames per chunk.
    """

    size: int | None = None
    frames: int | None = None
    steps: int = ORBIT["steps"]
    min_guidance: float = ORBIT["min_guidance"]
    max_guidance: float = ORBIT["max_guidance"]
    elevation: float = DEFAULT_ELEVATION
    elevation_start: float | None = None
    elevations: tuple[float, ...] | None = None
    azimuths: tuple[float, ...] | None = None
    augmentation: float = 1e-5
    solver: str = "euler"
    seed: int = 23
    reverse: bool = False
    object_ratio: float | None = OBJECT_RATIO
    prepared: bool = False
    keep_picture: bool = True
    decode: str | int = "exact"

    def resolve(self, config: SVDConfig) -> "OrbitSettings":
        """Return these settings with the model's own size and frames filled in; raise ValueError for illegal ones."""
        if config.variant not in ORBIT_VARIANTS:
            raise ValueError(
                f"{config.variant} does not make orbits; load sv3d_u.safetensors or sv3d_p.safetensors, or use animate"
            )
        frames = self.frames
        if frames is None:
            frames = len(self.azimuths or self.elevations or ()) or config.frames
        resolved = replace(self, size=self.size or config.width, frames=frames)
        resolved._check(config.variant)
        return resolved

    def path(self) -> OrbitPath:
        """Return the elevations and azimuths of resolved settings."""
        level = OrbitPath.level(self.elevation, self.frames)
        if self.elevation_start is not None:
            level = OrbitPath.rising(self.elevation_start, self.elevation, self.frames)
        return OrbitPath(
            tuple(self.elevations) if self.elevations is not None else level.elevations,
            tuple(self.azimuths) if self.azimuths is not None else level.azimuths,
        )

    def _check(self, variant: str) -> None:
        check_size(self.size, self.size)
        for name, value, most in (("size", self.size, LARGEST_ORBIT), ("frames", self.frames, LONGEST_ORBIT)):
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be 1 to {most} (got {value}); use the model's own")
        if not 1 <= self.steps <= MOST_ORBIT_STEPS:
            raise ValueError(f"steps must be 1 to {MOST_ORBIT_STEPS} (got {self.steps}); use 50, or 20 for a draft")
        for name in ("min_guidance", "max_guidance", "augmentation"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a number of at least 0 (got {value:g}); leave it at its default")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver {self.solver!r} is unknown; use one of {', '.join(SOLVERS)}")
        for name in ("elevations", "azimuths"):
            values = getattr(self, name)
            if values is not None and len(values) != self.frames:
                raise ValueError(f"{name} must have one value per frame (got {len(values)} for {self.frames} frames)")
        angles = ("elevation_start", "elevations", "azimuths")
        given = [name for name in angles if getattr(self, name) is not None]
        if self.elevation != DEFAULT_ELEVATION:
            given.insert(0, "elevation")
        if variant == "sv3d_u" and given:
            raise ValueError(f"sv3d_u always orbits level with its picture, so {given[0]} needs sv3d_p; leave it out")
        check_seed(self.seed)
        self.path()


class Orbit(NamedTuple):
    """An orbit: frames [T, S, S, 3] in 0..1, their object mask [T, S, S], the prepared picture [S, S, 3], the path."""

    frames: Tensor
    mask: Tensor
    picture: Tensor
    path: OrbitPath


@torch.no_grad()
def orbit(
    model: VideoModel,
    image: Any,
    settings: OrbitSettings | None = None,
    *,
    mask: Tensor | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_decode: Callable[[int, int], None] | None = None,
) -> Orbit:
    """Return the orbit of the object in `image`, a PIL image or [H, W, C] in 0..1, on a white ground.

    mask: [H, W], 1 on the object; without it the picture's alpha counts, else its white ground. `on_step(Step)` and
    `on_decode(done, total)` report progress and may raise to stop. The last frame shows the view of the picture.
    """
    settings = (settings or OrbitSettings()).resolve(model.config)
    if settings.frames != model.config.frames:
        log.warning(
            "the orbit has %d frames, but %s was trained on %d; views may not agree",
            *(settings.frames, model.config.variant, model.config.frames),
        )
    picture = object_picture(image, settings, mask)
    latents = sample_orbit(model, picture, settings, on_step=on_step)
    frames = decoder_of(model, settings.decode)(latents, on_decode)
    path = settings.path()
    if settings.keep_picture:
        frames[-1] = picture
    frames = in_direction(frames, settings.reverse)
    return Orbit(frames.contiguous(), object_mask(frames), picture, path)


def object_picture(image: Any, settings: OrbitSettings, mask: Tensor | None = None) -> Tensor:
    """Return the prepared picture [S, S, 3] in 0..1 of resolved settings; see `pictures.objects.prepare_object`."""
    pixels = image if isinstance(image, Tensor) else from_pil(image)
    pixels = pixels[0] if pixels.dim() == 4 else pixels
    if not settings.prepared:
        return prepare_object(pixels, mask, ratio=settings.object_ratio, size=settings.size)
    flat = composite(pixels[None], "white")[0]
    if tuple(flat.shape[:2]) == (settings.size, settings.size):
        return flat[..., :3].float().contiguous()
    whole = torch.ones(flat.shape[:2])
    return prepare_object(flat[..., :3], whole, ratio=1.0, size=settings.size)


def sample_orbit(
    model: VideoModel, picture: Tensor, settings: OrbitSettings, *, on_step: Callable[[Step], None] | None = None
) -> Tensor:
    """Return the scaled latents [T, 4, S/8, S/8] of a prepared picture [S, S, 3], in the official order of angles."""
    condition = orbit_condition(model, picture, settings)
    cells = settings.size // 8
    return sample(
        model.denoise,
        start_noise(settings.frames, cells, cells, settings.seed).to(model.device),
        karras_sigmas(settings.steps),
        triangle_guidance(settings.min_guidance, settings.max_guidance, settings.frames),
        condition,
        solver=settings.solver,
        on_step=on_step,
        seed=settings.seed,
    )


def orbit_condition(model: VideoModel, picture: Tensor, settings: OrbitSettings) -> Condition:
    """Return the condition of an orbit from a prepared picture [S, S, 3] in 0..1, under resolved settings."""
    batch = (picture.movedim(-1, 0)[None] * 2 - 1).contiguous()  # [1, 3, S, S]
    noised = augment(batch, settings.augmentation, settings.seed)
    vector = orbit_vector(model.config.variant, settings.path(), settings.augmentation)
    return Condition(model.encode_image(batch), model.encode_latent(noised), vector).to(model.device)


def in_direction(values: Tensor, reverse: bool) -> Tensor:
    """Return frames (or their angles) in the wanted direction; the input view stays last either way."""
    return torch.cat([values[:-1].flip(0), values[-1:]]) if reverse else values
