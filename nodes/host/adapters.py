"""Adapters (ControlNets) in the host's own sampling: KSampler and other samplers of an exported model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...svd_core.condition import Adapter
from ...svd_core.controls.adapters import AdapterControl
from . import comfy as host
from .sampling import in_sampling

KEY = "svd_reel_adapters"
"""Entry of the host's transformer options with the adapters of a run."""

UNCONDITIONAL = 1  # in the host's `cond_or_uncond`


class HostAdapters:
    """The adapters of one sampling run of the host."""

    def __init__(self, controls: Sequence[AdapterControl]) -> None:
        self.controls = list(controls)
        self._begun: dict[tuple[int, torch.device], Adapter] = {}

    def of_pass(self, x: Tensor, frames: int, options: dict[str, Any]) -> list[list[Adapter]] | None:
        """Return the adapters of every clip in the network's input x [N, 8, h, w]; None where none acts."""
        sigma = float(options["sigmas"].reshape(-1)[0])
        acting = [number for number, control in enumerate(self.controls) if control.acts_at(sigma)]
        if not acting:
            return None
        roles = options.get("cond_or_uncond", (0,))
        clips_per_role = max(1, len(x) // (frames * len(roles)))
        made = []
        for role in roles:
            own = [self._adapter(number, x.device, frames, options) for number in acting]
            if role == UNCONDITIONAL:
                own = [other for adapter in own if (other := adapter.unconditional()) is not None]
            made += [own] * clips_per_role
        return made

    def _adapter(self, number: int, device: torch.device, frames: int, options: dict[str, Any]) -> Adapter:
        """Return an adapter on the device with the rows of the frames that the network sees now."""
        key = (number, device)
        if key not in self._begun:
            self._begun[key] = self.controls[number].adapter.begin(device)
        adapter = self._begun[key]
        window = getattr(options.get("context_window"), "index_list", None)
        if window is not None and adapter.rows > 1:
            index = torch.tensor(window, device=device)
            adapter = adapter.with_parts(lambda part: part if len(part) == 1 else part[index])
        if adapter.rows not in (1, frames):
            raise ValueError(
                f"the control was made for {adapter.rows} frames, the clip has {frames}; make both from the same latent"
            )
        return adapter


def adapters_in_sampling(patcher: Any, controls: Sequence[AdapterControl]) -> None:
    """Make every sampling run of the host with `patcher` use the adapters of `controls`."""
    if not host.PRESENT:
        return
    in_sampling(patcher, KEY, lambda: HostAdapters(controls))
    networks = {id(control.adapter.network): control.adapter.network for control in controls}
    managed = [network.patcher for network in networks.values() if getattr(network, "patcher", None) is not None]
    patcher.set_additional_models(KEY, managed)
