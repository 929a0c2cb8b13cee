"""How a clip fits into a given memory: where weights wait, how guidance runs, how the decode streams.

No choice changes the clip, but for the rounding of other kernels.
"""

import time
from dataclasses import dataclass, replace

import torch

from ..model.guidance_passes import GUIDANCE_MODES, gains
from ..networks.attention import NUMBERS_PER_CALL
from ..networks.config import SVDConfig
from .costs import Stage, stages_of
from .reuse_costs import with_reuse

GIB = 2**30
PRESETS = (6, 8, 12, 16, 24)
"""Memory of usual graphics cards, in GB."""

PLACEMENTS = ("resident", "one at a time", "streamed")
"""All networks on the device; the one in use; of the UNet, the block in use and the next."""

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
"""Placements and decode strategies (`streamed.STRATEGIES`) from fastest to smallest."""

SMALL_PIECES = NUMBERS_PER_CALL // 5
"""Numbers of a feed-forward call where memory is short."""

RESERVE = GIB * 3 // 2
"""What the driver, the screen, the libraries and the workspaces of kernels take of a card."""

EFFICIENCY = 0.6
"""Share of the measured matrix rate that a whole clip reaches: norms and copies take the rest (an estimate)."""


@dataclass(frozen=True)
class MemoryPlan:
    """A way to make one clip within `memory` bytes. `stages` are its costs; `needs` the largest sum on the device;
    `guidance` how its branches run (`branches.GUIDANCE_MODES`).
    """

    memory: int
    placement: str
    numbers_per_call: int
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
        """Whether the estimate stays inside the memory."""
        return self.needs <= usable(self.memory)

    @property
    def flops(self) -> float:
        """Operations of the whole clip."""
        return sum(stage.flops for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """Estimated time of the clip, None without a rate."""
        return None if self.rate is None else self.flops / (self.rate * EFFICIENCY)

    def with_rate(self, rate: float) -> "MemoryPlan":
        """This plan with a rate in operations a second (`measure_rate`)."""
        return replace(self, rate=rate)

    def on_device(self, stage: Stage) -> int:
        """Bytes that a stage takes on the device."""
        return stage.activations + _resident(self.placement, stage, self.stages)

    def text(self) -> str:
        """The plan in lines."""
        lines = [
            f"{self.frames} frames of {self.width}x{self.height} in {self.memory / GIB:.0f} GB "
            f"({usable(self.memory) / GIB:.1f} GiB of them usable)",
            f"  weights {self.placement}; branches of guidance {self.guidance}; feed-forward "
            f"{self.numbers_per_call // 10**6} million numbers at a time; decode: {self.strategy}",
        ]
        for stage in self.stages:
            time_ = "" if not self.rate else f", {stage.flops / (self.rate * EFFICIENCY):.1f} s"
            lines.append(
                f"  {stage.name:<20} {self.on_device(stage) / GIB:5.2f} GiB, {stage.flops / 1e12:7.1f} TFLOP{time_}"
            )
        total = "" if self.seconds is None else f", about {self.seconds:.0f} s"
        lines.append(f"  {'together':<20} {self.needs / GIB:5.2f} GiB at most, {self.flops / 1e12:.1f} TFLOP{total}")
        if not self.fits:
            lines.append(
                f"  it needs {self.needs / GIB:.1f} GiB and {usable(self.memory) / GIB:.1f} GiB are usable; "
                "take a smaller size or fewer frames"
            )
        return "\n".join(lines)


def usable(memory: int) -> int:
    """Bytes of a memory that a run may plan with; a tenth stays for workspaces and fragmentation."""
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
) -> MemoryPlan:
    """The fastest plan of one clip of width x height pixels that fits `memory` bytes, or else the smallest there is.

    Tried in the order of ORDER, each with smaller feed-forward pieces too. The branches of guidance run in turn, as it
    is best at the sizes of SVD; of a clip so small that both in one pass are faster (`branches.gains`) they do that
    where the same plan has the memory. reuse: interval and depth of the reuse of features, which runs branches in turn.
    guidance: "in turn" or "together" to have it so in any case.
    """
    if memory <= 0:
        raise ValueError(f"memory is {memory / GIB:g} GB, but it must be more than 0; use 6, 8, 12, 16 or 24")
    if frames < 1 or width < 8 or height < 8 or width % 8 or height % 8:
        raise ValueError(
            f"a clip of {frames} frames of {width}x{height} cannot be planned; use 1 frame or more and multiples of 8"
        )
    share = guided and reuse[0] <= 1  # features are kept of one branch at a time

    def attempt(placement: str, strategy: str, pieces: int, way: str) -> MemoryPlan:
        stages = stages_of(
            config,
            frames,
            width,
            height,
            steps=steps,
            guided=guided,
            itemsize=itemsize,
            strategy=strategy,
            numbers_per_call=pieces,
            videos=1 + GUIDANCE_MODES.index(way),
        )
        if reuse[0] > 1:
            stages = [with_reuse(stage, config, frames, width, height, itemsize, reuse) for stage in stages]
        needs = max(stage.activations + _resident(placement, stage, stages) for stage in stages)
        size = (frames, width, height)
        return MemoryPlan(memory, placement, pieces, strategy, tuple(stages), needs, *size, rate, way)

    first = guidance if guidance and share else "in turn"
    choices = [(*order, pieces) for order in ORDER for pieces in (NUMBERS_PER_CALL, SMALL_PIECES)]
    for choice in choices:
        plan = attempt(*choice, first)
        if plan.fits:
            break
    if guidance is None and share and gains(frames, height // 8, width // 8):
        both = attempt(*choice, "together")
        plan = both if both.fits else plan
    return plan


def _resident(placement: str, stage: Stage, stages: "tuple[Stage, ...] | list[Stage]") -> int:
    """Bytes of weights on the device during a stage."""
    if placement == "resident":
        return sum({other.network: other.weights for other in stages}.values())
    if placement == "streamed" and stage.network == "unet":
        # Two of the largest blocks, and what stays: at SVD's size 0.12 of the weights each way.
        return int(0.2 * stage.weights)
    return stage.weights


@torch.no_grad()
def measure_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of `device`, from a matrix product and a convolution of a fraction of a second."""
    side = 4096 if device.type == "cuda" else 512
    left = torch.randn(side, side, device=device).to(dtype)
    picture = torch.randn(1, 256, 64, 64, device=device).to(dtype)
    kernel = torch.randn(256, 256, 3, 3, device=device).to(dtype)

    def seconds(run, flops: float) -> float:
        run()
        _wait(device)
        start, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - start < 0.1:
            run()
            count += 1
            _wait(device)
        return (time.perf_counter() - start) / count / flops

    product = seconds(lambda: left @ left, 2.0 * side**3)
    convolution = seconds(lambda: torch.conv2d(picture, kernel, padding=1), 2.0 * 9 * 256**2 * 64**2)
    return 1 / (0.65 * product + 0.35 * convolution)  # the shares of a pass (convolutions are 35 per cent)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
