"""Controls that keep a clip steady: milder guidance, a repaired first frame, colours anchored to it.

Each is off at its neutral value, and none needs an extra evaluation of the model. Guidance is corrected only where
there is guidance, so a scale of 1 costs and changes nothing.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pictures.colours import METHODS, match_colours
from ..sampling.controls import Control, Evaluate, Inputs, Run
from ..sampling.guidance import Guidance
from .amount import picture_latent
from .strength import check_share, check_sigma

FRAME = (1, 2, 3)  # the axes of one frame in [T, 4, h, w]
MAX_REGIONS = 64  # per side, of the colour anchor


@dataclass(frozen=True, eq=False)
class SteadyGuidance(Control):
    """Reduce the part of guidance that burns colours and contrast, frame by frame.

    The update of guidance, D_c - D_u, is corrected first (adaptive projected guidance, Sadat et al. 2024). Then the
    guided velocity is rescaled (Lin et al. 2024, section 3.4). Of two such controls the last one counts.

    momentum: factor of the sum of earlier updates that is added; below 0 it damps what repeats, 0 is off.
    limit: bound of the root mean square of the update per latent value; 0 is off, 0.06 is usual.
    parallel: share that is kept of the part along D_c, which only scales the picture; 1 is off.
    rescale: share by which the deviation of the guided velocity is brought back to that of the conditional; 0 is off.
    """

    rescale: float = 0.0
    parallel: float = 1.0
    limit: float = 0.0
    momentum: float = 0.0

    innermost = True  # other controls roll, reverse or cut the clip; both passes must see the same frames

    def __post_init__(self) -> None:
        check_share("rescale", self.rescale, "use 0.2 to 0.7")
        check_share("the parallel share of guidance", self.parallel, "use 0 to 0.5, or 1 to switch it off")
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise ValueError(f"the limit of guidance must be 0 or above (got {self.limit:g}); use 0.06, or 0 for none")
        if not -1 < self.momentum < 1:
            raise ValueError(f"the momentum must be between -1 and 1 (got {self.momentum:g}); use -0.5 to 0")

    @property
    def active(self) -> bool:
        """Whether anything is corrected."""
        return (self.rescale, self.parallel, self.limit, self.momentum) != (0, 1, 0, 0)

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate the conditional and the unconditional pass and combine them with the correction."""
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
        """Return the update of guidance with momentum, limit and projection; `given` is the conditional estimate."""
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
        """Return the guided estimate with the deviation of its velocity brought back to that of `given`."""
        if not self.rescale:
            return guided
        # v = (base - D) * sqrt(sigma^2 + 1) / sigma: its factor is the same for both and drops out.
        base = x / (sigma**2 + 1)
        usual, now = ((base - part).std(FRAME, keepdim=True) for part in (given, guided))
        factor = torch.where(now > 0, usual / now.clamp(min=1e-12), torch.ones_like(now))  # [T, 1, 1, 1]
        return base - (1 + self.rescale * (factor - 1)) * (base - guided)


class _Past:
    """Running sums of the updates of guidance.

    Windows and backward passes evaluate the model several times per sigma. The k-th evaluation at one sigma continues
    the sum of the k-th at the sigma before.
    """

    def __init__(self) -> None:
        self.sigma = math.inf
        self.before: list[Tensor] = []
        self.now: list[Tensor] = []

    def add(self, update: Tensor, sigma: float, momentum: float) -> Tensor:
        """Return the new sum: `update` plus `momentum` times the sum so far."""
        if sigma != self.sigma:
            self.sigma, self.before, self.now = sigma, self.now, []
        k = len(self.now)
        if k < len(self.before) and self.before[k].shape == update.shape:
            update = update + momentum * self.before[k]
        self.now.append(update)
        return update


@dataclass(frozen=True, eq=False)
class FirstFrame(Control):
    """Hold the estimate of frame 0 at the start picture.

    The hold is `strength` above `sigma` and falls linearly to half of it at 0, so that the model can fit fine detail to
    the next frames.

    sigma: for 1024x576, scaled to the clip. latent: scaled latent [1|T, 4, h, w] of the clean picture; None takes that
    of the condition.
    """

    strength: float = 1.0
    sigma: float = 1.0
    latent: Tensor | None = None

    def __post_init__(self) -> None:
        check_share("the strength of the first frame's repair", self.strength, "use 0.5 to 1")
        check_sigma("the sigma of the first frame's repair", self.sigma, "use 0.5 to 5")

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
    """Pull the mean of every latent channel towards that of frame 0.

    The pull rises from 0 in the first frame to `strength` in the last. It works below `sigma` (for 1024x576, scaled to
    the clip), where the layout is settled and colours are still forming.

    regions: above 1, means are taken over regions x regions parts of the picture. That also evens out local tints, but
    holds back large things that move.
    """

    strength: float = 0.2
    sigma: float = 2.0
    regions: int = 1

    def __post_init__(self) -> None:
        check_share("the strength of the colour anchor", self.strength, "use 0.2 to 0.7")
        check_sigma("the sigma of the colour anchor", self.sigma, "use 0.5 to 5")
        if not 1 <= self.regions <= MAX_REGIONS:
            raise ValueError(
                f"the colour anchor needs 1 to {MAX_REGIONS} regions per side (got {self.regions}); use 1 to 8"
            )

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


@dataclass(frozen=True)
class ColourMatch(Control):
    """Give the decoded frames the colours of the first one, by `pictures.colours.match_colours`."""

    strength: float = 0.5
    method: str = METHODS[0]
    ramp: int = 0
    smoothing: float = 0.0

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return the frames [T, H, W, 3] with matched colours."""
        given = {"strength": self.strength, "method": self.method, "ramp": self.ramp, "smoothing": self.smoothing}
        return match_colours(frames, **given)
