"""Attach adapters (ControlNets, pose nets, camera adapters) to a clip, between two moments of the sampling."""

import math
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from ..condition import Adapter, Condition
from ..sampling.controls import Control, Inputs, Run, Start
from ..sampling.schedules import SIGMA_MAX, SIGMA_MIN
from .strength import check_share


def sigma_at(share: float) -> float:
    """Return the noise level at a share of the sampling, even in its logarithm: 700 at 0, 0.002 at 1.

    This is what "start percent" and "end percent" mean in ComfyUI. The ends themselves have no limit: infinity and 0.
    """
    if share <= 0:
        return math.inf
    return 0.0 if share >= 1 else SIGMA_MAX * (SIGMA_MIN / SIGMA_MAX) ** share


def check_range(start: float, end: float) -> None:
    """Raise ValueError unless 0 <= start <= end <= 1."""
    check_share("the start of the control", start, "use 0 for the first step")
    check_share("the end of the control", end, "use 1 for the last step")
    if start > end:
        raise ValueError(f"the control must start before it ends (got {start:g} to {end:g}); swap the two")


@dataclass(frozen=True, eq=False)
class AdapterControl(Control):
    """Attach `adapter` to both conditions of the clip, from the share `start` of the sampling to the share `end`.

    Shares are even in the logarithm of the noise level (`sigma_at`). An `enabled` of False, as for a strength of 0,
    leaves the clip bit-equal to one without the control. Subclass it where an adapter needs more of the sampling.
    """

    adapter: Adapter
    start: float = 0.0
    end: float = 1.0
    enabled: bool = True
    _moved: WeakKeyDictionary = field(default_factory=WeakKeyDictionary, init=False, repr=False)

    def __post_init__(self) -> None:
        check_range(self.start, self.end)

    @property
    def active(self) -> bool:
        """Whether the adapter does anything."""
        return self.enabled and self.start < 1 and self.end > 0

    def begin(self, run: Run, start: Start) -> Start:
        """Return the start unchanged; raises ValueError for an adapter made for another number of frames."""
        frames = len(run.noise)
        if self.adapter.rows not in (1, frames):
            raise ValueError(
                f"the {type(self.adapter).__name__} was made for {self.adapter.rows} frames, the clip has {frames}; "
                "make both from the same latent"
            )
        return start

    def acts_at(self, sigma: float) -> bool:
        """Return whether the adapter is attached at this noise level."""
        # The margin keeps rounding from excluding the first and the last step of a range.
        return sigma_at(self.end) * 0.9999 <= sigma <= sigma_at(self.start) * 1.0001

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Attach the adapter to the conditional and, if it has one, its counterpart to the unconditional pass."""
        if not self.acts_at(sigma):
            return inputs
        condition, without = (_checked(part) for part in (inputs.condition, inputs.unconditional))
        # Made once by the condition, so that what networks cache for its tensors is found again in the next step.
        without = without or condition.unconditional()
        adapter = self._on_device(run)
        return inputs._replace(
            condition=attached(condition, adapter), unconditional=attached(without, adapter.unconditional())
        )

    def _on_device(self, run: Run) -> Adapter:
        """Return the adapter on the run's device, moved once per run: networks cache what they make of its tensors."""
        if run not in self._moved:
            self._moved[run] = self.adapter.begin(run.noise.device)
        return self._moved[run]


def attached(condition: Condition, adapter: Adapter | None) -> Condition:
    """Return `condition` with one more adapter; None adds none."""
    return condition if adapter is None else replace(condition, adapters=(*condition.adapters, adapter))


def _checked(condition: Any) -> Any:
    if condition is not None and not isinstance(condition, Condition):
        raise ValueError(f"adapters need a Condition (got a {type(condition).__name__}); pass svd_core.Condition")
    return condition
