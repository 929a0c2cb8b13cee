"""LoRAs as patches of the host's model patcher, and their replacement where there is no host."""

import torch

from ...svd_core.lora.apply import Terms, joined, with_terms
from ...svd_core.lora.delta import LoraLayer, merged
from . import comfy as host


class LoraPatch(host.AdapterBase):
    """Our LoRAs of one weight as a patch of the host.

    The host backs the weight up, restores it, and applies the patch on the fly where weights are streamed. `weights`
    holds the fields of each LoraLayer and its strength as nested tuples, in which hosts with dynamic memory find the
    tensors to move.
    """

    name = "svd_reel_lora"

    def __init__(self, loaded_keys: set[str], weights: tuple):
        self.loaded_keys, self.weights = loaded_keys, weights

    def calculate_weight(self, weight, key, strength, strength_model, offset, function, *others, **more):
        """Return the weight with the LoRAs, in its own dtype."""
        terms = [(LoraLayer(*fields), own * strength) for *fields, own in self.weights]
        return merged(weight, terms).to(weight.dtype)


def with_lora(patcher, terms: Terms):
    """Return a patcher of the same UNet with `terms` (parameter name -> layers and strengths) added to its own.

    All our LoRAs of a weight are one patch, so that each applies to the weight as loaded.
    """
    if not host.PRESENT:
        return _plain_with_lora(patcher, terms)
    clone = patcher.clone()
    patches = {}
    for name, added in terms.items():
        key = f"diffusion_model.{name}"
        entries = clone.patches.get(key, [])
        before = [part for entry in entries if isinstance(entry[1], LoraPatch) for part in entry[1].weights]
        clone.patches[key] = [entry for entry in entries if not isinstance(entry[1], LoraPatch)]
        patches[key] = LoraPatch(set(), (*before, *((*layer, strength) for layer, strength in added)))
    if len(clone.add_patches(patches)) < len(patches):
        raise RuntimeError("ComfyUI did not take all of the LoRA's layers; please report this with its version")
    return clone


def _plain_with_lora(patcher: host.PlainPatcher, terms: Terms) -> host.PlainPatcher:
    together = joined(patcher.terms, terms)
    holder = torch.nn.Module()
    holder.diffusion_model = with_terms(patcher.loaded.diffusion_model, together)
    return host.PlainPatcher(holder, patcher.loaded, together)
