"""The value of the SVD_MODEL socket: the networks of one checkpoint under the host's memory management."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...svd_core.condition import DeepFeatures
from ...svd_core.model.conditioning import clip_pixels
from ...svd_core.model.guidance_modes import best_mode
from ...svd_core.model.guidance_passes import set_guidance_mode
from ...svd_core.model.latent_colours import LatentColours
from ...svd_core.model.model import ReadyUNet, VideoModel
from ...svd_core.model.retry import limit_chunks
from ...svd_core.networks.activation_bytes import CHUNK_ELEMENTS, unet_activation_bytes
from ...svd_core.networks.config import SVDConfig
from ...svd_core.networks.vae import LATENT_SCALE
from ...svd_core.plan.control_costs import residual_bytes
from ...svd_core.plan.memory_plan import MemoryPlan
from ...svd_core.plan.reuse_costs import feature_cache_bytes
from ..host import comfy as host
from ..host.build import own_decoder
from ..host.vae_and_clip import MissingPart, ReelClipVision, ReelVAE


@dataclass
class _Prepared:
    """The clip size and the bytes of cached features for which the UNet was last prepared."""

    size: tuple[int, int, int] | None = None
    kept: int = 0


@dataclass(frozen=True, eq=False)
class LoadedModel(VideoModel):
    """The networks of one checkpoint; the host brings each to its device when it is used.

    `unet` is the host's patcher around a model whose `diffusion_model` is our UNet, `compute_dtype` the dtype in which
    it computes. The host's own VAE and CLIP_VISION may replace ours. Images are [B, 3, H, W] in -1..1.
    """

    config: SVDConfig
    unet: Any
    compute_dtype: torch.dtype
    vae: Any
    image_encoder: Any
    plan: MemoryPlan | None = None
    colours: LatentColours | None = None  # for previews
    _prepared: _Prepared = field(default_factory=_Prepared, init=False, repr=False)

    def with_parts(self, *, vae=None, image_encoder=None) -> "LoadedModel":
        """Return this model with another VAE or CLIP_VISION; None keeps the present one."""
        return replace(self, vae=vae or self.vae, image_encoder=image_encoder or self.image_encoder)

    def following(self, plan: MemoryPlan | None) -> "LoadedModel":
        """Return this model, sampling as `plan` says; None keeps the present plan."""
        return replace(self, plan=plan or self.plan)

    @property
    def device(self) -> torch.device:
        """Where the UNet computes."""
        return self.unet.load_device

    @property
    def network(self) -> nn.Module:
        """The UNet itself, wherever its weights are."""
        return self.unet.model.diffusion_model

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the image token [B, 1, D], with the official preprocessing whichever encoder is used (spec 5)."""
        token, channels = image_token(self.image_encoder, image), self.config.unet.context_channels
        if token.shape[-1] != channels:
            raise ValueError(
                f"the CLIP_VISION gives {token.shape[-1]} channels, but this model takes {channels}; connect the image "
                "encoder of the same checkpoint, which is CLIP ViT-H for SVD"
            )
        return token

    def encode_latent(self, image: Tensor) -> Tensor:
        """Return the conditioning latent [B, 4, h, w], unscaled (spec section 6)."""
        if isinstance(self.vae, (ReelVAE, MissingPart)):
            return self.vae.latent(image)
        # The host's VAE takes 0..1 and maps it back; values that the noise pushed outside survive both maps.
        latent = self.vae.encode((image.movedim(1, -1) + 1) / 2).float()
        expected = (len(image), 4, image.shape[2] // 8, image.shape[3] // 8)
        if latent.shape != expected:
            raise ValueError(
                f"the VAE gives latents of shape {list(latent.shape)}, but SVD needs {list(expected)}; connect the VAE "
                "from Load SVD Model"
            )
        return latent

    def prepare_unet(
        self,
        frames: int,
        height: int,
        width: int,
        features: DeepFeatures | None = None,
        networks: Sequence[nn.Module] = (),
    ) -> ReadyUNet:
        """Return the UNet, brought to its device with room for latents [frames, 4, height, width] and `features`.

        Networks of adapters come with it. The host is asked again when the size or the cached features grow past the
        last request, or when it has brought another model to a device since.
        """
        host.check_interrupt()
        size, last = (frames, height, width), self._prepared
        others = bring_adapters(networks, self.device)
        kept = 0
        if features is not None:
            itemsize = self.compute_dtype.itemsize
            kept = feature_cache_bytes(self.config.unet, features.depth, features.rows, height, width, itemsize)
        if networks:
            # One residual per skip and one for the middle, of every ControlNet.
            kept += len(networks) * residual_bytes(self.config.unet, frames, height, width, self.compute_dtype.itemsize)
        if last.size != size or last.kept < kept or not host.is_current(self.unet, others):
            self._make_room(size, kept, others)
            last.size, last.kept = size, kept
        return ReadyUNet(self.network, self.device, self.compute_dtype)

    def _make_room(self, size: tuple[int, int, int], kept: int, others: Sequence[Any] = ()) -> None:
        """Bring the UNet to its device and choose the guidance mode, by the plan or by the memory that is left.

        Without a plan nothing makes room for a second clip in a pass: it must fit beside the weights as they are.
        """
        chunks = self.plan.chunk_elements if self.plan else CHUNK_ELEMENTS
        mode = self.plan.guidance if self.plan else "in turn"
        shape = (self.config.unet, *size, self.compute_dtype.itemsize)
        limit_chunks(self.network, chunks)
        videos = 2 if mode == "together" else 1
        activations = unet_activation_bytes(*shape, videos=videos, chunk_elements=chunks)
        device = host.use(self.unet, activations + kept, others)
        if device.type == "cpu":
            mode = None  # the size of every pass decides, planned or not
        elif self.plan is None:
            free = (host.free_bytes(device, self.unet) or 0) - kept
            mode = best_mode(*shape, free, chunk_elements=chunks)
        set_guidance_mode(self.network, mode)

    def decode(
        self, latent: Tensor, plan: str | int = "exact", *, on_progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """Return the frames [T, 3, 8h, 8w], about -1..1, of scaled latents [T, 4, h, w]; see SVDModel."""

        def report(done: int, total: int) -> None:
            host.check_interrupt()
            if on_progress is not None:
                on_progress(done, total)

        host.check_interrupt()
        vae = own_decoder(self.vae)
        if isinstance(vae, (ReelVAE, MissingPart)):
            strategy = self.plan.strategy if self.plan else None
            return vae.pixels(latent.float() / LATENT_SCALE, plan, on_progress=report, strategy=strategy)
        return vae.decode((latent / LATENT_SCALE).to(host.output_device())).movedim(-1, 1).float() * 2 - 1


def bring_adapters(networks: Sequence[nn.Module], device: torch.device) -> list[Any]:
    """Return the host's patchers of the networks of adapters; a network without one is moved to the device."""
    patchers = []
    for network in networks:
        patcher = getattr(network, "patcher", None)
        if patcher is not None:
            patchers.append(patcher)
        elif next(network.parameters()).device != device:
            network.to(device)
    return patchers


def image_token(clip_vision, image: Tensor) -> Tensor:
    """Return the image token [B, 1, D] of images [B, 3, H, W] in -1..1, by our CLIP_VISION or another one."""
    if isinstance(clip_vision, (ReelClipVision, MissingPart)):
        return clip_vision.token(image)
    return host.clip_embedding(clip_vision, clip_pixels(image))[:, None]
