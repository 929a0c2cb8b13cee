"""A model that follows a plan: its networks come to the device when they are used, in the way the plan says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..condition import Condition, DeepFeatures
from ..model.guidance_passes import set_guidance_mode
from ..model.model import SVDModel
from ..model.retry import FallbackStep, limit_chunks, retrying
from ..model.weight_stream import WeightStream
from ..networks.reused_work import join_groups
from ..sampling.guidance import batches_conditions
from .memory_plan import PLACEMENTS, MemoryPlan


@dataclass
class _Whereabouts:
    placement: str
    stream: WeightStream | None = None
    on_device: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class PlacedModel(SVDModel):
    """An SVDModel that was loaded in main memory and computes on `target` as `plan` says (`place`)."""

    target: torch.device = torch.device("cpu")
    plan: MemoryPlan | None = None
    _where: _Whereabouts = field(default_factory=lambda: _Whereabouts(PLACEMENTS[0]))

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.target

    @property
    def placement(self) -> str:
        """One of PLACEMENTS; it may have become a smaller one than the plan's when memory ran out."""
        return self._where.placement

    def part(self, name: str) -> nn.Module:
        """The network, brought to the device; others make room where the placement says so."""
        module, where = super().part(name), self._where
        if where.placement != "resident":
            for other in sorted(where.on_device - {name}):
                self._send_home(other)
        if name not in where.on_device:
            where.on_device.add(name)
            try:
                self._bring(name, module)
            except Exception:
                self._send_home(name)  # what came before memory ran out is in the way of the next attempt
                raise
        return module

    def _bring(self, name: str, module: nn.Module) -> None:
        if name == "unet" and self._where.placement == "streamed":
            self._where.stream = WeightStream(module, self.target)
            return
        module.to(self.target)
        if name == "unet" and self.target.type != "cpu":
            join_groups(module)

    def _send_home(self, name: str) -> None:
        if name == "unet" and self._where.stream is not None:
            self._where.stream.close()
            self._where.stream = None
        else:
            getattr(self, name).to("cpu")
        self._where.on_device.discard(name)

    def move(self, placement: str) -> None:
        """Change the placement; networks come back when they are used."""
        for name in sorted(self._where.on_device):
            self._send_home(name)
        self._where.placement = placement

    def _smaller_placements(self) -> Iterator[FallbackStep]:
        for placement in PLACEMENTS[PLACEMENTS.index(self.placement) + 1 :]:
            yield f"weights {placement}", lambda placement=placement: self.move(placement)

    @batches_conditions
    def denoise(
        self,
        x: Tensor,
        sigma: float | Tensor,
        condition: Condition | Sequence[Condition],
        *,
        features: DeepFeatures | None = None,
    ) -> Tensor:
        """As SVDModel's; where memory runs out, in smaller passes, then with fewer weights on the device."""
        return retrying(
            lambda: super(PlacedModel, self).denoise(x, sigma, condition, features=features),
            self._smaller_placements(),
        )

    def decode(self, latent: Tensor, plan: str | int = "exact", **options) -> Tensor:
        """As SVDModel's, with the plan's strategy; where memory runs out, with smaller ones, then fewer weights."""
        if self.plan is not None:
            options.setdefault("strategy", self.plan.strategy)
        return retrying(
            lambda: super(PlacedModel, self).decode(latent, plan, **options),
            self._smaller_placements(),
        )


def place(model: SVDModel, plan: MemoryPlan, device: torch.device | str) -> PlacedModel:
    """`model`, loaded in main memory, as one that computes on `device` by `plan`."""
    placed = PlacedModel(
        model.unet,
        model.vae,
        model.image_encoder,
        model.config,
        torch.device(device),
        plan,
        _Whereabouts(plan.placement),
    )
    if placed.unet is not None:
        limit_chunks(placed.unet, plan.numbers_per_call)
        set_guidance_mode(placed.unet, plan.guidance)
    return placed
