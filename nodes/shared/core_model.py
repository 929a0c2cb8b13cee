"""A model from the graph as the core takes it, for nodes that run whole clips through `svd_core.animate`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...svd_core.features import DeepFeatures
from ...svd_core.model.conditioning import Condition
from ...svd_core.networks.config import SVDConfig
from ...svd_core.networks.vae import LATENT_SCALE
from ...svd_core.sampling.guidance import takes_branches
from ..host import comfy as host
from ..host.vae_and_clip import MissingPart, ReelVAE
from ..load import borrowed_vae
from .model import LoadedModel


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

    @takes_branches
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
