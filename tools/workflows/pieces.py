"""Parts that workflow descriptions share: weights, sentences, and the nodes at both ends."""

from dataclasses import dataclass
from typing import Any

from .graph import Graph, Stage
from .node import Node

HUB = "https://huggingface.co"
NANO = "nano (embedded)"
PICTURE = "example.png"  # in ComfyUI's input folder from the start
# The sample picture that a workflow starts from; the others start from the product.
PICTURES = {
    "animatelcm_few_steps": "cat",
    "camera_orbit_with_depth": "landscape",
    "camera_pan_and_zoom": "landscape",
    "clip_report": "cat",
    "compare_clips": "landscape",
    "cut_and_drag": "drawing",
    "draft_then_final": "night",
    "fast_draft": "night",
    "finish_4k": "landscape",
    "first_and_last_frame": "cat",
    "longer_clip": "landscape",
    "longer_clip_15_seconds": "landscape",
    "lora_camera_move": "night",
    "low_vram_8gb": "landscape",
    "motion_brush": "landscape",
    "nano_controlnet": "landscape",
    "motion_lab": "cat",
    "portrait_9_16": "portrait",
    "seamless_loop": "night",
    "sketch_to_4k_film": "drawing",
    "social_square": "portrait",
    "steadier_clip": "portrait",
    "storyboard_animatic": "drawing",
    "svd_image_to_video": "landscape",
    "svd_xt_1_1_image_to_video": "portrait",
    "svd_xt_image_to_video": "night",
    "svd_with_comfyui_nodes": "cat",
    "text_to_video": "landscape",
    "train_camera_lora": "landscape",
    "train_character_lora": "portrait",
    "upscale_and_interpolate": "cat",
    "vhs_output": "night",
}
SWAP = "Sample Picture (swap for Load Image)"


@dataclass(frozen=True)
class Weights:
    """A file that the user must download: its name, its model folder, and the folder of its page."""

    name: str
    directory: str
    source: str

    @property
    def models(self) -> list[dict[str, str]]:
        """The entry for the interface's missing-model dialog."""
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

TEXT_TO_IMAGE = Weights(
    "sd_xl_base_1.0.safetensors", "checkpoints", "stabilityai/stable-diffusion-xl-base-1.0/resolve/main"
)
CONTROLNET = Weights(
    "control-lora-sketch-rank256.safetensors",
    "controlnet",
    "stabilityai/control-lora/resolve/main/control-LoRAs-rank256",
)

EMBEDDED = (
    "Nothing to download: the clip is made by the tiny model inside the pack. For real results, choose SVD-XT in Load "
    "SVD Model; everything else follows."
)
FIRST_STEPS = """
1. Press **Run**. While it samples, the sampler plays all frames.
2. The clip appears in **Save Video** and in the folder *output/video*.
3. For your own picture, add **Load Image** and connect it in place of **Sample Picture**.
"""
TUNING = """
- **More or less motion**: raise or lower *motion_bucket_id* in Set Motion; then try other seeds.
- **Jerky motion**: raise *fps* there. It does not change the playback speed, which is *fps* of Create Video.
- **The image drifts or burns out**: lower the high end of the guidance.
- **Out of memory**: use fewer frames or a smaller size. Decoding is already streamed.
"""


def load(stage: Stage, weights: Weights | None) -> tuple[Node, Node]:
    """Add the picture and the model; None is the embedded model."""
    picture = sample_picture(stage)
    if weights is None:
        return picture, stage.add("SVDReelLoadModel", model_name=NANO)
    return picture, load_model(stage, weights)


def sample_picture(stage: Stage, title: str = SWAP) -> Node:
    """Add the picture that this workflow starts from."""
    return stage.add("SVDReelSamplePicture", title=title, picture=PICTURES.get(stage.graph.name, "product"))


def load_model(stage: Stage, weights: Weights, without: str = "on") -> Node:
    """Add the loader of an SVD file; `without` the file it loads nano, or is switched off."""
    small = {"model_name": NANO} if without == "on" else {}
    return stage.add("SVDReelLoadModel", model_name=weights.name, models=weights.models, without=without, small=small)


def save(stage: Stage, name: str, images: Any, fps: Any, without: str = "on") -> None:
    """Add what makes a video file of frames."""
    video = stage.add("CreateVideo", title="Create Video", without=without, images=images, fps=fps)
    file = f"video/{name}"
    stage.add("SaveVideo", title="Save Video", without=without, video=video["VIDEO"], filename_prefix=file)


def sample(stage: Stage, model: Node, condition: Node, **more: Any) -> Node:
    """Add the sampler; `more` are its other inputs."""
    return stage.add(
        "SVDReelSampler",
        model=model["SVD_MODEL"],
        positive=condition["positive"],
        negative=condition["negative"],
        latent=condition["LATENT"],
        **more,
    )


def measure(stage: Stage, *, title: str = "Report", **inputs: Any) -> tuple[Node, Node]:
    """Add the measures of a clip and the page that shows them."""
    report = stage.add("SVDReelReport", **inputs)
    return report, stage.add("PreviewImage", title=title, images=report["page"])


def fold_measures(graph: Graph, measures: tuple[Node, Node]) -> None:
    """Show what `measure` added as one node."""
    graph.fold("Measure the Clip", "Measures the finished clip and draws a page of results. Open it to see the page.",
               measures)  # fmt: skip


def fold_conditioning(graph: Graph, motion: Node, condition: Node) -> None:
    """Show Set Motion and Prepare Image as one node."""
    graph.fold(
        "Motion and Conditioning",
        "Sets how much moves, and prepares the image for the model.",
        [motion, condition],
        [(motion, "motion_bucket_id"), (motion, "fps"), *((condition, name) for name in ("width", "height", "frames"))],
    )
