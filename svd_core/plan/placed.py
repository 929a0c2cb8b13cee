"""A model that follows a plan: each network moves to the device when it is used, by the plan's placement."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..model.guidance_passes import set_guidance_mode
from ..model.model import SVDModel
from ..model.retry import FallbackStep, attempts, limit_chunks
from ..model.weight_stream import WeightStream
from ..networks.joined_weights import join_groups
from ..networks.unet import UNet
from .memory_plan import PLACEMENTS, MemoryPlan


@dataclass
class _Placement:
    """The current placement, and which networks are on the device. Mutable state of a frozen model.

    adapters: networks of adapters on the device, each with its stream if its weights are streamed.
    """

    placement: str
    stream: WeightStream | None = None
    on_device: set[str] = field(default_factory=set)
    adapters: dict[nn.Module, WeightStream | None] = field(default_factory=dict)


@dataclass(frozen=True)
class PlacedModel(SVDModel):
    """An SVDModel loaded in main memory that computes on `target` as `plan` says. Create one with `place`."""

    target: torch.device = torch.device("cpu")
    plan: MemoryPlan | None = None
    _state: _Placement = field(default_factory=lambda: _Placement(PLACEMENTS[0]))

    @property
    def device(self) -> torch.device:
        """Return the device on which the networks compute."""
        return self.target

    @property
    def placement(self) -> str:
        """Return the current placement of PLACEMENTS, smaller than the plan's if memory ran out."""
        return self._state.placement

    def part(self, name: str) -> nn.Module:
        """Return a network on the device; unless all stay resident, the others move to main memory first."""
        module, state = super().part(name), self._state
        if state.placement != "resident":
            for other in sorted(state.on_device - {name}):
                self._offload(other)
        if name not in state.on_device:
            state.on_device.add(name)
            try:
                self._load(name, module)
            except Exception:
                self._offload(name)  # a partly loaded network would take memory from the next attempt
                raise
        return module

    def bring(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        """Move the networks of adapters to the device, streamed if the UNet is; others leave it."""
        state = self._state
        for network in [network for network in state.adapters if network not in networks]:
            self._take_away(network)
        for network in networks:
            if network in state.adapters:
                continue
            state.adapters[network] = None
            if state.placement == "streamed" and isinstance(network, UNet):
                state.adapters[network] = WeightStream(network, self.target)
            else:
                network.to(self.target)

    def _take_away(self, network: nn.Module) -> None:
        """Move the network of an adapter to main memory."""
        stream = self._state.adapters.pop(network)
        if stream is not None:
            stream.close()
        network.to("cpu")

    def _load(self, name: str, module: nn.Module) -> None:
        if name == "unet" and self._state.placement == "streamed":
            self._state.stream = WeightStream(module, self.target)
            return
        module.to(self.target)
        if name == "unet" and self.target.type != "cpu":
            join_groups(module)

    def _offload(self, name: str) -> None:
        if name == "unet":
            for network in list(self._state.adapters):
                self._take_away(network)
        if name == "unet" and self._state.stream is not None:
            self._state.stream.close()
            self._state.stream = None
        else:
            getattr(self, name).to("cpu")
        self._state.on_device.discard(name)

    def move(self, placement: str) -> None:
        """Change the placement. All networks are offloaded and return to the device when they are used."""
        for name in sorted(self._state.on_device):
            self._offload(name)
        self._state.placement = placement

    def fallback_steps(self, conditions: int) -> Iterator[FallbackStep]:
        """Yield smaller passes, then placements with fewer weights on the device."""
        if "unet" in self._state.on_device:  # else memory ran out while its weights were moved, whatever the pass
            yield from super().fallback_steps(conditions)
        yield from self._smaller_placements()

    def _smaller_placements(self) -> Iterator[FallbackStep]:
        for placement in PLACEMENTS[PLACEMENTS.index(self.placement) + 1 :]:
            yield FallbackStep(f"weights {placement}", lambda placement=placement: self.move(placement))

    def decode(self, latent: Tensor, plan: str | int = "exact", **options) -> Tensor:
        """Decode with the plan's strategy; after a shortage of memory with smaller ones, then with fewer weights."""
        if self.plan is not None:
            options.setdefault("strategy", self.plan.strategy)
        for attempt in attempts(self._smaller_placements()):
            with attempt:
                return super().decode(latent, plan, **options)


def place(model: SVDModel, plan: MemoryPlan, device: torch.device | str) -> PlacedModel:
    """Return `model`, loaded in main memory, as one that computes on `device` as `plan` says."""
    placed = PlacedModel(
        model.unet,
        model.vae,
        model.image_encoder,
        model.config,
        torch.device(device),
        plan,
        _Placement(plan.placement),
    )
    if placed.unet is not None:
        limit_chunks(placed.unet, plan.chunk_elements)
        # On a CPU the size of every pass decides, planned or not.
        set_guidance_mode(placed.unet, None if placed.target.type == "cpu" else plan.guidance)
    return placed
