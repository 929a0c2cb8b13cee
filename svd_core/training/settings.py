"""How a training run goes: plain data, checked when made."""

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
COOLDOWN_SHARE = 0.4  # of the steps, where `cooldown` is not given


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one run; the defaults train a LoRA of a camera move or a character.

    steps: optimizer steps in all. batch: clips of one forward pass. accumulation: passes per step.
    rate: the highest learning rate. warmup: steps over which it rises from 0. schedule: how it goes on: "cosine" falls
    to 0, "constant" stays, "linear-cooldown" stays and falls to 0 over the last `cooldown` steps (None: 40 %).
    targets: LoRA: the attention layers of the temporal, the spatial or both blocks, or "all", attention and
    feed-forward of both. Full: the temporal layers, the spatial ones, or everything ("both" and "all").
    method: "lora" trains adapters of `rank`, scaled by alpha / rank (alpha None: the rank); "full" the weights.
    precision: what the network computes in; trained weights are float32 always.
    drop_token, drop_latent, drop_both: chances that a clip's token, its conditioning latent or both are zeroed, for
    guidance. p_mean, p_std: of the log-normal noise levels (spec section 1.2). wide_share: share of the clips whose
    level is log-uniform over the whole range instead. mean_weight: weight of the error of each frame's mean beside
    that of its cells, against colours that flicker or drift; 0 is the loss of spec section 1.2.
    ema: decay of the averaged weights, 0 for none. clip_norm: bound of the gradient's norm, 0 for none.
    weight_decay: of matrices. save_every, log_every, validate_every: steps (validate_every 0: never).
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
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(choices)}")
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value:g}; give a finite number")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} is {value}, but it must be at least {least}")
        for name in SHARES:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value:g}, but a share is from 0 to 1; 0.05 is usual")
        if self.drop_token + self.drop_latent + self.drop_both > 1:
            raise ValueError("drop_token, drop_latent and drop_both exceed 1 together; 0.05 each is usual")
        if not self.rate > 0:
            raise ValueError(f"rate is {self.rate:g}, but a learning rate is above 0; 0.0001 is usual for a LoRA")
        least, most = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
        if not least <= self.p_mean <= most:
            raise ValueError(
                f"p_mean is {self.p_mean:g}, but the mean logarithm of noise levels ({SIGMA_MIN:g} to {SIGMA_MAX:g}) "
                f"is from {least:.1f} to {most:.1f}; 0.7 is usual"
            )
        if not self.p_std > 0:
            raise ValueError(f"p_std is {self.p_std:g}, but a deviation is above 0; 1.6 is usual")
        if self.mean_weight < 0:
            raise ValueError(f"mean_weight is {self.mean_weight:g}, but a weight is at least 0; 0 is usual")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema:g}, but a decay is from 0 (no average) to below 1; 0.999 is usual")
        if self.clip_norm < 0:
            raise ValueError(f"clip_norm is {self.clip_norm:g}; use 1, or 0 for no bound")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha:g}, but it must be above 0; the rank ({self.rank}) is usual")
        check_seed(self.seed)

    @property
    def scale_alpha(self) -> float:
        """Alpha of the adapters, the rank where none is given."""
        return float(self.rank if self.alpha is None else self.alpha)

    @property
    def cooldown_steps(self) -> int:
        """Steps of the linear fall at the end."""
        return max(1, round(COOLDOWN_SHARE * self.steps) if self.cooldown is None else self.cooldown)
