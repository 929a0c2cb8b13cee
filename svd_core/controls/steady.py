"""Controls that keep a clip steady: milder guidance, a repaired first frame, colours anchored to it.

Each is off at its neutral value. None evaluates the model once more than usual; what guidance does is corrected only
where there is guidance, so that a scale of 1 costs and changes nothing.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampling.controls import Control, Evaluate, Inputs, Run
from ..sampling.guidance import Guidance
from .amount import picture_latent

FRAME = (1, 2, 3)  # the axes of one frame in [T, 4, h, w]


@dataclass(frozen=True, eq=False)
class SteadyGuidance(Control):
    """Take out of guidance what burns colours and contrast, frame by frame.

    What guidance adds, D_c - D_u, is first corrected (adaptive projected guidance, Sadat et al. 2024): `momentum` times
    the sum of earlier ones is added (below 0 it damps what repeats), `limit` bounds its root mean square per latent
    value (0: no bound; 0.06 is usual), and of its part along D_c, which only scales the picture, the share `parallel`
    is kept (1: all). Then the guided velocity is rescaled to the deviation of the one without guidance by the share
    `rescale` (Lin et al. 2024, section 3.4). Of two such controls the last counts.
    """

    rescale: float = 0.0
    parallel: float = 1.0
    limit: float = 0.0
    momentum: float = 0.0

    innermost = True  # other controls roll, turn or cut the clip between evaluations; both branches must see the same

    def __post_init__(self) -> None:
        _check_share("rescale", self.rescale)
        _check_share("the kept parallel part", self.parallel)
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise ValueError(
                f"the limit of guidance is {self.limit:g}, but it must be 0 or above; use 0 for none, or 0.06"
            )
        if not -1 < self.momentum < 1:
            raise ValueError(f"the momentum is {self.momentum:g}, but it must be between -1 and 1; use -0.5 to 0")

    @property
    def active(self) -> bool:
        """Whether anything is corrected."""
        return (self.rescale, self.parallel, self.limit, self.momentum) != (0, 1, 0, 0)

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate both branches, as guidance does, and put them together differently."""
        past = _Past()

        def corrected(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            guidance = inputs.guidance
            scale = guidance.over_frames(len(x))
            applies = guidance.sigma_low <= sigma <= guidance.sigma_high
            if not applies or bool((scale == 1).all()) or bool((scale == 0).all()):
                return evaluate(x, sigma, inputs)
            without, given = (
                evaluate(x, sigma, inputs._replace(guidance=Guidance(torch.full_like(scale, value))))
                for value in (0.0, 1.0)
            )
            scale = scale.to(x).reshape(-1, 1, 1, 1)  # [T, 1, 1, 1]
            guided = given + (scale - 1) * self._corrected(given - without, given, past, sigma)
            return self._rescaled(x, sigma, given, guided)

        return corrected

    def _corrected(self, update: Tensor, given: Tensor, past: "_Past", sigma: float) -> Tensor:
        if self.momentum:
            update = past.add(update, sigma, self.momentum)
        if self.limit:
            size = update.pow(2).mean(FRAME, keepdim=True).sqrt()
            update = update * (self.limit / size.clamp(min=1e-12)).clamp(max=1)
        if self.parallel < 1:
            along = (update * given).sum(FRAME, keepdim=True) / given.pow(2).sum(FRAME, keepdim=True).clamp(min=1e-12)
            update = update - (1 - self.parallel) * along * given
        return update

    def _rescaled(self, x: Tensor, sigma: float, given: Tensor, guided: Tensor) -> Tensor:
        if not self.rescale:
            return guided
        # v = (base - D) * sqrt(sigma^2 + 1) / sigma: its factor is the same for both and drops out.
        base = x / (sigma**2 + 1)
        usual, now = ((base - part).std(FRAME, keepdim=True) for part in (given, guided))
        factor = torch.where(now > 0, usual / now.clamp(min=1e-12), torch.ones_like(now))  # [T, 1, 1, 1]
        return base - (1 + self.rescale * (factor - 1)) * (base - guided)


class _Past:
    """The running sum of updates, for each of the evaluations that are made at one sigma.

    Windows and passes in both directions evaluate several times at one sigma; the k-th goes on from the k-th of the
    sigma before.
    """

    def __init__(self) -> None:
        self.sigma = math.inf
        self.before: list[Tensor] = []
        self.now: list[Tensor] = []

    def add(self, update: Tensor, sigma: float, momentum: float) -> Tensor:
        """Return `update` plus `momentum` times the sum so far, which it becomes."""
        if sigma != self.sigma:
            self.sigma, self.before, self.now = sigma, self.now, []
        k = len(self.now)
        if k < len(self.before) and self.before[k].shape == update.shape:
            update = update + momentum * self.before[k]
        self.now.append(update)
        return update


@dataclass(frozen=True, eq=False)
class FirstFrame(Control):
    """Hold the estimate of frame 0 at the start picture: by `strength` above `sigma`, easing to half of it at 0.

    `sigma` is meant for 1024x576 and scaled to the clip; below it the model may fit fine detail to the next frames.
    `latent` [1|T, 4, h, w], scaled, is the picture without noise; without it the condition's own latent serves.
    """

    strength: float = 1.0
    sigma: float = 1.0
    latent: Tensor | None = None

    def __post_init__(self) -> None:
        _check_share("the strength of the first frame's repair", self.strength)
        _check_sigma("the first frame's repair", self.sigma)

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Blend the picture into frame 0."""
        limit = self.sigma * run.scale
        weight = self.strength if sigma >= limit else self.strength * (0.5 + 0.5 * sigma / limit)
        estimate = estimate.clone()
        estimate[0] = torch.lerp(estimate[0], picture_latent(run, self.latent)[0], weight)
        return estimate


@dataclass(frozen=True, eq=False)
class ColourAnchor(Control):
    """Draw the mean of every latent channel towards frame 0's, by 0 in the first frame to `strength` in the last.

    Works below `sigma` (for 1024x576, scaled to the clip), where the layout is settled and colours are still chosen.
    `regions` above 1 draws the means of so many by so many regions, which also evens out local tints, but holds back
    large things that move.
    """

    strength: float = 0.2
    sigma: float = 2.0
    regions: int = 1

    def __post_init__(self) -> None:
        _check_share("the strength of the colour anchor", self.strength)
        _check_sigma("the colour anchor", self.sigma)
        if not 1 <= self.regions <= 64:
            raise ValueError(f"the colour anchor has {self.regions} regions a side, but 1 to 64 make sense; use 1 to 8")

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Shift the frames after the first."""
        if sigma >= self.sigma * run.scale:
            return estimate
        height, width = estimate.shape[2:]
        regions = (min(self.regions, height), min(self.regions, width))
        means = F.adaptive_avg_pool2d(estimate, regions)  # [T, 4, r, r]
        shift = F.interpolate(means[:1] - means, (height, width), mode="bilinear")
        ramp = torch.linspace(0, self.strength, len(estimate)).to(estimate).reshape(-1, 1, 1, 1)
        return estimate + ramp * shift


def _check_share(what: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{what} is {value:g}, but it must be from 0 to 1; use 0.2 to 0.7")


def _check_sigma(what: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"the sigma of {what} is {value:g}, but it must be above 0; use 0.5 to 5")
