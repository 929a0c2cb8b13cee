"""Our UNet as the host's SVD model, with one patcher for our sampler, KSampler and LoRA loaders."""

import logging
from collections.abc import Sequence
from functools import cache

from torch import Tensor

from ...svd_core.condition import Adapter, DeepFeatures
from ...svd_core.networks.activation_bytes import unet_activation_bytes
from ...svd_core.networks.config import UNetConfig
from ...svd_core.networks.hooks import Hooks
from ...svd_core.networks.unet import UNet
from . import comfy as host
from . import kernels  # noqa: F401  registers what our kernels ask of the host
from .adapters import KEY as ADAPTERS_KEY
from .hooks import host_hooks
from .reuse import KEY

log = logging.getLogger("svd_reel")

FRAMES_KEY = "video_frames"
"""Entry of our CONDITIONING with the length of each clip of a batch; the host's own nodes hold a single clip."""


class HostUNet(UNet):
    """Our UNet with the signature of the host's diffusion models. Weight names are unchanged."""

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor,
        num_frames: int | None = None,
        *,
        num_video_frames: int | None = None,
        image_only_indicator: Tensor | None = None,
        region: tuple[Tensor, Tensor] | None = None,
        features: DeepFeatures | None = None,
        hooks: Hooks | None = None,
        control: dict | None = None,
        time_context: Tensor | None = None,
        transformer_options: dict | None = None,
        adapters: Sequence[Sequence[Adapter]] | None = None,
        **others,
    ) -> Tensor:
        """Run one pass for our own sampler, or for the host, which gives `transformer_options`; shapes as in UNet.

        The clip length comes from either keyword; keywords for other networks are ignored, as the host's own network
        ignores them.
        """
        frames = num_frames or num_video_frames
        if transformer_options is None:
            frames = frames or x.shape[0]
            return super().forward(
                x, timesteps, context, y, frames, image_only_indicator, region, features, hooks, time_context, adapters
            )
        # The names and the order of the positional arguments are part of the interface of wrappers.
        arguments = (x, timesteps, context, y, control, transformer_options)
        more = {"num_video_frames": frames, "image_only_indicator": image_only_indicator, "time_context": time_context}
        return host.run_with_wrappers(self, self._host_forward, arguments, transformer_options, more)

    def _host_forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor,
        control: dict | None = None,
        transformer_options: dict | None = None,
        *,
        num_video_frames: int | None = None,
        image_only_indicator: Tensor | None = None,
        time_context: Tensor | None = None,
        **others,
    ) -> Tensor:
        options = transformer_options if transformer_options is not None else {}
        frames = num_video_frames or len(x) // max(1, len(options.get("cond_or_uncond", (0,))))
        inputs = {"timesteps": timesteps, "context": context, "y": y, "time_context": time_context}
        hooks = host_hooks(options, control, {**inputs, "model_channels": self.config.model_channels})
        run = super().forward

        shared = options.get(ADAPTERS_KEY)
        adapters = None if shared is None else shared.of_pass(x, frames, options)

        def forward(features: DeepFeatures | None) -> Tensor:
            more = (image_only_indicator, None, features, hooks, time_context, adapters)
            return run(x, timesteps, context, y, frames, *more)

        reuse = options.get(KEY)
        if reuse is None:
            return forward(None)
        if hooks is not None:
            warn_of_patched_reuse()
            return forward(None)
        return reuse.run(forward, x, context, options)


@cache
def warn_of_patched_reuse() -> None:
    """Log once that patches need every block to run."""
    log.warning(
        "patches or a ControlNet act on the model, so features are not reused; every step runs the whole network"
    )


class HostModel(host.ModelBase):
    """The host's SVD model with our memory estimate and with batches of clips."""

    def memory_required(self, input_shape, cond_shapes=None) -> float:
        """Return the bytes of activations for frames [N, 4, h, w], which may hold both conditions of guidance."""
        rows, _, height, width = input_shape
        dtype = self.manual_cast_dtype or self.get_dtype()
        config = self.diffusion_model.config
        return unet_activation_bytes(config, -(-rows // 2), height, width, dtype.itemsize, videos=2)

    def extra_conds(self, **kwargs) -> dict:
        """Return the host's conditions, with the clip length of our conditioning."""
        conds = super().extra_conds(**kwargs)
        if kwargs.get(FRAMES_KEY):
            conds["num_video_frames"] = type(conds["num_video_frames"])(kwargs[FRAMES_KEY])
        return conds


def host_unet_config(config: UNetConfig) -> dict:
    """Return the host's description of this UNet, from which it derives the names in LoRA files."""
    levels = range(len(config.channel_mult))
    depths = [1 if level in config.attention_levels else 0 for level in levels]
    blocks = config.num_res_blocks
    return {
        "model_channels": config.model_channels,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "channel_mult": list(config.channel_mult),
        "num_res_blocks": [blocks for _ in levels],
        "transformer_depth": [depth for depth in depths for _ in range(blocks)],
        "transformer_depth_output": [depth for depth in depths for _ in range(blocks + 1)],
        "transformer_depth_middle": 1,
        "num_head_channels": config.head_channels,
        "context_dim": config.context_channels,
        "adm_in_channels": config.vector_channels,
        "use_linear_in_transformer": True,
        "use_temporal_attention": True,
        "use_temporal_resblock": True,
    }
