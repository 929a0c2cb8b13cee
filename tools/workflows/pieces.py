"""What the descriptions of workflows share: weights, sentences, and the nodes at both ends."""

from dataclasses import dataclass
from typing import Any

from .graph import Node, Stage

HUB = "https://huggingface.co"
NANO = "nano (embedded)"
PICTURE = "example.png"  # ComfyUI brings it


@dataclass(frozen=True)
class Weights:
    """A file that the reader must bring: name, model folder, and folder of the page it comes from."""

    name: str
    directory: str
    source: str

    @property
    def models(self) -> list[dict[str, str]]:
        """What the interface's missing-model dialog reads."""
        url = f"{HUB}/{self.source}/{self.name}"
        return [{"name": self.name, "url": url, "directory": self.directory}]

    @property
    def line(self) -> str:
        """One line of a note: name with link, and folder."""
        return f"- [{self.name}]({HUB}/{self.source}/{self.name}) goes into *models/{self.directory}*"


SVD = Weights("svd.safetensors", "checkpoints", "stabilityai/stable-video-diffusion-img2vid/resolve/main")
SVD_XT = Weights("svd_xt.safetensors", "checkpoints", "stabilityai/stable-video-diffusion-img2vid-xt/resolve/main")
SVD_XT_1_1 = Weights(
    "svd_xt_1_1.safetensors", "checkpoints", "stabilityai/stable-video-diffusion-img2vid-xt-1-1/resolve/main"
)
UPSCALER = Weights("RealESRGAN_x4plus.safetensors", "upscale_models", "Comfy-Org/Real-ESRGAN_repackaged/resolve/main")
INTERPOLATOR = Weights(
    "film_net_fp16.safetensors",
    "frame_interpolation",
    "Comfy-Org/frame_interpolation/resolve/main/frame_interpolation",
)

FIRST_STEPS = """
1. Choose your picture in **Load Image**.
2. Press **Run**. While it samples, the sampler shows all frames.
3. The clip appears in **Save Video** and in the folder *output/video*.
"""
TUNING = """
- **More or less motion**: raise or lower *motion_bucket_id* in Set Motion; then try other seeds.
- **Motion too jerky**: raise *fps* there. Playback speed is *fps* of Create Video and is independent of it.
- **Picture drifts or burns out**: lower the high end of the guidance.
- **Out of memory**: fewer frames or a smaller size. Decoding is streamed already.
- **No weights at hand**: choose *nano (embedded)* in Load SVD Model; sizes and frames follow the model.
"""


def load(stage: Stage, weights: Weights | None) -> tuple[Node, Node]:
    """Add the picture and the model; None is the embedded model."""
    picture = stage.add("LoadImage", title="Load Image (your picture)", image=PICTURE)
    if weights is None:
        return picture, stage.add("SVDReelLoadModel", model_name=NANO)
    return picture, stage.add("SVDReelLoadModel", model_name=weights.name, models=weights.models)


def save(stage: Stage, name: str, images: Any, fps: Any) -> None:
    """Add what makes a video file of frames."""
    video = stage.add("CreateVideo", title="Create Video", images=images, fps=fps)
    stage.add("SaveVideo", title="Save Video", video=video["VIDEO"], filename_prefix=f"video/{name}")
