"""The Muon optimizer: momentum steps made orthogonal, so that few steps go far.

After Jordan et al. 2024 (Newton-Schulz iteration and its coefficients) and Liu et al. 2025, arXiv 2502.16982 (step
sizes that match AdamW's, so that one learning rate serves both).
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of each of [N, r, c] near 1 by Newton-Schulz iteration; zero matrices stay zero."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonalised steps, for parameters of two dimensions or more (kernels are flattened)."""

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
        """Apply one step from the gradients; matrices of one shape are orthogonalised together."""
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
        # 0.2 sqrt(longer side) gives the root mean square that AdamW's steps have.
        size = 0.2 * max(steps.shape[1:]) ** 0.5 * group["lr"]
        updates = [step.reshape(parameter.shape) for parameter, step in zip(parameters, steps, strict=True)]
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-size)
