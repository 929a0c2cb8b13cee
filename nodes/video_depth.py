"""The node that reads depth or normals from a video, with DepthCrafter or NormalCrafter."""

from torch import Tensor

from ..svd_core.checkpoints.licence import licence_of
from ..svd_core.pictures import check_image
from ..svd_core.pipelines.video_depth import VIDEO_READERS, VideoDepthSettings, video_depth
from .host import comfy as host
from .host.preview import ClipPreview
from .shared import inputs
from .shared.model import LoadedModel

AUTO = "auto"


class SVDReelVideoDepth:
    """Turn a video into steady depth or normals."""

    DISPLAY_NAME = "Video to Depth or Normals (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Reads depth (DepthCrafter) or surface normals (NormalCrafter) from a video or a batch of pictures, steady "
        "from frame to frame and of any length. Near is bright. DepthCrafter is for research and education only."
    )
    SEARCH_ALIASES = ["DepthCrafter", "NormalCrafter", "video depth", "depth map", "normal map", "depth estimation"]
    RETURN_TYPES = ("IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("maps", "depth", "licence")
    OUTPUT_TOOLTIPS = (
        "Depth in grey, or normals in colour, one map per frame; for depth inputs, ControlNets or Save Video.",
        "The same depth as a mask, 1 is nearest. For normals: how far each surface faces the camera.",
        "What the licence of the model allows, as text.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.socket(
                    "SVD_MODEL", "DepthCrafter or NormalCrafter from Load SVD Model, with complete_from set to svd_xt."
                ),
                "video": inputs.socket("IMAGE", "The frames to read, of any size and number. One picture works, too."),
                "kind": inputs.choice(
                    [AUTO, *VIDEO_READERS],
                    "What the model reads. auto goes by the variant of the model, which is found in the file name; "
                    "choose it for a renamed file.",
                ),
                "window": inputs.whole(
                    0,
                    0,
                    1024,
                    "Frames read at once. 0 is the model's own: 110 for depth, 14 for normals. Lower it to 25 or 50 "
                    "if memory is short; long videos then flicker slightly at the joins.",
                ),
                "overlap": inputs.whole(
                    -1, -1, 512, "Frames that neighbouring windows share. -1 is the model's own: 25 for depth, 4 for "
                    "normals.", advanced=True,
                ),
                "steps": inputs.whole(
                    5, 1, 100, "Sampling steps of depth. 5 is usual; more gives slightly finer edges. Normals take one."
                ),
                "longest_side": inputs.whole(
                    1024,
                    64,
                    4096,
                    "Larger videos are scaled down to this side for the model, and the maps scaled up again. 640 is "
                    "twice as fast.",
                    step=64,
                ),
                "seed": inputs.whole(42, 0, inputs.MAX_SEED, "Seed of the noise. It only changes details."),
            },
            "optional": {
                "guidance": inputs.decimal(
                    1.0, 0.0, 5.0, "Guidance of depth. 1 needs one pass per step; at most 1.2.", advanced=True
                ),
            },
        }  # fmt: skip

    def execute(
        self,
        model: LoadedModel,
        video: Tensor,
        kind: str,
        window: int,
        overlap: int,
        steps: int,
        longest_side: int,
        seed: int,
        guidance: float = 1.0,
    ) -> tuple:
        settings = VideoDepthSettings(
            kind=None if kind == AUTO else kind,
            window=window or None,
            overlap=None if overlap < 0 else overlap,
            steps=steps,
            guidance=guidance,
            longest_side=longest_side,
            seed=seed,
        ).resolve(model.config)
        progress = host.Progress(settings.steps, ClipPreview(model.colours))
        maps = video_depth(model, check_image(video), settings, on_step=progress.step, on_decode=progress.decoded)
        mask = maps.mean(-1) if settings.kind == "depthcrafter" else maps[..., 2]
        licence = licence_of(settings.kind)
        device = host.output_device()
        return (maps.to(device), mask.to(device), f"{licence.name}. {licence.sentence}")


NODES = [SVDReelVideoDepth]
