"""Plan how a clip fits into a given memory: placement of weights, CFG passes, feed-forward chunks, decode strategy.

No choice changes the clip, except for the rounding of other kernels. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..model.guidance_modes import GUIDANCE_MODES, gains
from ..networks.activation_bytes import CHUNK_ELEMENTS
from ..networks.config import SVDConfig
from .adapter_costs import with_adapters
from .costs import Stage, stages_of
from .reuse_costs import with_reuse

GIB = 2**30
PRESETS = (6, 8, 12, 16, 24)
"""Memory of common graphics cards, in GB."""

PLACEMENTS = ("resident", "one at a time", "streamed")
"""On the device: all networks; the network in use; of the UNet, the block in use and the next one."""

ORDER = (
    ("resident", "store"),
    ("one at a time", "store"),
    ("resident", "recompute"),
    ("one at a time", "recompute"),
    ("one at a time", "host"),
    ("streamed", "store"),
    ("streamed", "recompute"),
    ("streamed", "host"),
)
"""Placements and decode strategies (`model.streamed_decode.STRATEGIES`), from fastest to smallest."""

SMALL_CHUNK_ELEMENTS = CHUNK_ELEMENTS // 5
"""Elements per feed-forward chunk where memory is short."""

RESERVE = GIB * 3 // 2
"""Memory of a card that the driver, the screen, the libraries and the workspaces of kernels use."""

EFFICIENCY = 0.6
"""Estimated share of the measured matrix rate that a whole clip reaches; norms and copies take the rest."""


@dataclass(frozen=True)
class MemoryPlan:
    """How to make one clip within `memory` bytes.

    placement: one of PLACEMENTS. chunk_elements: feed-forward chunk size. strategy: of the decode. stages: costs per
    stage. needs: peak bytes on the device. rate: measured operations per second, or None. guidance: how the two CFG
    passes run (`model.guidance_modes`).
    """

    memory: int
    placement: str
    chunk_elements: int
    strategy: str
    stages: tuple[Stage, ...]
    needs: int
    frames: int
    width: int
    height: int
    rate: float | None = None
    guidance: str = GUIDANCE_MODES[0]

    @property
    def fits(self) -> bool:
        """Return whether the estimated peak fits into the usable memory."""
        return self.needs <= usable(self.memory)

    @property
    def flops(self) -> float:
        """Return the operations of the whole clip."""
        return sum(stage.flops for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """Return the estimated seconds for the clip, or None without a rate."""
        return None if self.rate is None else self.flops / (self.rate * EFFICIENCY)

    def on_device(self, stage: Stage) -> int:
        """Return the peak bytes of a stage on the device, weights included."""
        return stage.activations + _resident_weights(self.placement, stage, self.stages)

    def text(self) -> str:
        """Return the plan as lines of text."""
        lines = [
            f"{self.frames} frames of {self.width}x{self.height} in {self.memory / GIB:.0f} GB "
            f"({usable(self.memory) / GIB:.1f} GiB usable)",
            f"  weights: {self.placement}; CFG passes: {self.guidance}; feed-forward chunks: "
            f"{self.chunk_elements // 10**6} million elements; decode: {self.strategy}",
        ]
        for stage in self.stages:
            time_ = "" if not self.rate else f", {stage.flops / (self.rate * EFFICIENCY):.1f} s"
            lines.append(
                f"  {stage.name:<20} {self.on_device(stage) / GIB:5.2f} GiB, {stage.flops / 1e12:7.1f} TFLOP{time_}"
            )
        total = "" if self.seconds is None else f", about {self.seconds:.0f} s"
        lines.append(f"  {'total':<20} {self.needs / GIB:5.2f} GiB peak, {self.flops / 1e12:.1f} TFLOP{total}")
        if not self.fits:
            lines.append(
                f"  the plan needs {self.needs / GIB:.1f} GiB and {usable(self.memory) / GIB:.1f} GiB are usable; "
                "use a smaller size or fewer frames"
            )
        return "\n".join(lines)


def usable(memory: int) -> int:
    """Return the bytes of a card's memory that a plan may use; a tenth is left for workspaces and fragmentation."""
    return int(max(0, memory - RESERVE) * 0.9)


def make_plan(
    config: SVDConfig,
    frames: int,
    width: int,
    height: int,
    memory: int,
    *,
    steps: int = 25,
    guided: bool = True,
    itemsize: int = 2,
    rate: float | None = None,
    reuse: tuple[int, int] = (1, 0),
    guidance: str | None = None,
    adapters: Sequence[str] = (),
) -> MemoryPlan:
    """Return the fastest plan for one clip of width x height pixels that fits `memory` bytes, or else the smallest one.

    The plans are tried in the order of ORDER, each also with smaller feed-forward chunks. The two CFG passes run in
    turn, which is best at the sizes of SVD. Clips small enough to gain from a shared pass use one
    if it fits the memory too (`model.guidance_modes.gains`). reuse: interval and depth of feature reuse, which always
    runs the passes in turn. guidance: "in turn" or "together" to fix that choice. adapters: networks that steer the
    clip, keys of `adapter_costs.ADAPTERS`.

    Raises ValueError for memory, frames or sizes out of range.
    """
    if memory <= 0:
        raise ValueError(f"memory must be more than 0 GB (got {memory / GIB:g}); use 6, 8, 12, 16 or 24")
    if frames < 1 or width < 8 or height < 8 or width % 8 or height % 8:
        raise ValueError(
            f"a plan needs at least 1 frame, and a width and height that are multiples of 8 (got {frames} frames of "
            f"{width}x{height}); use 1024x576, for example"
        )
    can_share = guided and reuse[0] <= 1  # the feature cache belongs to one pass at a time

    def plan_with(placement: str, strategy: str, chunk: int, mode: str) -> MemoryPlan:
        stages = stages_of(
            config,
            frames,
            width,
            height,
            steps=steps,
            guided=guided,
            itemsize=itemsize,
            strategy=strategy,
            chunk_elements=chunk,
            videos=1 + GUIDANCE_MODES.index(mode),
        )
        if reuse[0] > 1:
            stages = [with_reuse(stage, config, frames, width, height, itemsize, reuse) for stage in stages]
        latent = (frames, height // 8, width // 8)
        stages = [with_adapters(stage, adapters, config.unet, latent, itemsize, guided) for stage in stages]
        needs = max(stage.activations + _resident_weights(placement, stage, stages) for stage in stages)
        size = (frames, width, height)
        return MemoryPlan(memory, placement, chunk, strategy, tuple(stages), needs, *size, rate, mode)

    first = guidance if guidance and can_share else "in turn"
    choices = [(*order, chunk) for order in ORDER for chunk in (CHUNK_ELEMENTS, SMALL_CHUNK_ELEMENTS)]
    for choice in choices:
        plan = plan_with(*choice, first)
        if plan.fits:
            break
    if guidance is None and can_share and gains(frames, height // 8, width // 8):
        shared = plan_with(*choice, "together")
        plan = shared if shared.fits else plan
    return plan


def _resident_weights(placement: str, stage: Stage, stages: Sequence[Stage]) -> int:
    """Return the bytes of weights on the device during a stage."""
    if placement == "resident":
        return sum({other.network: other.weights + other.beside for other in stages}.values())
    if placement == "streamed" and stage.network == "unet":
        # Two of the largest blocks plus the layers that stay: 0.12 to 0.2 of the weights at SVD's size.
        return int(0.2 * stage.weights) + stage.beside
    return stage.weights + stage.beside
