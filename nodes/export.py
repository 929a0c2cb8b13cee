"""The node that converts the loaded model to ComfyUI's MODEL."""

from ..svd_core.controls.adapters import AdapterControl
from ..svd_core.sampling.limits import DEPTH
from ..svd_core.sampling.reuse import ReuseFeatures
from .host.adapters import adapters_in_sampling
from .host.preview import previews_in_sampling
from .host.reuse import reuse_in_sampling
from .shared import inputs
from .shared.controls import ControlChain
from .shared.model import LoadedModel


class SVDReelExportModel:
    """Convert SVD_MODEL to MODEL."""

    DISPLAY_NAME = "Export SVD to ComfyUI Model"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Converts the loaded model to ComfyUI's own MODEL, for KSampler, VideoLinearCFGGuidance, LoRA loaders, Save "
        "Checkpoint and other packs. Weights are shared, not copied."
    )
    SEARCH_ALIASES = ["svd to model", "ImageOnlyCheckpointLoader", "convert model", "KSampler"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model, for KSampler and other nodes that take MODEL.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"model": inputs.MODEL},
            "optional": {
                "reuse_interval": inputs.whole(
                    1,
                    1,
                    20,
                    "Speeds up drafts in KSampler: the whole network runs only once in this many steps, as in Reuse "
                    "Features. 1 is off and exact. 2 takes 0.62 of the time of a step and 3 half of it, but details "
                    "drift.",
                    advanced=True,
                ),
                "reuse_depth": inputs.whole(
                    DEPTH,
                    1,
                    11,
                    "Number of outer block pairs that still run in every step of KSampler while features are reused. "
                    "More is slower and closer to the exact clip.",
                    advanced=True,
                ),
                "control": inputs.socket(
                    "SVD_CONTROL",
                    "Control by ControlNet for KSampler. Other controls need Sample SVD Clip.",
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        reuse_interval: int = 1,
        reuse_depth: int = DEPTH,
        control: ControlChain | None = None,
    ) -> tuple:
        patcher = model.unet.clone()
        previews_in_sampling(patcher, model.colours)
        if controls := adapter_controls(control):
            adapters_in_sampling(patcher, controls)
        if reuse_interval > 1:
            reuse_in_sampling(patcher, ReuseFeatures(reuse_interval, reuse_depth))
        return (patcher,)


def adapter_controls(chain: ControlChain | None) -> list[AdapterControl]:
    """Return the active ControlNets of a chain; raises ValueError for controls that only our own sampler applies."""
    active = [link[0] for link in (chain or ControlChain()).links if link[0].active]
    others = [type(control).__name__ for control in active if not isinstance(control, AdapterControl)]
    if others:
        raise ValueError(
            f"an exported model cannot carry {', '.join(others)}; connect only Control by ControlNet here, or use "
            "Sample SVD Clip"
        )
    return active


NODES = [SVDReelExportModel]
