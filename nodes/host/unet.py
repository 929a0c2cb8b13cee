"""Our UNet as the host's SVD model, so that one patcher serves our sampler, KSampler and LoRA loaders."""

from torch import Tensor

from ...svd_core.condition import DeepFeatures
from ...svd_core.networks.activation_bytes import unet_activation_bytes
from ...svd_core.networks.config import UNetConfig
from ...svd_core.networks.unet import UNet
from . import comfy as host
from .reuse import KEY

FRAMES_KEY = "video_frames"
"""Entry of our CONDITIONING that says how long each clip of a batch is; the host's own nodes hold a single clip."""


class HostUNet(UNet):
    """Takes the keywords with which the host calls a diffusion model. Weight names stay those of the single file."""

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
        control: dict | None = None,
        transformer_options: dict | None = None,
        **others,
    ) -> Tensor:
        """Shapes as in UNet; the clip length comes from either keyword, the other keywords are not for this network."""
        if control is not None:
            raise ValueError(
                "a ControlNet is connected, but SVD Reel's UNet takes none; remove it from the conditioning"
            )
        frames = num_frames or num_video_frames or x.shape[0]
        reuse = (transformer_options or {}).get(KEY)
        if reuse is not None:
            run = super().forward
            return reuse.run(
                lambda kept: run(x, timesteps, context, y, frames, image_only_indicator, region, kept),
                x, context, transformer_options,
            )  # fmt: skip
        return super().forward(x, timesteps, context, y, frames, image_only_indicator, region, features)


class HostModel(host.ModelBase):
    """The host's SVD model with our byte estimate and with batches of clips."""

    def memory_required(self, input_shape, cond_shapes=None) -> float:
        """Bytes of activations for a batch of frames [N, 4, h, w], which may hold both halves of the guidance."""
        rows, _, height, width = input_shape
        dtype = self.manual_cast_dtype or self.get_dtype()
        config = self.diffusion_model.config
        return unet_activation_bytes(config, -(-rows // 2), height, width, dtype.itemsize, videos=2)

    def extra_conds(self, **kwargs) -> dict:
        """As the host's, except that our conditioning may tell the length of a clip."""
        conds = super().extra_conds(**kwargs)
        if kwargs.get(FRAMES_KEY):
            conds["num_video_frames"] = type(conds["num_video_frames"])(kwargs[FRAMES_KEY])
        return conds


def host_unet_config(config: UNetConfig) -> dict:
    """The host's own description of this UNet, from which it derives the names that LoRA files may use."""
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
