"""The start picture of a clip, as controls find it: in the condition, or handed to them."""

from torch import Tensor

from ..networks.vae import LATENT_SCALE
from ..sampling.controls import Run


def picture_latent(run: Run, given: Tensor | None = None) -> Tensor:
    """Return the scaled latent [1, 4, h, w] of the start picture, on the run's device.

    `given` [1|T, 4, h, w] is scaled; of several frames the first counts. Without it the condition's own latent is
    taken, which has the augmentation noise in it. ValueError where there is no picture, or one of another size.
    """
    if given is None:
        latent = getattr(run.inputs.condition, "latent", None)
        if not isinstance(latent, Tensor) or not bool(latent.any()):
            raise ValueError(
                "the control needs the start picture, but the condition holds none; use Prepare Image for SVD, or give "
                "the control the picture's latent"
            )
        given = latent * LATENT_SCALE
    if given.ndim != 4 or given.shape[1:] != run.noise.shape[1:]:
        raise ValueError(
            f"the start picture's latent has shape {list(given.shape)}, the clip {list(run.noise.shape)}; encode the "
            "picture at the size of the clip"
        )
    return given[:1].to(run.noise)
