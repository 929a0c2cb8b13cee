"""The shipped workflows, described. Values that are left out are the nodes' own defaults.

Notes use no inline code: its colours are hard to read on a note in some versions of the interface.
"""

from dataclasses import dataclass
from typing import Any

from .graph import Graph, Node, Stage
from .library import NodeType

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


def staged(
    graph: Graph, weights: Weights, heading: str, *, steps: int, low: float, high: float, motion: dict[str, Any]
) -> Graph:
    """Every stage a node, with the official settings of the model."""
    graph.note(f"# {heading}\n\nNeeds one file:\n\n{weights.line}\n{FIRST_STEPS}")
    graph.note(TUNING)
    picture, model = load(graph.stage("1. Picture and model"), weights)
    prepare = graph.stage("2. Motion and conditioning")
    wanted = prepare.add("SVDReelMotion", **motion)
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=wanted["SVD_MOTION"]
    )
    plan = graph.stage("3. Steps and guidance")
    sigmas = plan.add("SVDReelSchedule", steps=steps)
    guidance = plan.add("SVDReelGuidance", low=low, high=high)
    plan.add("PreviewImage", title="Guidance over the frames", images=guidance["IMAGE"])
    make = graph.stage("4. Sample and decode")
    latent = make.add(
        "SVDReelSampler",
        model=model["SVD_MODEL"],
        positive=condition["positive"],
        negative=condition["negative"],
        latent=condition["LATENT"],
        guidance=guidance["SVD_GUIDANCE"],
        sigmas=sigmas["SIGMAS"],
    )
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("5. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph


def svd_image_to_video(graph: Graph) -> Graph:
    """SVD: 14 frames, 25 steps, guidance 1.0 to 2.5."""
    heading = "Image to video with SVD, 14 frames"
    return staged(graph, SVD, heading, steps=25, low=1.0, high=2.5, motion={})


def svd_xt_image_to_video(graph: Graph) -> Graph:
    """SVD-XT: 25 frames, 30 steps, guidance 1.5 to 3.0."""
    heading = "Image to video with SVD-XT, 25 frames"
    return staged(graph, SVD_XT, heading, steps=30, low=1.5, high=3.0, motion={})


def svd_xt_1_1_image_to_video(graph: Graph) -> Graph:
    """SVD-XT 1.1, with the motion that it was tuned for."""
    heading = (
        "Image to video with SVD-XT 1.1, 25 frames\n\nTuned at one setting of motion, so Set Motion holds the "
        "official one: the network sees 6 fps and motion bucket 127"
    )
    motion = {"preset": "official (SVD, SVD-XT and 1.1)"}
    return staged(graph, SVD_XT_1_1, heading, steps=30, low=1.5, high=3.0, motion=motion)


def nano_image_to_video(graph: Graph) -> Graph:
    """The embedded model in one node."""
    graph.note(f"""
# Image to video with the embedded model

Nothing to download: the tiny "nano" model is inside the pack and runs on any CPU, within a minute or two. Its pictures
are 128x128 pixels. It is there to see how everything works, not for results; for those load SVD-XT in Load SVD Model.
{FIRST_STEPS}""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    make = graph.stage("2. Animate")
    clip = make.add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    save(graph.stage("3. Video"), graph.name, clip["IMAGE"], clip["FLOAT"])
    return graph


def svd_with_comfyui_nodes(graph: Graph) -> Graph:
    """ComfyUI's own guidance and sampler between our conditioning and our decoding."""
    graph.note(f"""
# SVD Reel around ComfyUI's own sampler

Needs one file:

{SVD_XT.line}
{FIRST_STEPS}""")
    graph.note("""
**Export SVD to ComfyUI Model** gives a MODEL as the host's own loaders do: guidance nodes, LoRA loaders, KSampler and
other packs take it. CONDITIONING, LATENT and VAE are the host's types as well, so each of the SVD Reel nodes here can
be swapped for ComfyUI's own, and back.

With scheduler *karras*, sampler *euler* and Video Linear CFG Guidance, KSampler makes the clip that Sample SVD Clip
makes with the same seed: *cfg* is the guidance of the last frame, *min_cfg* that of the first.
""")
    picture, model = load(graph.stage("1. Picture and model"), SVD_XT)
    prepare = graph.stage("2. Conditioning and export")
    condition = prepare.add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"])
    exported = prepare.add("SVDReelExportModel", model=model["SVD_MODEL"])
    host = graph.stage("3. ComfyUI's nodes")
    guided = host.add("VideoLinearCFGGuidance", title="Video Linear CFG Guidance", model=exported["MODEL"], min_cfg=1.5)
    latent = host.add(
        "KSampler",
        model=guided["MODEL"],
        positive=condition["positive"],
        negative=condition["negative"],
        latent_image=condition["LATENT"],
        seed=23,
        steps=30,
        cfg=3.0,
        sampler_name="euler",
        scheduler="karras",
    )
    frames = graph.stage("4. Decode").add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("5. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph


def clip_report(graph: Graph) -> Graph:
    """A clip of the embedded model, measured."""
    graph.note(f"""
# How a clip moves, and how steady it is

Nothing to download: the clip is made by the tiny model inside the pack. Frames from anywhere can be measured, a loaded
video's too.
{FIRST_STEPS}""")
    graph.note("""
- **picture moves**, **zoom**, **roll**: what most of the picture shares from frame to frame. A camera that pans right
  moves the picture left.
- **flicker** is what changes although the motion is accounted for. **loop** near 1 means that the clip can be repeated
  without a jump.
- **image** compares the first frame with the picture. **model** tells by its image encoder how alike the frames stay.
- Paint a **mask** and connect it, and motion is told apart inside and outside of it.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    clip = graph.stage("2. Animate").add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    measuring = graph.stage("3. Measure")
    report = measuring.add("SVDReelReport", frames=clip["IMAGE"], image=picture["IMAGE"], model=model["SVD_MODEL"])
    measuring.add("PreviewImage", title="Report", images=report["page"])
    save(graph.stage("4. Video"), graph.name, clip["IMAGE"], clip["FLOAT"])
    return graph


def camera_pan_and_zoom(graph: Graph) -> Graph:
    """A camera path imposed on a clip of the embedded model."""
    graph.note(f"""
# A camera that goes where you say

Nothing to download: the clip is made by the tiny model inside the pack. For real results choose SVD-XT in Load SVD
Model; everything else follows.
{FIRST_STEPS}""")
    graph.note("""
- **Camera Path** draws what it will do. Write the path in words, or empty *path* and choose a *move*. The content moves
  the other way than the camera.
- **Control Camera** warps the picture along the path and shows what is imposed. If the clip stands still, raise its
  *strength*; if it looks like a sliding photograph, lower it.
- A low motion bucket lets the path decide what moves.
- For dolly, truck and orbit connect a depth map to *depth*, and try the mode *replace estimate*.
- **Measure Clip** shows how far the clip followed.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    plan = graph.stage("2. Camera")
    path = plan.add("SVDReelCameraPath", image=picture["IMAGE"], path="pan right 0.12 ease, zoom in 1.15 ease")
    plan.add("PreviewImage", title="The path", images=path["IMAGE"])
    prepare = graph.stage("3. Motion and conditioning")
    motion = prepare.add("SVDReelMotion", motion_bucket_id=20)
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"]
    )
    steer = graph.stage("4. Control")
    control = steer.add(
        "SVDReelCameraControl",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        camera=path["SVD_CAMERA"],
        latent=condition["LATENT"],
        strength=1.5,
    )
    steer.add("PreviewImage", title="What is imposed", images=control["IMAGE"])
    make = graph.stage("5. Sample and decode")
    latent = make.add(
        "SVDReelSampler",
        model=model["SVD_MODEL"],
        positive=condition["positive"],
        negative=condition["negative"],
        latent=condition["LATENT"],
        control=control["SVD_CONTROL"],
    )
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    finish = graph.stage("6. Video and measures")
    report = finish.add("SVDReelReport", frames=frames["IMAGE"], image=picture["IMAGE"])
    finish.add("PreviewImage", title="Report", images=report["page"])
    save(finish, graph.name, frames["IMAGE"], 7.0)
    return graph


def steadier_clip(graph: Graph) -> Graph:
    """Motion by a curve, and everything that keeps a clip steady."""
    graph.note(f"""
# A clip that moves when you say, and stays steady

Nothing to download: the clip is made by the tiny model inside the pack. For real results choose SVD-XT in Load SVD
Model; everything else follows.
{FIRST_STEPS}""")
    graph.note("""
- **Control Amount of Motion** gives every frame its own motion bucket: here the clip starts gently and settles again.
  The preset *lively* goes further, *calm* the other way.
- **Keep Clip Steady** stops guidance from burning colours, holds the first frame at your picture and the colours of
  the others at the first. Set a part to its neutral value (0, or 1 for *keep_parallel*) and the clip is exactly that
  without it.
- **Match Clip Colours** does the rest on the finished frames; its *strength* 0 leaves them alone.
- **Measure Clip** shows drift and flicker. Bypass the nodes one by one and compare.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    prepare = graph.stage("2. Conditioning and guidance")
    condition = prepare.add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"])
    guidance = prepare.add("SVDReelGuidance", low=1.0, high=2.5)
    steer = graph.stage("3. Controls")
    amount = steer.add("SVDReelMotionAmount", bucket_curve="0:40, 0.4:200, 1:100")
    steady = steer.add(
        "SVDReelSteady",
        rescale=0.5,
        keep_parallel=0.3,
        first_frame=1.0,
        colour_anchor=0.2,
        control=amount["SVD_CONTROL"],
    )
    make = graph.stage("4. Sample and decode")
    latent = make.add(
        "SVDReelSampler",
        model=model["SVD_MODEL"],
        positive=condition["positive"],
        negative=condition["negative"],
        latent=condition["LATENT"],
        guidance=guidance["SVD_GUIDANCE"],
        control=steady["SVD_CONTROL"],
    )
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    finish = graph.stage("5. Colours, measures, video")
    matched = finish.add("SVDReelColorMatch", frames=frames["IMAGE"])
    report = finish.add("SVDReelReport", frames=matched["IMAGE"], image=picture["IMAGE"])
    finish.add("PreviewImage", title="Report", images=report["page"])
    save(finish, graph.name, matched["IMAGE"], 7.0)
    return graph


def upscale_and_interpolate(graph: Graph) -> Graph:
    """An upscale model and a frame interpolator behind our clip."""
    graph.note(f"""
# A clip four times as large, four times as smooth

Needs three files:

{SVD_XT.line}
{UPSCALER.line}
{INTERPOLATOR.line}
{FIRST_STEPS}""")
    graph.note("""
- Every frame goes through the upscale model: at 1024x576 the clip becomes 4096x2304, which takes time and disk. The
  scaling node behind it brings it to half of that; set its factor to 1 for all of it.
- Interpolation puts frames between the frames, so the video plays at *multiplier* times the rate: 7 fps become 28.
- **Run Frame Interpolation Model** came with ComfyUI 0.20. On an older one, delete the two interpolation nodes and
  use a pack such as ComfyUI-Frame-Interpolation in their place.
""")
    picture, model = load(graph.stage("1. Picture and model"), SVD_XT)
    make = graph.stage("2. Animate")
    clip = make.add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    larger = graph.stage("3. Upscale")
    upscaler = larger.add(
        "UpscaleModelLoader", title="Load Upscale Model", model_name=UPSCALER.name, models=UPSCALER.models
    )
    upscaled = larger.add(
        "ImageUpscaleWithModel",
        title="Upscale Image (using Model)",
        upscale_model=upscaler["UPSCALE_MODEL"],
        image=clip["IMAGE"],
    )
    scaled = larger.add(
        "ImageScaleBy", title="Scale Image By", image=upscaled["IMAGE"], upscale_method="lanczos", scale_by=0.5
    )
    smoother = graph.stage("4. Interpolate")
    interpolator = smoother.add(
        "FrameInterpolationModelLoader",
        title="Load Frame Interpolation Model",
        model_name=INTERPOLATOR.name,
        models=INTERPOLATOR.models,
    )
    frames = smoother.add(
        "FrameInterpolate",
        title="Run Frame Interpolation Model",
        interp_model=interpolator["INTERP_MODEL"],
        images=scaled["IMAGE"],
        multiplier=4,
    )
    save(graph.stage("5. Video"), graph.name, frames["IMAGE"], 28.0)
    return graph


WORKFLOWS = (
    nano_image_to_video,
    svd_image_to_video,
    svd_xt_image_to_video,
    svd_xt_1_1_image_to_video,
    svd_with_comfyui_nodes,
    upscale_and_interpolate,
    clip_report,
    camera_pan_and_zoom,
    steadier_clip,
)


def describe(library: dict[str, NodeType]) -> list[Graph]:
    """Return every workflow as a graph."""
    return [function(Graph(function.__name__, library)) for function in WORKFLOWS]
