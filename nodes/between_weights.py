"""The node that loads fine-tuned backward motion for Sample between Images."""

from ..svd_core.checkpoints.backward_motion import load_backward_motion
from ..svd_core.controls.between_weights import LoadedBackwardMotion
from .host import comfy as host
from .shared import inputs
from .shared.adapter_files import adapter_names, adapter_path, stamp
from .shared.model import LoadedModel


class SVDReelLoadBetweenWeights:
    """Load what lets the model see a clip from its end."""

    DISPLAY_NAME = "Load In-between Weights (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Control"
    DESCRIPTION = (
        "Loads the backward motion of Generative Inbetweening, weights trained for clips that run towards an end "
        "image. Make the file once with python -m svd_core convert FOLDER OUT.safetensors --backward-motion SVD."
    )
    SEARCH_ALIASES = ["generative inbetweening", "keyframe interpolation", "first last frame", "svd_keyframe"]
    RETURN_TYPES = ("SVD_BETWEEN_WEIGHTS",)
    RETURN_NAMES = ("between_weights",)
    OUTPUT_TOOLTIPS = ("The weights, for Sample between Images with the mode fine-tuned.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.socket("SVD_MODEL", "The base model: svd_xt, with which the weights were published."),
                "file": inputs.choice(
                    adapter_names(),
                    "A .safetensors file of the command convert, in models/svd or models/controlnet.",
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file: str, **others) -> str:
        """Return the file's modification time and size, so that a replaced file is loaded again."""
        return stamp(file)

    def execute(self, model: LoadedModel, file: str) -> tuple:
        path = adapter_path(file, "in-between weights")
        ops = host.casting_ops()
        network = load_backward_motion(path, model.config.unet, dtype=model.compute_dtype, ops=ops)
        return (LoadedBackwardMotion(network, file),)


NODES = [SVDReelLoadBetweenWeights]
