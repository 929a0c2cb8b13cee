"""ComfyUI's patches of a MODEL as hooks of our UNet, in the order and with the arguments of ComfyUI's own SVD network.

One object serves one pass. It reads `transformer_options` and the ControlNet dictionary as the sampler hands them over;
without anything in them `host_hooks` returns None and the network runs its fast path.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...svd_core.networks.hooks import AttentionFunction, BlockHooks, Hooks, Place
from . import comfy as host

log = logging.getLogger("svd_reel")

BLOCK_PATCHES = ("attn1_patch", "attn1_output_patch", "attn2_patch", "attn2_output_patch", "middle_patch")
PLACE_PATCHES = (
    "input_block_patch",
    "input_block_patch_after_skip",
    "output_block_patch",
    "emb_patch",
    "middle_block_after_patch",
    "forward_timestep_embed_patch",
)
OVERRIDE = "optimized_attention_override"


class HostHooks(Hooks):
    """Runs every patch of `transformer_options`, and adds the residuals of a ControlNet."""

    def __init__(self, options: dict[str, Any], control: dict[str, list] | None, inputs: dict[str, Any]) -> None:
        self.options = options
        self.control = control
        self.inputs = inputs  # context, y, timesteps and time_context, which some patches are given
        self.patches: dict[str, list[Callable]] = options.get("patches", {})
        self.replacements: dict[str, dict] = options.get("patches_replace", {})
        self.attention: AttentionFunction | None = attention_function(options)
        self.wraps_layers = bool(self.patches.get("forward_timestep_embed_patch"))
        self.embedded: Tensor | None = None
        self.place: Place = ("input", 0)

    def start(self, x: Tensor, num_frames: int) -> None:
        self.inputs["x"] = x
        self.options["original_shape"] = list(x.shape)
        self.options["transformer_index"] = 0
        self.num_frames = num_frames

    def embedding(self, embedding: Tensor) -> Tensor:
        for patch in self.patches.get("emb_patch", ()):
            embedding = patch(embedding, self.inputs["model_channels"], self.options)
        return embedding

    def enter(self, place: Place) -> None:
        self.place = self.options["block"] = place

    def layer(self, layer: nn.Module, h: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        for kind, handler in self.patches["forward_timestep_embed_patch"]:
            if host.stands_for(layer, kind):
                given = self.inputs
                return handler(
                    lambda h, *_, **__: run(h), h, self.embedded, given["context"], self.options, None,
                    given["time_context"], self.num_frames, None,
                )  # fmt: skip
        return run(h)

    def after_input(self, index: int, h: Tensor) -> Tensor:
        h = self._controlled(h, "input")
        for patch in self.patches.get("input_block_patch", ()):
            h = patch(h, self.options)
        return h

    def after_skip(self, index: int, h: Tensor) -> Tensor:
        for patch in self.patches.get("input_block_patch_after_skip", ()):
            h = patch(h, self.options)
        return h

    def after_middle(self, h: Tensor, embedding: Tensor) -> Tensor:
        h = self._controlled(h, "middle")
        if not host.every_layer_is_patched():
            return h  # as the host itself
        for patch in self.patches.get("middle_block_after_patch", ()):
            given = {"h": h, "x": self.inputs["x"], "emb": embedding, "context": self.inputs["context"]}
            given |= {"y": self.inputs["y"], "timesteps": self.inputs["timesteps"]}
            h = patch({**given, "transformer_options": self.options})["h"]
        return h

    def skip(self, index: int, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        skip = self._controlled(skip, "output")
        for patch in self.patches.get("output_block_patch", ()):
            h, skip = patch(h, skip, self.options)
        return h, skip

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        place = self.place
        self.options["activations_shape"] = list(shape)
        self.options["block_index"] = 0
        keys = ((*place, 0), place)
        replaced = any(key in self.replacements.get(name, {}) for name in ("attn1", "attn2") for key in keys)
        patched = any(self.patches.get(name) for name in BLOCK_PATCHES)
        # Without another attention, a transformer that no patch concerns keeps its fast path.
        concerned = replaced or patched or self.attention is not None or self.inputs["time_context"] is not None
        return HostBlockHooks(self) if concerned else None

    def leave_transformer(self) -> None:
        self.options["transformer_index"] += 1

    def _controlled(self, h: Tensor, name: str) -> Tensor:
        """Add the ControlNet's next residual, the last of its list; None and other shapes are skipped."""
        residuals = (self.control or {}).get(name) or []
        residual = residuals.pop() if residuals else None
        if residual is None:
            return h
        if residual.shape != h.shape and residual.shape[1:] != h.shape[1:]:
            log.warning("a ControlNet's residual is %s, the %s blocks have %s; it is skipped",
                        list(residual.shape), name, list(h.shape))  # fmt: skip
            return h
        h += residual.to(h)
        return h


class HostBlockHooks(BlockHooks):
    """The block patches of one transformer; its spatial and its temporal block get the same place and number."""

    def __init__(self, owner: HostHooks) -> None:
        self.owner = owner
        self.extra: dict[str, Any] = {}

    def begin(self, kind: str, heads: int, head_width: int) -> None:
        # The same object for all calls of one block: some patches leave a note in it for their own later call.
        kept = {name: value for name, value in self.owner.options.items() if name not in ("patches", "patches_replace")}
        self.extra = {**kept, "n_heads": heads, "dim_head": head_width, "attn_precision": torch.float32}

    def inputs(self, which: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for patch in self.owner.patches.get(f"attn{which}_patch", ()):
            query, key, value = patch(query, key, value, self.extra)
        return query, key, value

    def attend(self, which: int, q: Tensor, k: Tensor, v: Tensor, heads: int, attention: AttentionFunction) -> Tensor:
        replacements = self.owner.replacements.get(f"attn{which}", {})
        for key in ((*self.owner.place, 0), self.owner.place):
            if key in replacements:
                return replacements[key](q, k, v, self.extra)
        return attention(q, k, v, heads)

    def output(self, which: int, x: Tensor) -> Tensor:
        for patch in self.owner.patches.get(f"attn{which}_output_patch", ()):
            x = patch(x, self.extra)
        return x

    def between(self, x: Tensor) -> Tensor:
        for patch in self.owner.patches.get("middle_patch", ()):
            x = patch(x, self.extra)
        return x


def host_hooks(options: dict[str, Any], control: dict | None, inputs: dict[str, Any]) -> HostHooks | None:
    """Return the hooks for `options` and `control`, or None if neither holds anything that changes the network."""
    patches, replacements = options.get("patches", {}), options.get("patches_replace", {})
    present = any(patches.get(name) for name in (*BLOCK_PATCHES, *PLACE_PATCHES)) or any(replacements.values())
    if not (present or control or inputs["time_context"] is not None or attention_function(options) is not None):
        return None
    return HostHooks(options, control, inputs)


def attention_function(options: dict[str, Any]) -> AttentionFunction | None:
    """Return the host's attention where a user chose one, by an override or a start-up flag; else None."""
    if OVERRIDE not in options and not host.attention_was_chosen():
        return None
    run = host.optimized_attention()
    if run is None:
        return None

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        rows = len(q)
        k, v = (part.reshape(rows, -1, part.shape[-1]) if len(part) != rows else part for part in (k, v))
        return run(q, k, v, heads, attn_precision=torch.float32, transformer_options=options)

    return attention
