"""The spatio-temporal UNet of Stable Video Diffusion (spec sections 3 and 4).

Attribute names are the keys of the single-file checkpoint layout.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..condition import Adapter, DeepFeatures, PassInputs
from .adapters import adapter_hooks
from .config import UNetConfig
from .embedding import (
    Embedding,
    RegionalEmbedding,
    SharedEmbedding,
    can_share_row,
    convolve_and_embed,
    is_broadcast,
)
from .hooked_transformer import run_with_hooks
from .hooks import NO_HOOKS, Chain, Hooks, Place
from .kernels.weights import is_plain
from .layers import (
    GROUPS,
    Blend,
    accumulate,
    convolve_clip,
    norm_silu,
    silu,
    sinusoidal_embedding,
    temporal_convolution,
)
from .step_cache import StepCache
from .transformer import VideoTransformer


class TemporalResidual(nn.Module):
    """Temporal half of a residual block: f(S) of spec section 3.3, without its identity skip."""

    def __init__(self, channels: int, embedding_channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.in_layers = nn.ModuleDict(
            {
                "0": ops.GroupNorm(GROUPS, channels, **place),
                "2": temporal_convolution(channels, channels, ops=ops, **place),
            }
        )
        self.emb_layers = nn.ModuleDict({"1": ops.Linear(embedding_channels, channels, **place)})
        self.out_layers = nn.ModuleDict(
            {
                "0": ops.GroupNorm(GROUPS, channels, **place),
                "3": temporal_convolution(channels, channels, ops=ops, **place),
            }
        )

    def forward(self, x: Tensor, embedding: Embedding, num_frames: int) -> Tensor:
        """Return the update [B*T, C, H, W] of x [B*T, C, H, W]. SiLU is already applied to the embedding."""
        h = norm_silu(self.in_layers["0"], x, num_frames)
        h = convolve_and_embed(self.in_layers["2"], h, self.emb_layers["1"], embedding, num_frames)
        return convolve_clip(self.out_layers["3"], norm_silu(self.out_layers["0"], h, num_frames), num_frames)


class VideoResidualBlock(nn.Module):
    """Spatial residual block with a temporal one blended in (spec section 3.3)."""

    def __init__(
        self, channels_in: int, channels_out: int, embedding_channels: int, *, ops=nn, device=None, dtype=None
    ):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.in_layers = nn.ModuleDict(
            {
                "0": ops.GroupNorm(GROUPS, channels_in, **place),
                "2": ops.Conv2d(channels_in, channels_out, 3, padding=1, **place),
            }
        )
        self.emb_layers = nn.ModuleDict({"1": ops.Linear(embedding_channels, channels_out, **place)})
        self.out_layers = nn.ModuleDict(
            {
                "0": ops.GroupNorm(GROUPS, channels_out, **place),
                "3": ops.Conv2d(channels_out, channels_out, 3, padding=1, **place),
            }
        )
        if channels_in != channels_out:
            self.skip_connection = ops.Conv2d(channels_in, channels_out, 1, **place)
        else:
            self.skip_connection = nn.Identity()
        self.time_stack = TemporalResidual(channels_out, embedding_channels, ops=ops, **place)
        self.time_mixer = Blend(**place)

    def forward(self, x: Tensor, embedding: Embedding, num_frames: int, image_only: Tensor | None = None) -> Tensor:
        """Return [B*T, C', H, W] for x [B*T, C, H, W]. SiLU is already applied to the embedding."""
        h = convolve_and_embed(self.in_layers["2"], norm_silu(self.in_layers["0"], x), self.emb_layers["1"], embedding)
        h = self.out_layers["3"](norm_silu(self.out_layers["0"], h))
        h = accumulate(h, self.skip_connection(x))
        # alpha S + (1 - alpha)(S + f(S)) = S + (1 - alpha) f(S): the blend costs one multiply-add.
        update = self.time_stack(h, embedding, num_frames)
        return accumulate(h, update, self.time_mixer.temporal_weight(h, image_only))

    def embedding_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return each layer that projects the embedding, with the convolution whose output it is added to."""
        return [(half.emb_layers["1"], half.in_layers["2"]) for half in (self, self.time_stack)]


class Downsample(nn.Module):
    """Stride-2 convolution with symmetric padding."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.op = ops.Conv2d(channels, channels, 3, stride=2, padding=1, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to a given size, followed by a convolution."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.conv = ops.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        # `size` is the skip's: twice our own size would be wrong where halving rounded up (spec trap 32).
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class TransformerPlace(NamedTuple):
    """Where a transformer is: its block, its channels, and its level, 0 for the widest pictures."""

    place: Place
    channels: int
    level: int


def transformer_places(config: UNetConfig) -> list[TransformerPlace]:
    """Return every transformer of a UNet, in the order in which they run."""
    widths = [config.model_channels * mult for mult in config.channel_mult]
    per_level, levels = config.num_res_blocks, len(widths)
    found = []
    for level in sorted(config.attention_levels):
        first = 1 + level * (per_level + 1)
        found += [TransformerPlace(("input", first + block), widths[level], level) for block in range(per_level)]
    found.append(TransformerPlace(("middle", 0), widths[-1], levels - 1))
    for level in sorted(config.attention_levels, reverse=True):
        first = (levels - 1 - level) * (per_level + 1)
        found += [TransformerPlace(("output", first + block), widths[level], level) for block in range(per_level + 1)]
    return found


class UNet(nn.Module):
    """Predict F(c_in x, latent; c_noise, token, vector) of spec section 8.1 for a batch of clips.

    `clips_per_pass` is how many clips a caller may pass at once: 1, 2, or None to decide before every pass.
    """

    clips_per_pass: int | None = None

    def __init__(self, config: UNetConfig, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.config = config
        place = {"ops": ops, "device": device, "dtype": dtype}
        layer_place = {"device": device, "dtype": dtype}
        base = config.model_channels
        width = 4 * base

        def two_layers(channels: int) -> nn.Sequential:
            return nn.Sequential(
                ops.Linear(channels, width, **layer_place), nn.SiLU(), ops.Linear(width, width, **layer_place)
            )

        def block(channels_in: int, channels_out: int, attention: bool) -> list[nn.Module]:
            layers = [VideoResidualBlock(channels_in, channels_out, width, **place)]
            if attention:
                layers.append(VideoTransformer(channels_out, config.head_channels, config.context_channels, **place))
            return layers

        self._cache = StepCache()
        self.time_embed = two_layers(base)
        self.label_emb = nn.Sequential(two_layers(config.vector_channels))

        levels = len(config.channel_mult)
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([ops.Conv2d(config.in_channels, base, 3, padding=1, **layer_place)])]
        )
        skips, channels = [base], base
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(nn.ModuleList(block(channels, mult * base, level in config.attention_levels)))
                channels = mult * base
                skips.append(channels)
            if level < levels - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(channels, **place)]))
                skips.append(channels)

        self.middle_block = nn.ModuleList(
            [
                *block(channels, channels, True),
                VideoResidualBlock(channels, channels, width, **place),
            ]
        )

        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for index in range(config.num_res_blocks + 1):
                layers = block(channels + skips.pop(), mult * base, level in config.attention_levels)
                channels = mult * base
                if level > 0 and index == config.num_res_blocks:
                    layers.append(Upsample(channels, **place))
                self.output_blocks.append(nn.ModuleList(layers))

        self.out = nn.ModuleDict(
            {
                "0": ops.GroupNorm(GROUPS, channels, **layer_place),
                "2": ops.Conv2d(channels, config.out_channels, 3, padding=1, **layer_place),
            }
        )

    def embed(self, c_noise: Tensor, vector: Tensor, dtype: torch.dtype) -> Tensor:
        """Return SiLU of the global embedding of spec section 3.2: [N, 4 * model_channels].

        Every layer that uses the embedding starts with this SiLU.
        """
        noise = sinusoidal_embedding(c_noise, self.config.model_channels).to(dtype)
        return silu(self.time_embed(noise) + self._label(vector, dtype))

    def _label(self, vector: Tensor, dtype: torch.dtype) -> Tensor:
        layers = self.label_emb[0]
        if not is_plain(layers[0]) or not is_plain(layers[2]):
            return self.label_emb(vector.to(dtype))
        sources = [vector, *layers.parameters()]
        return self._cache.get(sources, ("label", dtype), lambda: self.label_emb(vector.to(dtype)))

    def _embedding(self, c_noise: Tensor, vector: Tensor, dtype: torch.dtype) -> Tensor | SharedEmbedding:
        """Return the embedding, as one shared row where possible."""
        if not can_share_row(c_noise, vector):
            return self.embed(c_noise, vector, dtype)
        return SharedEmbedding(self.embed(c_noise[:1], vector[:1], dtype), self._embedding_pairs())

    def _embedding_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        layers = [layer for block in (*self.input_blocks, self.middle_block, *self.output_blocks) for layer in block]
        return [pair for layer in layers if isinstance(layer, VideoResidualBlock) for pair in layer.embedding_pairs()]

    def _context(self, context: Tensor | Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """Return the context in `dtype`: broadcast rows stay broadcast, and several clips become one row each."""
        if isinstance(context, Tensor):
            one = context[:1] if is_broadcast(context) else context
            return self._cache.get([one], ("context", dtype), lambda: one.to(dtype)).expand(len(context), -1, -1)
        if not all(map(is_broadcast, context)):
            return torch.cat(list(context)).to(dtype)
        ones = [clip[:1] for clip in context]
        return self._cache.get(ones, ("contexts", dtype), lambda: torch.cat(ones).to(dtype))

    def joinable(self) -> list[list[nn.Parameter]]:
        """Return groups of weights that may be joined in memory (`joined_weights.join_groups`)."""
        pairs = self._embedding_pairs()
        groups = [[layer.weight for layer, _ in pairs], [layer.bias for layer, _ in pairs], [c.bias for _, c in pairs]]
        groups += [module.attn1.joinable() for module in self.modules() if hasattr(module, "attn1")]
        return groups

    def _reuse_index(self, features: DeepFeatures | None) -> int:
        """Return the index of the output block whose input is cached, or -1 without a feature cache."""
        if features is None:
            return -1
        if not 1 <= features.depth < len(self.output_blocks):
            raise ValueError(
                f"reuse depth must be 1 to {len(self.output_blocks) - 1} for this UNet (got {features.depth})"
            )
        return len(self.output_blocks) - features.depth

    def _hooked_embedding(self, c_noise: Tensor, vector: Tensor, dtype: torch.dtype, hooks: Hooks) -> Tensor:
        """Return the embedding before its SiLU, [N, 4 * model_channels]; hooks may change the noise level's part."""
        noise = self.time_embed(sinusoidal_embedding(c_noise, self.config.model_channels).to(dtype))
        return hooks.embedding(noise) + self._label(vector, dtype)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        context: Tensor | Sequence[Tensor],
        vector: Tensor,
        num_frames: int,
        image_only_indicator: Tensor | None = None,
        region: tuple[Tensor, Tensor] | None = None,
        features: DeepFeatures | None = None,
        hooks: Hooks | None = None,
        time_context: Tensor | None = None,
        adapters: Sequence[Sequence[Adapter]] | None = None,
    ) -> Tensor:
        """Run the network and return [B*T, 4, h, w]. Rows are clip-major: row b * T + t (spec, symbols).

        x: [B*T, 8, h, w], noised latents times c_in, then the conditioning latent; its dtype is the compute dtype.
        c_noise: [B*T] float32, ln(sigma) / 4.
        context: [B*T, n, D], or one [T, n, D] per clip.
        vector: [B*T, V].
        image_only_indicator: [B*T] or [B, T], 1 for frames that skip the temporal paths (training on stills).
        region: another vector [B*T, V] and its share [B*T, 1, h, w] in 0..1 per latent pixel, or None.
        features: feature cache. A pass fills an empty one with features [B*T, C, h', w'], and runs only the outer
        blocks for a filled one. Raises ValueError if its depth does not fit the network.
        hooks: change activations from outside (ControlNets, adapters, a host's patches); None runs the fast path.
        time_context: other tokens [B*T, n, D] for the temporal blocks of hooked transformers.
        adapters: per clip, the adapters of its condition; their hooks run before `hooks`.
        """
        x = x.contiguous()  # one memory layout for all callers, since convolutions round differently per layout
        if adapters is not None:
            depth = None if features is None or features.cached is None else features.depth
            own = adapter_hooks(adapters, PassInputs(x, c_noise, context, vector, depth), num_frames)
            hooks = own if hooks is None else Chain([own, hooks])
        hooked, hooks = hooks is not None, hooks or NO_HOOKS
        hooks.start(x, num_frames)
        raw = None
        if region is not None:
            main, other = (self.embed(c_noise, part, x.dtype) for part in (vector, region[0]))
            embedding = RegionalEmbedding(main, other, region[1])
        elif hooked and hooks.uses_embedding:
            raw = self._hooked_embedding(c_noise, vector, x.dtype, hooks)
            embedding = F.silu(raw)
        else:
            embedding = self._embedding(c_noise, vector, x.dtype)
        context = self._context(context, x.dtype)
        image_only = None if image_only_indicator is None else image_only_indicator.reshape(-1)

        def step(layer: nn.Module, h: Tensor, size: tuple[int, int] | None = None) -> Tensor:
            if isinstance(layer, VideoResidualBlock):
                return layer(h, embedding, num_frames, image_only)
            if isinstance(layer, VideoTransformer):
                return run_with_hooks(layer, h, context, num_frames, hooks, image_only, time_context)
            return layer(h, size) if isinstance(layer, Upsample) else layer(h)

        def run(layer: nn.Module, h: Tensor, size: tuple[int, int] | None = None) -> Tensor:
            # One layer a call: a block's input must not outlive its first layer.
            if hooks.wraps_layers:
                return hooks.layer(layer, h, partial(step, layer, size=size))
            return step(layer, h, size)

        reuse_index = self._reuse_index(features)
        cached = None if features is None else features.cached
        skips, h = [], x
        depth = len(self.input_blocks) if cached is None else features.depth
        for index, layers in enumerate(self.input_blocks[:depth]):
            hooks.enter(("input", index))
            for layer in layers:
                h = run(layer, h)
            h = hooks.after_input(index, h)
            skips.append(h)
            h = hooks.after_skip(index, h)
        if cached is None:
            hooks.enter(("middle", 0))
            for layer in self.middle_block:
                h = run(layer, h)
            h = hooks.after_middle(h, raw)
        for index, layers in enumerate(self.output_blocks):
            if index == reuse_index:
                h = features.cached = h if cached is None else cached
                # Hooks may write into what they are given; what later steps take must stay as it is.
                h = h.clone() if hooked else h
            elif cached is not None and index < reuse_index:
                continue
            hooks.enter(("output", index))
            h, skip = hooks.skip(index, h, skips.pop())
            h = h if skip is None else torch.cat([h, skip], dim=1)
            del skip
            for layer in layers:
                h = run(layer, h, skips[-1].shape[-2:] if skips else None)
        return self.out["2"](norm_silu(self.out["0"], h))
