"""The node that hands our model to the rest of ComfyUI."""

from . import inputs
from .model import LoadedModel


class SVDReelExportModel:
    """From SVD_MODEL to MODEL."""

    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "The model as ComfyUI's own MODEL: for KSampler, VideoLinearCFGGuidance, LoRA loaders, Save Checkpoint and "
        "other packs. Weights are shared, not copied."
    )
    SEARCH_ALIASES = ["svd to model", "ImageOnlyCheckpointLoader", "convert model", "KSampler"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("For KSampler and whatever else takes a MODEL.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": inputs.MODEL}}

    def execute(self, model: LoadedModel) -> tuple:
        return (model.unet.clone(),)
