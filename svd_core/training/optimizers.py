"""Optimizers of named parameters, their learning rate over the run, and their state as tensors and numbers."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .orthogonal import Muon
from .settings import TrainSettings

BETAS = (0.9, 0.99)
# Muon is for layers between hidden ones; the first and the last convolution of the UNet learn by AdamW.
OUTER_LAYERS = ("input_blocks.0.0.", "out.2.")


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Learning rate of step number `step` (0, 1, ...): warm-up times the schedule."""
    rising = min(1.0, (step + 1) / max(1, settings.warmup))
    left = max(0, settings.steps - step)
    if settings.schedule == "cosine":
        done = max(0, step - settings.warmup) / max(1, settings.steps - settings.warmup)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    elif settings.schedule == "linear-cooldown":
        falling = min(1.0, left / settings.cooldown_steps)
    else:
        falling = 1.0
    return settings.rate * rising * falling


def make_optimizers(
    parameters: Mapping[str, nn.Parameter], settings: TrainSettings, rate_share: Callable[[str], float] | None = None
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of `parameters`; `rate_share(name)` multiplies the learning rate of a parameter.

    Raises ValueError where an optimizer is not installed.
    """
    decayed, plain = defaultdict(list), defaultdict(list)
    for name, parameter in parameters.items():
        share = 1.0 if rate_share is None else float(rate_share(name))
        outer = settings.optimizer == "muon" and name.startswith(OUTER_LAYERS)
        (plain if parameter.ndim < 2 or outer else decayed)[share].append(parameter)
    if settings.optimizer == "muon":
        optimizers = []
        if decayed:
            optimizers.append(Muon(_groups(decayed, settings.weight_decay), settings.rate))
        if plain:
            optimizers.append(_adamw(_groups(plain, 0.0), settings.rate))
        return optimizers
    groups = _groups(decayed, settings.weight_decay) + _groups(plain, 0.0)
    return [(_adamw8bit if settings.optimizer == "adamw8bit" else _adamw)(groups, settings.rate)]


def _groups(by_share: dict[float, list[nn.Parameter]], weight_decay: float) -> list[dict]:
    return [
        {"params": parameters, "weight_decay": weight_decay, "share": share} for share, parameters in by_share.items()
    ]


def _adamw(groups: list[dict], rate: float) -> torch.optim.Optimizer:
    try:
        return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=True)
    except RuntimeError:  # devices and older torch without the fused kernel: the same step, slower
        return torch.optim.AdamW(groups, lr=rate, betas=BETAS)


def check_optimizer(name: str) -> None:
    """Raise ValueError where an optimizer needs a package that is not there."""
    if name != "adamw8bit":
        return
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"optimizer adamw8bit needs the package bitsandbytes ({error}); install it, or use adamw"
        ) from error


def _adamw8bit(groups: list[dict], rate: float) -> torch.optim.Optimizer:
    check_optimizer("adamw8bit")
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(groups, lr=rate, betas=BETAS)


def set_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Set the learning rate of every group, times its share."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]


def optimizer_state(
    optimizers: list[torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the optimizers' memory as tensors and as numbers, both named "parameter/entry"."""
    tensors, numbers = {}, {}
    for name, parameter in parameters.items():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                (tensors if isinstance(value, Tensor) else numbers)[f"{name}/{key}"] = value
    return tensors, numbers


def restore_optimizers(
    optimizers: list[torch.optim.Optimizer],
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, float],
) -> None:
    """Give optimizers the memory that `optimizer_state` returned; tensors are copied."""
    owners = {
        parameter: optimizer for optimizer in optimizers for g in optimizer.param_groups for parameter in g["params"]
    }
    for full_name, value in [*tensors.items(), *numbers.items()]:
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        if isinstance(value, Tensor):
            # Only the fused step counts on the device of its parameter.
            counter = key == "step" and not owners[parameter].defaults.get("fused")
            value = value.to("cpu" if counter else parameter.device, copy=True)
        owners[parameter].state[parameter][key] = value
