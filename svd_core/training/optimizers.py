"""Optimisers of named parameters: learning rate, AdamW and Muon, state as tensors and numbers, loss scale of fp16."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .settings import TrainSettings

BETAS = (0.9, 0.99)  # of AdamW
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of Muon's iteration (Jordan et al. 2024)
# Muon is for layers between hidden ones; AdamW trains the first and the last convolution of the UNet.
OUTER_LAYERS = ("input_blocks.0.0.", "out.2.")
FIRST_SCALE = 2.0**16  # of the loss in fp16
RISE_AFTER = 2000  # steps with finite gradients until the scale is doubled


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Return the learning rate of step number `step` (0, 1, ...): warm-up times the schedule."""
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
    """Return the optimisers of `parameters`. `rate_share(name)` multiplies the learning rate of a parameter.

    Raises ValueError where the optimiser's package is not installed.
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
    except RuntimeError:  # without the fused kernel (some devices, older torch): the same step, slower
        return torch.optim.AdamW(groups, lr=rate, betas=BETAS)


def check_optimizer(name: str) -> None:
    """Raise ValueError where the package of an optimiser is not installed."""
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
    """Set the learning rate of every group to `rate` times the group's share."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]


def optimizer_state(
    optimizers: list[torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the state of the optimisers as tensors and as numbers, both named "parameter/entry"."""
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
    """Restore the state that `optimizer_state` returned; tensors are copied."""
    owners = {
        parameter: optimizer for optimizer in optimizers for g in optimizer.param_groups for parameter in g["params"]
    }
    for full_name, value in [*tensors.items(), *numbers.items()]:
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        if isinstance(value, Tensor):
            # The step counter is on the device of its parameter only for fused kernels.
            counter = key == "step" and not owners[parameter].defaults.get("fused")
            value = value.to("cpu" if counter else parameter.device, copy=True)
        owners[parameter].state[parameter][key] = value


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return matrices [N, r, c] with singular values near 1, by Newton-Schulz iteration; zero matrices stay zero."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonalised steps, for parameters of 2 or more dimensions; kernels are flattened."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | list[dict],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Apply one step from the gradients. Matrices of one shape are orthogonalised in one batch."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.flatten(1).shape].append(parameter)
            for parameters in by_shape.values():
                self._step_together(parameters, group)

    def _step_together(self, parameters: list[nn.Parameter], group: dict) -> None:
        for parameter in parameters:
            if "moment" not in self.state[parameter]:
                self.state[parameter]["moment"] = torch.zeros_like(parameter)
        moments = [self.state[parameter]["moment"] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters]
        torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, moments, group["momentum"])
        steps = orthogonalise(torch.stack([step.flatten(1) for step in ahead]))
        # 0.2 sqrt(longer side) gives steps with the root mean square of AdamW's.
        size = 0.2 * max(steps.shape[1:]) ** 0.5 * group["lr"]
        updates = [step.reshape(parameter.shape) for parameter, step in zip(parameters, steps, strict=True)]
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-size)


@dataclass
class LossScale:
    """Factor on the loss for fp16: halved when gradients overflow, doubled after many finite steps."""

    scale: float = FIRST_SCALE
    good_steps: int = 0

    def undo(self, gradients: Sequence[Tensor]) -> None:
        """Divide gradients by the factor, in place."""
        torch._foreach_mul_(list(gradients), 1 / self.scale)

    def accept(self, finite: bool) -> bool:
        """Adapt the factor after a step whose gradients were finite or not. Return whether to apply the step.

        Raises FloatingPointError where no factor helps, because the loss itself is not a number.
        """
        if finite:
            self.good_steps += 1
            if self.good_steps % RISE_AFTER == 0:
                self.scale *= 2
            return True
        self.scale, self.good_steps = self.scale / 2, 0
        if self.scale < 2**-10:
            raise FloatingPointError(
                f"gradients are not finite in fp16 even at loss scale {self.scale:g}; lower the rate, or use bf16"
            )
        return False
