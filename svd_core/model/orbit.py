"""Camera orbits of SV3D: elevation and azimuth of every frame, and the vector that the network is conditioned on.

SV3D_u always turns at the elevation of its picture and is conditioned on the noise augmentation alone. SV3D_p also
takes one elevation and one azimuth per frame. Both end at the view of the input picture.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.layers import sinusoidal_embedding

AUGMENTATION_CHANNELS, ANGLE_CHANNELS = 256, 512
ORBIT_FRAMES = 21
DEFAULT_ELEVATION = 10.0  # degrees; the official script's
FULL_TURN = 360.0


@dataclass(frozen=True)
class OrbitPath:
    """Elevation and azimuth of the camera in each frame, in degrees.

    elevations: -90..90, 0 is level with the object, positive is above. azimuths: 0..360, never decreasing; the last
    frame shows the input picture's view, so only differences from the last azimuth count. The last elevation is the one
    that the input picture was taken from.
    """

    elevations: tuple[float, ...]
    azimuths: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.elevations) != len(self.azimuths) or not self.azimuths:
            raise ValueError(
                f"an orbit needs one elevation and one azimuth per frame (got {len(self.elevations)} and "
                f"{len(self.azimuths)}); give {ORBIT_FRAMES} of each"
            )
        for number, value in enumerate(self.elevations, 1):
            if not (math.isfinite(value) and -90 <= value <= 90):
                raise ValueError(f"elevation {number} must be within -90 to 90 degrees (got {value:g}); use 0 to 30")
        for number, value in enumerate(self.azimuths, 1):
            if not (math.isfinite(value) and 0 <= value <= FULL_TURN):
                raise ValueError(
                    f"azimuth {number} must be within 0 to 360 degrees (got {value:g}); one turn is all SV3D makes"
                )
        for number, (before, after) in enumerate(zip(self.azimuths, self.azimuths[1:], strict=False), 2):
            # The last may be written as 0 where it closes the turn, as the official script does.
            if after < before and not (number == len(self.azimuths) and after == 0):
                raise ValueError(
                    f"azimuth {number} goes back from {before:g} to {after:g} degrees; give them in ascending order"
                )

    @classmethod
    def level(cls, elevation: float = DEFAULT_ELEVATION, frames: int = ORBIT_FRAMES) -> "OrbitPath":
        """Return the official static orbit: one turn in even steps at one elevation, the input view last."""
        return cls((float(elevation),) * frames, _even_azimuths(frames))

    @classmethod
    def rising(cls, start: float, end: float, frames: int = ORBIT_FRAMES) -> "OrbitPath":
        """Return one even turn whose elevation goes evenly from `start` to `end`, which is the picture's own."""
        steps = max(1, frames - 1)
        elevations = tuple(start + (end - start) * index / steps for index in range(frames))
        return cls(elevations, _even_azimuths(frames))

    @classmethod
    def waving(cls, elevation: float = DEFAULT_ELEVATION, seed: int = 23, frames: int = ORBIT_FRAMES) -> "OrbitPath":
        """Return the official dynamic orbit: uneven steps, the elevation a sum of sines around `elevation`.

        Random numbers come from `seed` alone; the input view is last.
        """
        random = torch.Generator().manual_seed(seed)
        per_frame, waves = 4, 84
        samples = per_frame * frames

        def uniform(low: float, high: float, count: int) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=random, dtype=torch.float64)

        time = torch.arange(samples, dtype=torch.float64) / samples
        for _ in range(1000):
            cycles = torch.randint(1, 5, (waves, 1), generator=random)
            phases = math.pi * torch.randint(0, 2, (waves, 1), generator=random).double()
            curve = (uniform(0.5, 10, waves)[:, None] * torch.sin(2 * math.pi * cycles * time + phases)).sum(0)
            smooth = torch.stack([curve.roll(shift) for shift in range(-2, 3)]).mean(0) + elevation
            if float(smooth.abs().max()) < 90 and float((curve + elevation).abs().max()) <= 90:
                break
        else:
            raise ValueError(f"no waving orbit stays within 90 degrees around elevation {elevation:g}; use -45 to 45")
        steps = uniform(0, 2, samples)
        steps *= (FULL_TURN - FULL_TURN / samples * float(uniform(0, 2, 1))) / steps.sum()
        azimuths = torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)[:-1]])[::per_frame]
        elevations = (curve + elevation)[::per_frame]
        # Rotated by one, so that the first sample, the input view, comes last.
        turned = [*azimuths.tolist()[1:], 0.0]
        return cls(tuple(elevations.roll(-1).tolist()), tuple(turned))

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.azimuths)

    def polar_radians(self) -> Tensor:
        """Return the angle from straight above of each frame: [T] float32 in radians."""
        return torch.tensor([math.radians(90 - value) for value in self.elevations], dtype=torch.float64).float()

    def azimuth_radians(self) -> Tensor:
        """Return each azimuth relative to the last frame's, within one turn: [T] float32 in radians."""
        last = self.azimuths[-1]
        turns = [math.radians((value - last) % FULL_TURN) for value in self.azimuths]
        return torch.tensor(turns, dtype=torch.float64).float()

    def table(self, *, reverse: bool = False) -> str:
        """Return the angles as CSV text: frame, elevation and azimuth relative to the input view, in degrees.

        reverse: the frames are shown in the other direction, the input view last all the same.
        """
        angles = list(zip(self.elevations, self.azimuths, strict=True))
        if reverse:
            angles = [*angles[-2::-1], angles[-1]]
        rows = ["frame,elevation,azimuth"]
        for number, (elevation, azimuth) in enumerate(angles, 1):
            rows.append(f"{number},{elevation:.3f},{(azimuth - self.azimuths[-1]) % FULL_TURN:.3f}")
        return "\n".join(rows) + "\n"


def orbit_vector(variant: str, path: OrbitPath, augmentation: float) -> Tensor:
    """Return the conditioning vector of an orbit: [1, 256] float32 for sv3d_u, [T, 1280] for sv3d_p.

    augmentation: standard deviation of the noise on the picture in -1..1, 1e-5 in training. sv3d_p appends the polar
    angle and the azimuth of every frame, in radians (SV3D, Voleti et al. 2024; official order).
    """
    noise = sinusoidal_embedding(torch.tensor([augmentation]), AUGMENTATION_CHANNELS)  # [1, 256]
    if variant == "sv3d_u":
        return noise
    polar = sinusoidal_embedding(path.polar_radians(), ANGLE_CHANNELS)
    azimuth = sinusoidal_embedding(path.azimuth_radians(), ANGLE_CHANNELS)
    return torch.cat([noise.expand(path.frames, -1), polar, azimuth], dim=-1)  # [T, 1280]


def _even_azimuths(frames: int) -> tuple[float, ...]:
    """Return the azimuths of one turn in even steps that ends at the input view (0)."""
    return tuple(
        (FULL_TURN / frames * (index + 1)) % FULL_TURN if index + 1 < frames else 0.0 for index in range(frames)
    )
