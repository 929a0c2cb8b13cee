"""What controls cost at a given size: time in UNet passes, and memory beside the network.

`control_cost` runs the real sampler with a placeholder model and counts. `method_costs` does that for every control
method with placeholder inputs, and `cost_text` prints the table. The network itself never runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..condition import Condition
from ..controls.adapters import AdapterControl
from ..controls.amount import BucketGuidance, LowPassStart, MotionCurves, SoftenedCondition
from ..controls.anchored_windows import AnchoredWindows
from ..controls.between import Blend, TakeTurns
from ..controls.brush import MotionBrush
from ..controls.extend import HoldFrames
from ..controls.inversion import InvertedSource
from ..controls.loop import LatentRoll
from ..controls.matched import MatchedBetween
from ..controls.signal import DualClock, PartialRenoise, ReplaceEstimate, Signal
from ..controls.skip_guidance import SkipGuidance
from ..controls.source_clip import source_control
from ..controls.steady import ColourAnchor, FirstFrame, SteadyGuidance
from ..controls.windows import Windows
from ..memory import PeakMemory
from ..networks.activation_bytes import unet_activation_bytes
from ..networks.config import UNetConfig
from ..networks.controlnet import skip_widths
from ..sampling.controls import Control
from ..sampling.noise import start_noise
from ..sampling.sampler import sample
from .costs import level_pixels

MIB = 2**20

LONG_CLIP = 60
"""Frames of the clip for which windows are measured, or twice the model's own number if that is more."""

COLUMNS = ("method", "node", "UNet passes", "relative time", "extra MiB", "pictures encoded")


# The cost of given controls


@dataclass(frozen=True)
class ControlCost:
    """Cost of a clip with controls. A guided evaluation counts as one pass, although CFG runs two.

    passes: UNet evaluations for the whole clip, of at most `frames_at_once` frames each.
    frame_passes: the same in passes over all frames; time is proportional to this.
    plain_passes: passes without controls.
    state_bytes: peak bytes of sampler and controls beside the UNet's activations, latents of signals included.
    activation_bytes: estimated peak of one UNet pass.
    """

    passes: int
    frame_passes: float
    plain_passes: int
    frames_at_once: int
    state_bytes: int
    activation_bytes: int

    @property
    def relative_time(self) -> float:
        """Return the sampling time relative to no controls: 1 costs nothing extra, below 1 skips steps."""
        return self.frame_passes / self.plain_passes


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
    control_scale: float = 1.0,
) -> ControlCost:
    """Return the cost of one control or several for a clip of latents [frames, 4, height, width] along `sigmas`.

    The controls must be made for that shape; zeros are enough for signals. guided: whether CFG runs two passes per
    evaluation. itemsize: bytes per activation. plain: the known cost of the same clip without controls.
    control_scale: that of the model (`SVDConfig.control_scale`).

    Raises ValueError if a control does not fit the clip.
    """
    controls = [control] if isinstance(control, Control) else list(control)
    size = (config, frames, height, width, sigmas, guided, solver)
    frame_counts, peak = _dry_run(controls, *size, control_scale)
    per_evaluation = 2 if guided else 1
    plain_passes = plain.passes if plain is not None else len(_dry_run([], *size)[0]) // per_evaluation
    most = max(frame_counts, default=frames)
    return ControlCost(
        passes=len(frame_counts) // per_evaluation,
        frame_passes=sum(frame_counts) / per_evaluation / frames,
        plain_passes=plain_passes,
        frames_at_once=most,
        state_bytes=peak + _tensor_bytes(controls),
        activation_bytes=unet_activation_bytes(config, most, height, width, itemsize),
    )


def residual_bytes(config: UNetConfig, frames: int, height: int, width: int, itemsize: int) -> int:
    """Return the bytes of a ControlNet's residuals in one pass over latents [frames, 4, height, width]."""
    areas, numbers, level = level_pixels(height, width, len(config.channel_mult)), 0, 0
    widths = skip_widths(config)
    per_level = config.num_res_blocks + 1
    for index, channels in enumerate(widths):
        level = 0 if index == 0 else min((index - 1) // per_level + ((index - 1) % per_level == per_level - 1),
                                         len(areas) - 1)  # fmt: skip
        numbers += channels * areas[level]
    return itemsize * frames * (numbers + widths[-1] * areas[-1])


def _dry_run(
    controls: list[Control],
    config: UNetConfig,
    frames: int,
    height: int,
    width: int,
    sigmas: Sequence[float] | Tensor,
    guided: bool,
    solver: str,
    control_scale: float = 1.0,
) -> tuple[list[int], int]:
    """Sample with a placeholder model; return the frames of every evaluation, and the peak bytes beside the model."""
    frame_counts: list[int] = []

    def placeholder(x: Tensor, sigma: float, condition: Condition, features: object = None) -> Tensor:
        frame_counts.append(len(x))
        return x / (1 + sigma**2)  # keeps the state finite

    condition = Condition(
        torch.zeros(1, 1, config.context_channels),
        torch.ones(1, 4, height, width),
        torch.zeros(1, config.vector_channels),
    )
    noise = start_noise(frames, height, width, 0)
    with PeakMemory() as memory:
        scales = 2.0 if guided else 1.0
        given = {"solver": solver, "controls": controls, "control_scale": control_scale}
        sample(placeholder, noise, sigmas, scales, condition, **given)
    return frame_counts, memory.peak


def _tensor_bytes(controls: Sequence[Control]) -> int:
    """Return the bytes of all tensors and networks in the fields of active controls; shared storage counts once."""
    sizes: dict[int, int] = {}

    def walk(value: object, depth: int = 0) -> None:
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            sizes[storage.data_ptr() or id(value)] = storage.nbytes()  # tensors on the meta device have no address
        elif isinstance(value, nn.Module):
            for parameter in value.parameters():
                walk(parameter)
        elif isinstance(value, (tuple, list)):
            for entry in value:
                walk(entry, depth + 1)
        elif hasattr(value, "__dataclass_fields__") and depth < 4:
            for name in value.__dataclass_fields__:
                walk(getattr(value, name), depth + 1)

    for control in controls:
        if control.active:
            walk(control)
    return sum(sizes.values())


# The table of all methods


class _Placeholders:
    """Placeholder inputs of the right shape for every control."""

    def __init__(self, config: UNetConfig, frames: int, height: int, width: int) -> None:
        self.frames, self.height, self.width = frames, height, width
        self.latent = torch.zeros(1, 4, height, width)
        self.cells = torch.zeros(1, 1, height, width)
        token = torch.zeros(1, 1, config.context_channels)
        self.condition = Condition(token, torch.ones(1, 4, height, width), torch.zeros(1, config.vector_channels))

    def signal(self) -> Signal:
        """Return a signal over all frames."""
        clip = torch.zeros(self.frames, 4, self.height, self.width)
        return Signal(clip, torch.ones(self.frames, 1, self.height, self.width))

    def holes(self) -> Signal:
        """Return a signal with a hole in all frames after the first."""
        signal = self.signal()
        signal.valid[1:, :, : self.height // 4] = 0.0
        return signal

    def ends(self) -> tuple[Condition, Tensor, Tensor]:
        """Return the end picture's condition, and the latents of both ends."""
        return self.condition, self.latent, self.latent.clone()

    def held(self) -> Tensor:
        """Return the last frames of a clip to extend."""
        return torch.zeros(min(4, self.frames - 1), 4, self.height, self.width)


METHODS: tuple[tuple[str, str, Callable[[_Placeholders], Control], str], ...] = (
    ("partial re-noise", "Control Camera", lambda p: PartialRenoise(p.signal()), "signal"),
    ("dual clock", "Control Camera, Cut and Drag, Control by Clip", lambda p: DualClock(p.signal()), "signal"),
    ("changed clip", "Edit Clip", lambda p: source_control(p.signal()), "signal"),
    ("changed clip, inversion", "Edit Clip", lambda p: InvertedSource(p.signal()), "signal"),
    ("replace estimate", "Control Camera", lambda p: ReplaceEstimate(p.signal()), "signal"),
    ("replace estimate, 3 repeats", "Control Camera", lambda p: ReplaceEstimate(p.signal(), repeats=3), "signal"),
    ("replace estimate, 2 rounds", "Control Camera", lambda p: ReplaceEstimate(p.holes(), refine=2), "signal"),
    ("motion mask", "Motion Mask", lambda p: MotionBrush(p.cells, latent=p.latent), "picture"),
    ("lower start", "Motion Amount", lambda p: LowPassStart(), ""),
    ("buckets and fps over the frames", "Motion Amount", lambda p: MotionCurves(((0.0, 60.0),)), ""),
    ("softened condition", "Motion Amount", lambda p: SoftenedCondition(), ""),
    ("guidance between buckets", "Motion Amount", lambda p: BucketGuidance(), ""),
    ("match", "In-between", lambda p: MatchedBetween(p.signal()), "signal"),
    ("take turns", "In-between, Loop", lambda p: TakeTurns(*p.ends()), "picture"),
    ("blend", "In-between, Loop", lambda p: Blend(*p.ends()), "picture"),
    ("roll", "Loop", lambda p: LatentRoll(), ""),
    ("windows", "Windows", lambda p: Windows(p.frames, max(1, p.frames // 3)), "long"),
    ("windows led by frame 0", "Follow Poses", lambda p: AnchoredWindows(p.frames, max(1, p.frames // 3)), "long"),
    ("one chunk more", "Extend", lambda p: HoldFrames(p.held()), "picture"),
    ("one chunk more, 3 repeats", "Extend", lambda p: HoldFrames(p.held(), repeats=3), "picture"),
    ("rescaled and projected guidance", "Steady", lambda p: SteadyGuidance(0.5, 0.2, 0.06, -0.3), ""),
    ("skip guidance", "Steady", lambda p: SkipGuidance(), ""),
    ("first frame", "Steady", lambda p: FirstFrame(), ""),
    ("colour anchor", "Steady", lambda p: ColourAnchor(), ""),
)
"""Every method: its name, its nodes, how to make it, and what it needs.

Needs are "signal" (every frame encoded), "picture" (one more picture encoded), "long" (a long clip), or "" for nothing.
"""


@dataclass(frozen=True)
class MethodCost:
    """Cost of one method.

    frames: of the clip that was measured. extra_bytes: memory beside the network, above that of the same clip without
    the method. encoded: pictures that the VAE encodes first.
    """

    name: str
    node: str
    frames: int
    cost: ControlCost
    extra_bytes: int
    encoded: int = 0

    @property
    def relative_time(self) -> float:
        """Return the sampling time relative to the same number of frames without the method."""
        return self.cost.relative_time


def method_costs(
    config: UNetConfig,
    frames: int,
    width: int,
    height: int,
    sigmas: Sequence[float] | Tensor,
    *,
    itemsize: int = 2,
    control_scale: float = 1.0,
) -> list[MethodCost]:
    """Return the cost of every method for a clip of `frames` frames of width x height pixels along `sigmas`."""
    placeholders = _Placeholders(config, frames, height // 8, width // 8)
    lengths = {True: max(LONG_CLIP, 2 * frames), False: frames}
    plain_costs = {
        length: control_cost([], config, length, placeholders.height, placeholders.width, sigmas, itemsize=itemsize)
        for length in lengths.values()
    }
    costs = []
    for name, node, make, needs in METHODS:
        length = lengths[needs == "long"]
        size = (config, length, placeholders.height, placeholders.width, sigmas)
        plain = plain_costs[length]
        given = {"itemsize": itemsize, "plain": plain, "control_scale": control_scale}
        cost = control_cost([make(placeholders)], *size, **given)
        extra = max(0, cost.state_bytes - plain.state_bytes)
        encoded = {"signal": frames, "picture": 1}.get(needs, 0)
        costs.append(MethodCost(name, node, length, cost, extra, encoded))
    return costs


# Text


def cost_rows(costs: Sequence[MethodCost]) -> list[tuple[str, ...]]:
    """Return the rows of the table, one cell per column of COLUMNS."""
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


def cost_text(costs: Sequence[MethodCost]) -> str:
    """Return the table as text with aligned columns."""
    rows = [COLUMNS, *cost_rows(costs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def controls_text(
    controls: Sequence[Control],
    config: UNetConfig,
    frames: int,
    width: int,
    height: int,
    sigmas: Sequence[float] | Tensor,
    **options: bool | float,
) -> str:
    """Return one line about what these controls cost together in one clip. options: see `control_cost`."""
    names = {type(make(_Placeholders(config, 3, 8, 8))): name for name, _, make, _ in reversed(METHODS)}
    used = [_name_of(control, names) for control in controls if control.active]
    if not used:
        return "no controls"
    cost = control_cost(controls, config, frames, height // 8, width // 8, sigmas, **options)
    return (
        f"with {', '.join(used)}: {cost.passes} UNet passes of {cost.frames_at_once} frames, "
        f"{cost.relative_time:.2f} times the sampling time; {cost.activation_bytes / 2**30:.2f} GiB of activations, "
        f"{cost.state_bytes / MIB:.0f} MiB of latents"
    )


def _name_of(control: Control, names: dict[type, str]) -> str:
    """Return what a control is called: by the table, by its adapter, or by its class."""
    if isinstance(control, AdapterControl):
        return type(control.adapter).__name__.removesuffix("Adapter")
    return names.get(type(control), type(control).__name__)
