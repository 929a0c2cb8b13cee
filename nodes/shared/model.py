"""What travels on the SVD_MODEL socket: one checkpoint's networks in the care of the host's memory management."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...svd_core.condition import Condition, DeepFeatures
from ...svd_core.model.conditioning import clip_pixels, motion_vector
from ...svd_core.model.guidance_passes import best_mode, denoise_in_passes, fixed_mode, set_guidance_mode
from ...svd_core.model.retry import limit_chunks
from ...svd_core.networks.activation_bytes import unet_activation_bytes
from ...svd_core.networks.attention import CHUNK_ELEMENTS
from ...svd_core.networks.config import SVDConfig
from ...svd_core.networks.vae import LATENT_SCALE
from ...svd_core.plan.memory_plan import MemoryPlan
from ...svd_core.plan.reuse_costs import feature_cache_bytes
from ...svd_core.sampling.guidance import batches_conditions
from ..host import comfy as host
from ..host.build import borrowed_vae
from ..host.vae_and_clip import MissingPart, ReelClipVision, ReelVAE
from .controls import ControlChain


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """The networks of one checkpoint; it speaks the same verbs as `svd_core.SVDModel`.

    `unet` is the host's patcher around a model whose `diffusion_model` is our UNet, `compute_dtype` the format in which
    that computes. The host's own VAE and CLIP_VISION may stand in for ours. Images are [B, 3, H, W] in -1..1.
    """

    config: SVDConfig
    unet: Any
    compute_dtype: torch.dtype
    vae: Any
    image_encoder: Any
    plan: MemoryPlan | None = None

    @property
    def variant(self) -> str:
        """svd, svd_xt, svd_xt_1_1, sv3d_u, sv3d_p, animatelcm, nano or custom."""
        return self.config.variant

    def with_parts(self, *, vae=None, image_encoder=None) -> "LoadedModel":
        """This model with another VAE or CLIP_VISION; None keeps what there is."""
        return replace(self, vae=vae or self.vae, image_encoder=image_encoder or self.image_encoder)

    def following(self, plan: MemoryPlan | None) -> "LoadedModel":
        """This model, sampling as a plan says; None keeps what there is."""
        return replace(self, plan=plan or self.plan)

    def encode_image(self, image: Tensor) -> Tensor:
        """Image token [B, 1, D], with the official preprocessing whoever encodes (spec section 5)."""
        return image_token(self.image_encoder, image)

    def encode_latent(self, image: Tensor) -> Tensor:
        """Conditioning latent [B, 4, h, w], not scaled (spec section 6)."""
        if isinstance(self.vae, (ReelVAE, MissingPart)):
            return self.vae.latent(image)
        # The host's VAE takes 0..1 and maps it back; values that the noise pushed outside survive both maps.
        return self.vae.encode((image.movedim(1, -1) + 1) / 2).float()

    def embed_motion(self, *, fps_id: float, motion_bucket_id: float, augmentation_level: float) -> Tensor:
        """Vector [1, V] of the three motion numbers; `fps_id` is one less than frames per second."""
        return motion_vector(fps_id, motion_bucket_id, augmentation_level)

    def prepare_unet(self, frames: int, height: int, width: int, kept: int = 0) -> torch.device:
        """Bring the UNet to its device, with room for latents [frames, 4, height, width] and `kept` bytes.

        The branches of guidance share a pass as the plan says; without one, where that is faster and the memory that
        is left beside the weights suffices for both, so that nothing makes room for it.
        """
        pieces = self.plan.chunk_elements if self.plan else CHUNK_ELEMENTS
        way = self.plan.guidance if self.plan else "in turn"
        unet, size = self.unet.model.diffusion_model, (self.config.unet, frames, height, width)
        size = (*size, self.compute_dtype.itemsize)
        limit_chunks(unet, pieces)
        videos = 2 if way == "together" else 1
        device = host.use(self.unet, unet_activation_bytes(*size, videos=videos, chunk_elements=pieces) + kept)
        if self.plan is None:
            way = fixed_mode(device) or best_mode(*size, (host.free_bytes(device) or 0) - kept, chunk_elements=pieces)
        set_guidance_mode(unet, way)
        return device

    def kept_bytes(self, chain: ControlChain, frames: int, height: int, width: int) -> int:
        """Bytes of features that controls keep from step to step of a clip, besides those of the pass that runs."""
        # Windows overlap, by a third as a rule, and each keeps its own.
        rows = frames if chain.frames_at_once(frames) == frames else frames * 3 // 2
        depth, itemsize = chain.features_depth, self.compute_dtype.itemsize
        return feature_cache_bytes(self.config.unet, depth, rows, height, width, itemsize)

    @batches_conditions
    def denoise(
        self,
        x: Tensor,
        sigma: float | Tensor,
        condition: Condition | Sequence[Condition],
        *,
        features: DeepFeatures | None = None,
    ) -> Tensor:
        """See SVDModel; `prepare_unet` comes first, and decides whether several conditions share a pass."""
        unet = self.unet.model.diffusion_model
        return denoise_in_passes(unet, x, sigma, condition, dtype=self.compute_dtype, features=features)


def image_token(clip_vision, image: Tensor) -> Tensor:
    """Image token [B, 1, D] of images [B, 3, H, W] in -1..1, by our CLIP_VISION or another."""
    if isinstance(clip_vision, (ReelClipVision, MissingPart)):
        return clip_vision.token(image)
    return host.clip_embedding(clip_vision, clip_pixels(image))[:, None]


class CoreModel:
    """The verbs of `svd_core.SVDModel` on networks that the host places: each comes to its device when it is used."""

    def __init__(self, loaded: LoadedModel):
        self.loaded = loaded
        self._ready: tuple[int, ...] | None = None  # shape that the UNet was last made ready for

    @property
    def config(self) -> SVDConfig:
        """Sizes, native frames, width and height, and the variant."""
        return self.loaded.config

    @property
    def variant(self) -> str:
        """svd, svd_xt, svd_xt_1_1, sv3d_u, sv3d_p, animatelcm, nano or custom."""
        return self.loaded.variant

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return host.compute_device()

    def encode_image(self, image: Tensor) -> Tensor:
        """See SVDModel."""
        self._ready = None
        return self.loaded.encode_image(image)

    def encode_latent(self, image: Tensor) -> Tensor:
        """See SVDModel."""
        self._ready = None
        return self.loaded.encode_latent(image)

    def embed_motion(self, **numbers: float) -> Tensor:
        """See SVDModel."""
        return self.loaded.embed_motion(**numbers)

    @batches_conditions
    def denoise(
        self,
        x: Tensor,
        sigma: float | Tensor,
        condition: Condition | Sequence[Condition],
        *,
        features: DeepFeatures | None = None,
    ) -> Tensor:
        """See SVDModel; another network may have pushed the UNet aside since the last clip."""
        shape = (len(x), *x.shape[-2:])
        if shape != self._ready:
            self.loaded.prepare_unet(*shape)
            self._ready = shape
        return self.loaded.denoise(x, sigma, condition, features=features)

    def decode(self, latent: Tensor, plan: str | int = "exact", **options) -> Tensor:
        """See SVDModel. The host knows the memory, the caller's bar the progress: other options are left out."""
        self._ready = None
        host.check_interrupt()
        vae = self.loaded.vae
        if not isinstance(vae, (ReelVAE, MissingPart)):
            vae = borrowed_vae(vae) or vae
        if isinstance(vae, (ReelVAE, MissingPart)):
            return vae.pixels(
                latent.float() / LATENT_SCALE, plan, on_progress=lambda done, total: host.check_interrupt()
            )
        return vae.decode((latent / LATENT_SCALE).to(host.output_device())).movedim(-1, 1).float() * 2 - 1
