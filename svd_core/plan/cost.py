"""What controls cost, from shapes alone: passes of the UNet and bytes, by a rehearsal with a model that does nothing.

The sampler runs as it would, with the same shapes and sigmas, so that what is counted is what happens, whatever a
control does. No control needs gradients: the rehearsal, as every sampling, runs without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..memory import PeakMemory, unet_activation_bytes
from ..model.conditioning import Condition
from ..networks.config import UNetConfig
from ..sampling.controls import Control
from ..sampling.noise import start_noise
from ..sampling.sample import sample


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
