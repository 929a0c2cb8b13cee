"""What every method of control costs at a size, as a table: time in UNet passes, and memory beside the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..condition import Condition
from ..controls.amount import BucketGuidance, LowPassStart, MotionCurves
from ..controls.between import Blend, TakeTurns
from ..controls.brush import MotionBrush
from ..controls.extend import HoldFrames
from ..controls.loop import LatentRoll
from ..controls.signal import DualClock, PartialRenoise, ReplaceEstimate, Signal
from ..controls.steady import ColourAnchor, FirstFrame, SteadyGuidance
from ..controls.windows import Windows
from ..memory import PeakMemory
from ..networks.activation_bytes import unet_activation_bytes
from ..networks.config import UNetConfig
from ..sampling.controls import Control
from ..sampling.noise import start_noise
from ..sampling.sampler import sample


@dataclass(frozen=True)
class ControlCost:
    """Cost of a clip with controls. Passes are of one branch of the guidance.

    passes: evaluations of the UNet over the whole clip, each of `frames_at_once` frames. frame_passes: the same in
    passes of all frames, to which time is proportional. plain_passes: without controls. state_bytes: peak of what the
    sampler and the controls hold besides the UNet's activations, latents of the signals included. activation_bytes:
    estimated peak of one UNet pass.
    """

    passes: int
    frame_passes: float
    plain_passes: int
    frames_at_once: int
    state_bytes: int
    activation_bytes: int

    @property
    def relative_time(self) -> float:
        """Time of sampling over that without controls: 1 is no extra cost, below 1 steps are skipped."""
        return self.frame_passes / self.plain_passes

    @property
    def extra_passes_per_step(self) -> float:
        """Passes of all frames above one, per step of the schedule."""
        return self.relative_time - 1


def control_cost(
    control: Control | Sequence[Control],
    config: UNetConfig,
    frames: int,
    height: int,
    width: int,
    sigmas: Sequence[float] | Tensor,
    *,
    guided: bool = True,
    itemsize: int = 2,
    solver: str = "euler",
    plain: ControlCost | None = None,
) -> ControlCost:
    """Return what one control or several cost in a clip of latents [frames, 4, height, width] along `sigmas`.

    The controls are made for that shape, for instance with zeros for signals. `guided`: whether guidance evaluates two
    branches; passes then still count one. `itemsize`: bytes of one activation. `plain`: the cost of the same clip
    without controls, where it is known. ValueError where a control does not fit.
    """
    controls = [control] if isinstance(control, Control) else list(control)
    calls, seen, peak = _rehearse(controls, config, frames, height, width, sigmas, guided, solver)
    branches = 2 if guided else 1
    if plain is not None:
        usual = plain.passes
    else:
        usual = _rehearse([], config, frames, height, width, sigmas, guided, solver)[0] // branches
    most = max(seen, default=frames)
    return ControlCost(
        passes=calls // branches,
        frame_passes=sum(seen) / branches / frames,
        plain_passes=usual,
        frames_at_once=most,
        state_bytes=peak + _held(controls),
        activation_bytes=unet_activation_bytes(config, most, height, width, itemsize),
    )


def _rehearse(
    controls: list[Control],
    config: UNetConfig,
    frames: int,
    height: int,
    width: int,
    sigmas: Sequence[float] | Tensor,
    guided: bool,
    solver: str,
) -> tuple[int, list[int], int]:
    """Evaluations of the model, the frames that each saw, and the peak bytes besides the model's own."""
    seen: list[int] = []

    def nothing(x: Tensor, sigma: float, condition: Condition, features: object = None) -> Tensor:
        seen.append(len(x))
        return x / (1 + sigma**2)  # keeps the state finite

    condition = Condition(
        torch.zeros(1, 1, config.context_channels),
        torch.ones(1, 4, height, width),
        torch.zeros(1, config.vector_channels),
    )
    noise = start_noise(frames, height, width, 0)
    with PeakMemory() as memory:
        sample(nothing, noise, sigmas, 2.0 if guided else 1.0, condition, solver=solver, controls=controls)
    return len(seen), seen, memory.peak


def _held(controls: Sequence[object]) -> int:
    """Bytes of the tensors that active controls hold, in fields and in what those are made of."""
    known: dict[int, int] = {}

    def walk(value: object, depth: int = 0) -> None:
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            known[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, (tuple, list)):
            for entry in value:
                walk(entry, depth + 1)
        elif hasattr(value, "__dataclass_fields__") and depth < 4:
            for name in value.__dataclass_fields__:
                walk(getattr(value, name), depth + 1)

    for control in controls:
        if control.active:
            walk(control)
    return sum(known.values())


MIB = 2**20
LONG = 60  # frames of the clip that windows are told for, or twice the model's own where that is more


@dataclass(frozen=True)
class MethodCost:
    """What one method costs: `most` passes of all its frames in one step, and the whole clip's in `cost`.

    `extra_bytes`: what it holds beside the network more than a clip of as many frames does without it. `frames`: of the
    clip it is told for. `encoded`: pictures that go through the VAE's encoder before.
    """

    name: str
    node: str
    frames: int
    cost: ControlCost
    extra_bytes: int
    encoded: int = 0

    @property
    def relative_time(self) -> float:
        """Time of sampling over that of as many frames without the method, in UNet passes."""
        return self.cost.relative_time


class _Shapes:
    """Stand-ins of the right shape for everything that controls hold."""

    def __init__(self, config: UNetConfig, frames: int, height: int, width: int) -> None:
        self.frames, self.height, self.width = frames, height, width
        self.latent = torch.zeros(1, 4, height, width)
        self.cells = torch.zeros(1, 1, height, width)
        token = torch.zeros(1, 1, config.context_channels)
        self.condition = Condition(token, torch.ones(1, 4, height, width), torch.zeros(1, config.vector_channels))

    def signal(self) -> Signal:
        """A clip to impose."""
        clip = torch.zeros(self.frames, 4, self.height, self.width)
        return Signal(clip, torch.ones(self.frames, 1, self.height, self.width))

    def ends(self) -> tuple[Condition, Tensor, Tensor]:
        """The end picture's condition, and both ends."""
        return self.condition, self.latent, self.latent.clone()

    def held(self) -> Tensor:
        """The last frames of a clip."""
        return torch.zeros(min(4, self.frames - 1), 4, self.height, self.width)


Make = Callable[[_Shapes], Control]
METHODS: tuple[tuple[str, str, Make, str], ...] = (
    ("partial re-noise", "Control Camera", lambda s: PartialRenoise(s.signal()), "signal"),
    ("dual clock", "Control Camera, Cut and Drag", lambda s: DualClock(s.signal()), "signal"),
    ("replace estimate", "Control Camera", lambda s: ReplaceEstimate(s.signal()), "signal"),
    ("replace estimate, 3 repeats", "Control Camera", lambda s: ReplaceEstimate(s.signal(), repeats=3), "signal"),
    ("motion mask", "Motion Mask", lambda s: MotionBrush(s.cells, latent=s.latent), "picture"),
    ("lower start", "Motion Amount", lambda s: LowPassStart(), ""),
    ("buckets and fps over the frames", "Motion Amount", lambda s: MotionCurves(((0.0, 60.0),)), ""),
    ("guidance between buckets", "Motion Amount", lambda s: BucketGuidance(), ""),
    ("take turns", "In-between, Loop", lambda s: TakeTurns(*s.ends()), "picture"),
    ("blend", "In-between, Loop", lambda s: Blend(*s.ends()), "picture"),
    ("roll", "Loop", lambda s: LatentRoll(), ""),
    ("windows", "Windows", lambda s: Windows(s.frames, max(1, s.frames // 3)), "long"),
    ("one chunk more", "Extend", lambda s: HoldFrames(s.held()), "picture"),
    ("one chunk more, 3 repeats", "Extend", lambda s: HoldFrames(s.held(), repeats=3), "picture"),
    ("rescaled and projected guidance", "Steady", lambda s: SteadyGuidance(0.5, 0.2, 0.06, -0.3), ""),
    ("first frame", "Steady", lambda s: FirstFrame(), ""),
    ("colour anchor", "Steady", lambda s: ColourAnchor(), ""),
)
"""Every method: its name, its nodes, how it is made, and what it needs: pictures encoded, or a "long" clip."""


def method_costs(
    config: UNetConfig, frames: int, width: int, height: int, sigmas: Sequence[float] | Tensor, *, itemsize: int = 2
) -> list[MethodCost]:
    """Return what every method costs in a clip of `frames` pictures of width x height pixels along `sigmas`.

    Guidance has two branches, as with the published weights; passes are of one. Nothing of the network is run.
    """
    shapes = _Shapes(config, frames, height // 8, width // 8)
    lengths = {True: max(LONG, 2 * frames), False: frames}
    plains = {
        length: control_cost([], config, length, shapes.height, shapes.width, sigmas, itemsize=itemsize)
        for length in lengths.values()
    }
    told = []
    for name, node, make, needs in METHODS:
        length = lengths[needs == "long"]
        size = (config, length, shapes.height, shapes.width, sigmas)
        plain = plains[length]
        cost = control_cost([make(shapes)], *size, itemsize=itemsize, plain=plain)
        extra = max(0, cost.state_bytes - plain.state_bytes)
        encoded = {"signal": frames, "picture": 1}.get(needs, 0)
        told.append(MethodCost(name, node, length, cost, extra, encoded))
    return told


HEAD = ("method", "node", "UNet passes", "times the usual", "MiB besides", "pictures encoded")


def cost_rows(costs: Sequence[MethodCost]) -> list[tuple[str, ...]]:
    """The table below HEAD. Passes are of one branch and of as many frames as the model sees at once."""
    return [
        (
            f"{one.name}, {one.frames} frames" if one.cost.frames_at_once < one.frames else one.name,
            one.node,
            f"{one.cost.passes}",
            f"{one.relative_time:.2f}",
            f"{one.extra_bytes / MIB:.1f}",
            f"{one.encoded or '-'}",
        )
        for one in costs
    ]


def controls_text(
    controls: Sequence[Control],
    config: UNetConfig,
    frames: int,
    width: int,
    height: int,
    sigmas: Sequence[float] | Tensor,
    **options: bool | int,
) -> str:
    """One line on what these controls cost together in one clip; `options` as in `control_cost`."""
    names = {type(make(_Shapes(config, 3, 8, 8))): name for name, _, make, _ in reversed(METHODS)}
    used = [names.get(type(control), type(control).__name__) for control in controls if control.active]
    if not used:
        return "no controls"
    cost = control_cost(controls, config, frames, height // 8, width // 8, sigmas, **options)
    return (
        f"with {', '.join(used)}: {cost.passes} UNet passes of {cost.frames_at_once} frames, sampling takes "
        f"{cost.relative_time:.2f} times as long; {cost.activation_bytes / 2**30:.2f} GiB of activations, "
        f"{cost.state_bytes / MIB:.0f} MiB of latents"
    )


def cost_text(costs: Sequence[MethodCost]) -> str:
    """The same as lines of even columns."""
    rows = [HEAD, *cost_rows(costs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
