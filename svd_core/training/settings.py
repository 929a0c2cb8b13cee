"""The settings of a training run: plain data, checked on construction."""

import math
from dataclasses import dataclass

from ..sampling.noise import check_seed
from ..sampling.schedules import SIGMA_MAX, SIGMA_MIN

CHOICES = {
    "schedule": ("cosine", "constant", "linear-cooldown"),
    "targets": ("temporal", "spatial", "both", "all"),
    "method": ("lora", "full"),
    "optimizer": ("adamw", "adamw8bit", "muon"),
    "precision": ("float32", "bf16", "fp16"),
}
LEAST = {
    "steps": 1,
    "batch": 1,
    "accumulation": 1,
    "rank": 1,
    "log_every": 1,
    "save_every": 1,
    "warmup": 0,
    "validate_every": 0,
}
SHARES = ("drop_token", "drop_latent", "drop_both", "wide_share")
COOLDOWN_SHARE = 0.4  # of the steps, if `cooldown` is not given


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one run. The defaults train a LoRA of a camera move or a character.

    steps: optimiser steps of the whole run. batch: clips of one forward pass. accumulation: passes per step.
    rate: the highest learning rate. warmup: steps over which it rises from 0. schedule: what follows: "cosine" falls
    to 0, "constant" stays, "linear-cooldown" stays and falls to 0 over the last `cooldown` steps (None: 40 %).
    method: "lora" trains adapters of `rank`, scaled by alpha / rank (alpha None: the rank); "full" trains the weights.
    targets: for a LoRA, the attention layers of the temporal blocks, the spatial blocks or both; "all" adds the
    feed-forward layers. For full training the temporal layers, the spatial layers, or all ("both" and "all").
    precision: type that the network computes in; trained weights are always float32.
    drop_token, drop_latent, drop_both: chances that a clip's token, its conditioning latent or both are zeroed, for
    guidance. p_mean, p_std: of the log-normal noise levels (spec section 1.2). wide_share: share of the clips whose
    level is log-uniform over the whole range instead. mean_weight: weight of the error of each frame's mean, which
    reduces flicker and drift of colours; 0 gives the loss of spec section 1.2.
    ema: decay of the averaged weights, 0 for none. clip_norm: largest norm of the gradient, 0 for no limit.
    weight_decay: of matrices. save_every, log_every, validate_every: in steps (validate_every 0: never).
    """

    steps: int = 800
    batch: int = 1
    accumulation: int = 1
    rate: float = 1e-4
    warmup: int = 50
    schedule: str = "cosine"
    cooldown: int | None = None
    targets: str = "temporal"
    method: str = "lora"
    rank: int = 16
    alpha: float | None = None
    optimizer: str = "adamw"
    precision: str = "float32"
    drop_token: float = 0.05
    drop_latent: float = 0.05
    drop_both: float = 0.05
    p_mean: float = 0.7
    p_std: float = 1.6
    wide_share: float = 0.05
    mean_weight: float = 0.0
    ema: float = 0.999
    gradient_checkpointing: bool = False
    clip_norm: float = 1.0
    weight_decay: float = 0.01
    save_every: int = 100
    log_every: int = 10
    validate_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)} (got {value!r}); use {choices[0]}")
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number (got {value:g}); give one")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} must be {least} or more (got {value}); use {getattr(TrainSettings, name)}")
        for name in SHARES:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be 0 to 1 (got {value:g}); use 0.05")
        if self.drop_token + self.drop_latent + self.drop_both > 1:
            dropped = self.drop_token + self.drop_latent + self.drop_both
            raise ValueError(
                f"drop_token, drop_latent and drop_both must sum to 1 or less (got {dropped:g}); use 0.05 each"
            )
        if not self.rate > 0:
            raise ValueError(f"rate must be above 0 (got {self.rate:g}); use 0.0001 for a LoRA")
        least, most = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
        if not least <= self.p_mean <= most:
            raise ValueError(
                f"p_mean must be {least:.1f} to {most:.1f}, the logarithms of noise levels {SIGMA_MIN:g} to "
                f"{SIGMA_MAX:g} (got {self.p_mean:g}); use 0.7"
            )
        if not self.p_std > 0:
            raise ValueError(f"p_std must be above 0 (got {self.p_std:g}); use 1.6")
        if self.mean_weight < 0:
            raise ValueError(f"mean_weight must be 0 or more (got {self.mean_weight:g}); use 0")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be 0 (no average) to below 1 (got {self.ema:g}); use 0.999")
        if self.clip_norm < 0:
            raise ValueError(f"clip_norm must be 0 or more (got {self.clip_norm:g}); use 1, or 0 for no limit")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"alpha must be above 0 (got {self.alpha:g}); use the rank, {self.rank}")
        check_seed(self.seed)

    @property
    def scale_alpha(self) -> float:
        """Alpha of the adapters; the rank if none is given."""
        return float(self.rank if self.alpha is None else self.alpha)

    @property
    def cooldown_steps(self) -> int:
        """Steps of the linear decay at the end."""
        return max(1, round(COOLDOWN_SHARE * self.steps) if self.cooldown is None else self.cooldown)
