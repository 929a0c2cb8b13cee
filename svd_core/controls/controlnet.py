"""Steer a clip by control pictures (depth maps, line drawings) through an SVD ControlNet."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..condition import Adapter, PassInputs
from ..networks.controlnet import AddResiduals, ControlNet, trained_counts
from ..networks.layers import sinusoidal_embedding
from ..networks.step_cache import StepCache
from ..sampling.controls import Run, Start
from .adapters import AdapterControl
from .strength import check_strength

OFFICIAL_NUMBERS = (6.0, 128.0, 0.02)  # fps minus one, motion bucket, augmentation: what the official script feeds
WIDTH = 256  # of one embedded number
HINT_FRAMES = 4  # control pictures encoded at once; at full size their features are large

NUMBERS = ("auto", "official", "as the clip", "as trained")
"""Motion numbers that a ControlNet gets.

official: 6 fps, bucket 128, augmentation 0.02, whatever the clip has, as the published script does. as the clip: the
clip's own. as trained: 6 fps, 0.02 in the place of the bucket, and the clip's bucket in the place of the augmentation,
as the published training script fed them. auto: what the file asks for, else official.
"""

SUMS = ("as trained", "once")
"""How residuals are summed.

as trained: the residual of each skip counts 4, 3, 2 or 1 times, by its level, as in the UNet that the published
ControlNets were trained with. once: each counts once, as ComfyUI-Advanced-ControlNet adds them.
"""


@dataclass(frozen=True, eq=False)
class ControlNetAdapter(Adapter):
    """An SVD ControlNet with the control pictures of a clip.

    pictures: [1|T, 3, 8h, 8w] in -1..1. strength: [1|T], 1 is what it was trained for. mask: [1|T, 1, h, w] in 0..1 of
    where it acts, or None. counts: how often each skip gets its residual. numbers: one of NUMBERS but "auto". both:
    whether the unconditional pass is controlled too, as in training.
    """

    network: ControlNet
    pictures: Tensor
    strength: Tensor
    mask: Tensor | None = None
    counts: tuple[int, ...] = ()
    numbers: str = "official"
    both: bool = True
    hints: StepCache = field(default_factory=lambda: StepCache(entries=1), repr=False)

    @property
    def rows(self) -> int:
        """The number of control pictures, or of strengths or masks if these are more."""
        return max(len(part) for part in (self.pictures, self.strength, self.mask) if part is not None)

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "ControlNetAdapter":
        """Return this adapter with `change` applied to pictures, strengths and masks."""
        mask = None if self.mask is None else change(self.mask)
        return replace(self, pictures=change(self.pictures), strength=change(self.strength), mask=mask)

    def unconditional(self) -> "ControlNetAdapter | None":
        """Return itself, or None if only the conditional pass is controlled."""
        return self if self.both else None

    def begin(self, device: torch.device) -> "ControlNetAdapter":
        """Return this adapter on a device, with a cache of its hint features for one run."""
        moved = self.with_parts(lambda part: part.to(device))
        return replace(moved, hints=StepCache(entries=1))

    def hooks(self, inputs: PassInputs) -> AddResiduals:
        """Run the ControlNet on the inputs of a pass and return the hooks that add its residuals."""
        frames = len(inputs.x)
        dtype = self.network.running_dtype
        made = self.network.residuals(
            inputs.x.to(dtype),
            inputs.c_noise,
            inputs.context,
            self.vector(inputs.vector),
            frames,
            self._hint(dtype, frames),
            inputs.depth,
        )
        strength = self.strength.to(device=inputs.x.device, dtype=torch.float32).reshape(-1, 1, 1, 1)
        return AddResiduals(made, self.counts or trained_counts(self.network.config), strength, self.mask)

    def vector(self, clip: Tensor) -> Tensor:
        """Return the motion vector [T, 768] that the ControlNet gets, from that of the clip [T, V]."""
        if self.numbers == "as the clip":
            return clip
        fps, bucket, augmentation = (
            sinusoidal_embedding(torch.tensor([value]), WIDTH).to(clip).expand(len(clip), -1)
            for value in OFFICIAL_NUMBERS
        )
        if self.numbers == "as trained":
            return torch.cat([fps, augmentation, clip[:, WIDTH : 2 * WIDTH]], dim=1)
        return torch.cat([fps, bucket, augmentation], dim=1)

    def _hint(self, dtype: torch.dtype, frames: int) -> Tensor:
        """Return the features of the control pictures [T, C, h, w]; equal in every step, so kept for the run."""

        def encode() -> Tensor:
            parts = self.pictures[:1] if _is_one(self.pictures) else self.pictures
            return torch.cat([self.network.hint(part.to(dtype)) for part in parts.split(HINT_FRAMES)])

        hint = self.hints.get([self.pictures], ("hint", dtype), encode)
        return hint if len(hint) == frames else hint.expand(frames, -1, -1, -1)


@dataclass(frozen=True, eq=False)
class ControlNetControl(AdapterControl):
    """Follow the control pictures of a `ControlNetAdapter`, within a range of noise levels."""

    adapter: ControlNetAdapter

    @property
    def active(self) -> bool:
        """Whether any frame has a strength, anywhere in the mask."""
        mask = self.adapter.mask
        there = bool((self.adapter.strength != 0).any()) and (mask is None or bool(mask.any()))
        return there and super().active

    def begin(self, run: Run, start: Start) -> Start:
        """Return the start unchanged; raises ValueError for control pictures of another size or number."""
        height, width = (8 * side for side in run.noise.shape[-2:])
        own = tuple(self.adapter.pictures.shape[-2:])
        if own != (height, width):
            raise ValueError(
                f"the control pictures are {own[1]}x{own[0]} pixels, the clip is {width}x{height}; make both from the "
                "same latent"
            )
        return super().begin(run, start)


def controlnet_control(
    network: ControlNet,
    pictures: Tensor,
    frames: int,
    *,
    strength: float | Sequence[float] = 1.0,
    start: float = 0.0,
    end: float = 1.0,
    mask: Tensor | None = None,
    sums: str = SUMS[0],
    numbers: str = "official",
    both: bool = True,
) -> ControlNetControl:
    """Return the control of a clip of `frames` frames by pictures [N, 3, 8h, 8w] in -1..1.

    Too few pictures repeat the last one, too many are cut; a single one serves all frames. strength: one value, or
    points of a curve over the frames, linear between them. start, end: shares of the sampling (`sigma_at`). mask:
    [N, 1, 8h, 8w] in 0..1. sums, numbers, both: see SUMS, NUMBERS and `ControlNetAdapter`.
    """
    for name, value, known in (("sums", sums, SUMS), ("numbers", numbers, NUMBERS[1:])):
        if value not in known:
            raise ValueError(f"{name} of a ControlNet {value!r} are unknown; use one of {', '.join(known)}")
    if not torch.isfinite(pictures).all():
        raise ValueError("the control pictures have NaN or infinite values; check the node or file they come from")
    if network.config.vector_channels != 3 * WIDTH and numbers != "as the clip":
        numbers = "as the clip"
    adapter = ControlNetAdapter(
        network,
        for_frames(pictures, frames),
        strengths_over(strength, frames),
        None if mask is None else F.avg_pool2d(for_frames(mask.float(), frames).clamp(0, 1), 8),
        tuple(trained_counts(network.config)) if sums == SUMS[0] else (1,) * len(network.zero_convs),
        numbers,
        both,
    )
    return ControlNetControl(adapter, start, end)


def for_frames(pictures: Tensor, frames: int) -> Tensor:
    """Return one picture per frame [frames, ...], or the only one [1, ...]: the last is repeated, others are cut."""
    if len(pictures) == 1:
        return pictures
    missing = frames - len(pictures)
    return torch.cat([pictures, pictures[-1:].repeat(missing, 1, 1, 1)]) if missing > 0 else pictures[:frames]


def strengths_over(strength: float | Sequence[float], frames: int) -> Tensor:
    """Return the strength of every frame: [1] for one value, else [frames], linear between evenly spread points."""
    points = [float(strength)] if isinstance(strength, (int, float)) else [float(value) for value in strength]
    if not points:
        raise ValueError("the strength needs at least 1 value (got 0); use 1")
    for value in points:
        if not math.isfinite(value):
            raise ValueError(f"the strength must be finite (got {value:g}); use 1, or 0 to switch it off")
        check_strength(value)
    values = torch.tensor(points, dtype=torch.float32)
    if len(values) == 1:
        return values
    return F.interpolate(values[None, None], size=frames, mode="linear", align_corners=True)[0, 0]


def _is_one(pictures: Tensor) -> bool:
    """Return whether all rows are the same memory: one picture for all frames."""
    return len(pictures) > 1 and pictures.stride(0) == 0
