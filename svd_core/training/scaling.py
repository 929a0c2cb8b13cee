"""Loss scaling for float16, whose smallest numbers would swallow gradients (Micikevicius et al. 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_SCALE = 2.0**16
RISE_AFTER = 2000  # good steps until a larger scale is tried


@dataclass
class LossScale:
    """A factor on the loss: falls when gradients overflow, rises slowly. Two numbers, which a state carries."""

    scale: float = FIRST_SCALE
    good_steps: int = 0

    def undo(self, gradients: Sequence[Tensor]) -> None:
        """Divide gradients by the factor."""
        torch._foreach_mul_(list(gradients), 1 / self.scale)

    def accept(self, finite: bool) -> bool:
        """Take notice of a step whose gradients were finite or not; returns whether the step may be applied.

        Raises FloatingPointError where no factor helps: the loss itself is not a number then.
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
