"""The shipped workflows. Omitted values are the nodes' own defaults.

Notes use no inline code: its colours are hard to read on a note in some versions of the interface.
"""

from typing import Any

from .between import first_and_last_frame, generative_inbetween, seamless_loop
from .brush import camera_orbit_with_depth, control_by_clip, cut_and_drag, edit_clip, motion_brush
from .controlnets import depth_controlnet, lineart_controlnet, nano_controlnet
from .controls import camera_pan_and_zoom, steadier_clip
from .fast import animatelcm_few_steps, fast_draft
from .finish import check_setup, draft_then_final, finish_4k, inspect_model, interpolate_with_model, vhs_output
from .formats import portrait_9_16, product_b_roll, social_square
from .from_words import sketch_to_4k_film, text_to_video
from .graph import Graph
from .lab_board import compare_clips, motion_lab, storyboard_animatic
from .library import NodeType
from .longer import longer_clip, longer_clip_15_seconds
from .memory import low_vram_8gb
from .orbits import turntable_sv3d
from .pieces import (
    FIRST_STEPS,
    INTERPOLATOR,
    SVD,
    SVD_XT,
    SVD_XT_1_1,
    TUNING,
    UPSCALER,
    Weights,
    load,
    measure,
    sample,
    save,
)
from .trained_controls import (
    cameractrl_camera,
    character_dance,
    motionctrl_camera,
    orbit_from_video_depth,
    video_depth,
)
from .training import lora_camera_move, train_camera_lora, train_character_lora


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
    latent = sample(make, model, condition, guidance=guidance["SVD_GUIDANCE"], sigmas=sigmas["SIGMAS"])
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
        "Image to video with SVD-XT 1.1, 25 frames\n\nThis release was tuned at one motion setting, so Set Motion "
        "uses the official one: the network receives 6 fps and motion bucket 127"
    )
    motion = {"preset": "official (SVD, SVD-XT and 1.1)"}
    return staged(graph, SVD_XT_1_1, heading, steps=30, low=1.5, high=3.0, motion=motion)


def nano_image_to_video(graph: Graph) -> Graph:
    """The embedded model in one node."""
    graph.note(f"""
# Image to video with the embedded model

Nothing to download: the tiny "nano" model is inside the pack and runs on any CPU, within a minute or two. Its images
are small. It shows how everything works; it is not for results.
{FIRST_STEPS}""")
    graph.note(f"""
**For real results** change one widget:

1. Download SVD-XT: {SVD_XT.line[2:]}; then press R in this window.
2. Choose it in *model_name* of **Load SVD Model**. Sizes, frames and steps follow the model.
3. Press **Run**. It needs a graphics card of 8 GB or more.

More or less motion: *motion_bucket_id*. Another clip of the same image: *seed*.
""")
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
**Export SVD to ComfyUI Model** outputs a MODEL like ComfyUI's own loaders, for guidance nodes, LoRA loaders, KSampler
and other packs. CONDITIONING, LATENT and VAE are ComfyUI's types as well, so you can swap each of the SVD Reel nodes
here for ComfyUI's own, and back.

With scheduler *karras*, sampler *euler* and Video Linear CFG Guidance, KSampler makes the same clip as Sample SVD
Clip with the same seed: *cfg* is the guidance of the last frame, *min_cfg* that of the first.
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

Nothing to download: the clip is made by the tiny model inside the pack. You can measure frames from any source, also
those of a loaded video.
{FIRST_STEPS}""")
    graph.note("""
- **picture moves**, **zoom**, **roll**: what most of the image shares from frame to frame. A camera that pans right
  moves the image left.
- **flicker** is what changes apart from the motion. **loop** near 1 means that the clip repeats without a jump.
- **image** compares the first frame with the start image. **model** uses its image encoder to measure how similar the
  frames stay.
- Paint a **mask** and connect it to measure motion inside and outside of it separately.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    clip = graph.stage("2. Animate").add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    measuring = graph.stage("3. Measure")
    measure(measuring, frames=clip["IMAGE"], image=picture["IMAGE"], model=model["SVD_MODEL"])
    save(graph.stage("4. Video"), graph.name, clip["IMAGE"], clip["FLOAT"])
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
- Every frame passes through the upscale model: at 1024x576 the clip becomes 4096x2304, which takes time and disk
  space. The scaling node after it halves that; set its factor to 1 to keep all of it.
- Interpolation adds frames between the frames, so the video plays at *multiplier* times the rate: 7 fps become 28.
- **Run Frame Interpolation Model** was added in ComfyUI 0.20. On older versions, delete the two interpolation nodes
  and use a pack such as ComfyUI-Frame-Interpolation instead.
""")
    picture, model = load(graph.stage("1. Picture and model"), SVD_XT)
    make = graph.stage("2. Animate")
    clip = make.add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    larger = graph.stage("3. Upscale")
    upscaler = larger.add(
        "UpscaleModelLoader",
        title="Load Upscale Model",
        model_name=UPSCALER.name,
        models=UPSCALER.models,
        without="mute",
    )
    upscaled = larger.add(
        "ImageUpscaleWithModel",
        title="Upscale Image (using Model)",
        without="bypass",
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
        without="mute",
    )
    frames = smoother.add(
        "FrameInterpolate",
        title="Run Frame Interpolation Model",
        without="bypass",
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
    low_vram_8gb,
    animatelcm_few_steps,
    fast_draft,
    upscale_and_interpolate,
    clip_report,
    camera_pan_and_zoom,
    camera_orbit_with_depth,
    motion_brush,
    cut_and_drag,
    control_by_clip,
    edit_clip,
    turntable_sv3d,
    motionctrl_camera,
    cameractrl_camera,
    character_dance,
    video_depth,
    orbit_from_video_depth,
    depth_controlnet,
    lineart_controlnet,
    nano_controlnet,
    first_and_last_frame,
    generative_inbetween,
    seamless_loop,
    longer_clip,
    longer_clip_15_seconds,
    steadier_clip,
    finish_4k,
    draft_then_final,
    sketch_to_4k_film,
    text_to_video,
    product_b_roll,
    portrait_9_16,
    social_square,
    interpolate_with_model,
    vhs_output,
    inspect_model,
    check_setup,
    motion_lab,
    compare_clips,
    storyboard_animatic,
    lora_camera_move,
    train_camera_lora,
    train_character_lora,
)


def describe(library: dict[str, NodeType]) -> list[Graph]:
    """Return every workflow as a graph."""
    return [function(Graph(function.__name__, library)) for function in WORKFLOWS]
