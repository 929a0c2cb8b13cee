"""Workflows that start with ComfyUI's text-to-image."""

from .graph import Graph, Stage
from .node import Node, Output
from .pieces import CONTROLNET, SVD_XT, TEXT_TO_IMAGE, UPSCALER, load_model, sample_picture, save

WIDTH, HEIGHT = 1344, 768  # what SDXL was trained at; closest to 16:9
NEGATIVE = "text, watermark, frame, border, blurry, deformed"


def own_picture(stage: Stage, title: str) -> Output:
    """Add the reader's picture, cut to the shape of the photo."""
    picture = sample_picture(stage, title)
    fitted = stage.add(
        "ImageScale",
        title="Cut to 16:9",
        image=picture["IMAGE"],
        upscale_method="lanczos",
        width=WIDTH,
        height=HEIGHT,
        crop="center",
    )
    return fitted["IMAGE"]


def words(stage: Stage, positive: str) -> tuple[Node, Node, Node]:
    """Add the text-to-image model and both texts; return model, positive, negative."""
    model = stage.add(
        "CheckpointLoaderSimple",
        title="Load Checkpoint (text to image)",
        ckpt_name=TEXT_TO_IMAGE.name,
        models=TEXT_TO_IMAGE.models,
    )
    wanted = stage.add("CLIPTextEncode", title="What it shows", clip=model["CLIP"], text=positive)
    unwanted = stage.add("CLIPTextEncode", title="What it must not show", clip=model["CLIP"], text=NEGATIVE)
    return model, wanted, unwanted


def photo(
    stage: Stage, model: Node, positive: Output, negative: Output, own: Output, switch: str
) -> tuple[Output, list[Node]]:
    """Add the host's sampling of one photo, and the node that is bypassed to take `own` in its place.

    Return the chosen picture, and the nodes that make the photo.
    """
    empty = stage.add("EmptyLatentImage", title="Empty Latent Image", width=WIDTH, height=HEIGHT)
    latent = stage.add(
        "KSampler",
        title="KSampler",
        model=model["MODEL"],
        positive=positive,
        negative=negative,
        latent_image=empty["LATENT"],
        seed=23,
        steps=30,
        cfg=6.0,
        sampler_name="dpmpp_2m",
        scheduler="karras",
    )
    decoded = stage.add("VAEDecode", title="VAE Decode", samples=latent["LATENT"], vae=model["VAE"])
    chosen = stage.add(
        "ImageBlend",
        title=switch,
        without="bypass",
        image1=own,
        image2=decoded["IMAGE"],
        blend_factor=1.0,
        blend_mode="normal",
    )
    return chosen["IMAGE"], [empty, latent, decoded]


def text_to_video(graph: Graph) -> Graph:
    """Turn text into a photo and a clip."""
    graph.note(f"""
# From text to a clip

Needs two files:

{TEXT_TO_IMAGE.line}
{SVD_XT.line}

1. Describe the scene in **What it shows**.
2. Press **Run**. The photo comes first, then the clip.
3. The clip appears in **Save Video** and in the folder *output/video*.
""")
    graph.note("""
- SVD only sees the photo: the text describes what is there, not how it moves. Name things that move by themselves:
  waves, smoke, hair, a train. *motion_bucket_id* in Animate Image sets how much.
- **The photo is not right**: change the text, or *seed* of **Make the Photo**. What it must not show is inside.
  Mute Animate Image (Ctrl+M) meanwhile.
- Any other text-to-image workflow can replace this one: connect its image to *image2* of Photo or picture.
- **Photo or picture**: bypass it (Ctrl+B) to animate the sample picture without making a photo.
""")
    own = own_picture(graph.stage("1. Or a picture of yours"), "A picture instead of words")
    model, wanted, unwanted = words(
        graph.stage("2. Words"),
        "photograph of a lighthouse on a cliff, waves breaking below, drifting clouds, golden evening light, sharp",
    )
    making = graph.stage("3. Photo")
    chosen, made = photo(making, model, wanted["CONDITIONING"], unwanted["CONDITIONING"], own, "Photo or picture")
    clip_stage = graph.stage("4. Clip")
    clip_stage.add("PreviewImage", title="What is animated", images=chosen)
    svd = load_model(clip_stage, SVD_XT)
    clip = clip_stage.add("SVDReelAnimate", model=svd["SVD_MODEL"], image=chosen)
    save(graph.stage("5. Video"), graph.name, clip["IMAGE"], clip["FLOAT"])
    sampler = made[1]
    graph.fold(
        "Make the Photo",
        "ComfyUI's text-to-image. What the photo must not show is inside.",
        [unwanted, *made],
        [(sampler, name) for name in ("seed", "steps", "cfg")],
    )
    return graph


def sketch_to_4k_film(graph: Graph) -> Graph:
    """Turn a drawing into a photo, a clip and five seconds of 4K."""
    graph.note(f"""
# From a sketch to five seconds in 4K

Needs four files:

{TEXT_TO_IMAGE.line}
{CONTROLNET.line}
{SVD_XT.line}
{UPSCALER.line}

1. Connect your drawing by **Load Image** in place of the sample, and describe it in **What it shows**.
2. Press **Run** once: lines, photo, clip and video follow one another.
3. The video appears in **Finish Film** and in the folder *output/video*: 121 frames of 3840x2160 at 24 fps.
""")
    graph.note("""
- **Lines of the Drawing** finds the edges of a drawing or a photo. If your drawing has black lines on white paper, open
  it and replace **Lines** with Invert Image; the lines are then used as they are drawn.
- **The photo does not follow the lines**: raise *strength* of **Photo from the Lines**. **It looks like a drawing**:
  lower it, or lower *end_percent*.
- **Check before you wait**: mute Finish Film (Ctrl+M) until the photo is right. Unchanged parts are not computed
  again.
- **Plan Duration** makes 5 seconds at 24 fps from the 25 frames: 4 between each pair. Finish Film upscales, resizes,
  interpolates and encodes a few frames at a time, so 4K needs no more memory than a few frames.
- **Photo or sketch**: bypass it (Ctrl+B) to animate the drawing itself without making a photo.
""")
    drawing = graph.stage("1. Drawing")
    own = own_picture(drawing, "The drawing (swap for Load Image)")
    lines = drawing.add("Canny", title="Lines", image=own, low_threshold=0.1, high_threshold=0.3)
    shown = drawing.add("PreviewImage", title="The lines", images=lines["IMAGE"])
    text = graph.stage("2. Words and lines")
    model, wanted, unwanted = words(
        text,
        "photograph of a girl with yellow pigtails in a pink dress on a green meadow, blue sky, sharp, natural light",
    )
    net = text.add(
        "ControlNetLoader",
        title="Load ControlNet Model",
        control_net_name=CONTROLNET.name,
        models=CONTROLNET.models,
    )
    making = graph.stage("3. Photo")
    guided = making.add(
        "ControlNetApplyAdvanced",
        title="Apply ControlNet",
        positive=wanted["CONDITIONING"],
        negative=unwanted["CONDITIONING"],
        control_net=net["CONTROL_NET"],
        image=lines["IMAGE"],
        strength=0.8,
        end_percent=0.8,
    )
    chosen, made = photo(making, model, guided["positive"], guided["negative"], own, "Photo or sketch")
    clip_stage = graph.stage("4. Clip")
    clip_stage.add("PreviewImage", title="What is animated", images=chosen)
    svd = load_model(clip_stage, SVD_XT)
    plan = clip_stage.add("SVDReelDuration", seconds=5.0, fps=24.0, model=svd["SVD_MODEL"])
    clip = clip_stage.add("SVDReelAnimate", model=svd["SVD_MODEL"], image=chosen, frames=plan["frames"])
    film = graph.stage("5. Film")
    upscaler = film.add(
        "UpscaleModelLoader",
        title="Load Upscale Model",
        model_name=UPSCALER.name,
        models=UPSCALER.models,
        without="mute",
    )
    film.add(
        "SVDReelFinish",
        images=clip["IMAGE"],
        upscale_model=upscaler["UPSCALE_MODEL"],
        fps=plan["fps"],
        interpolate=plan["interpolate"],
        most_frames=plan["film_frames"],
        size="3840x2160 (4K)",
        fit="crop",
        filename_prefix=f"video/{graph.name}",
        small={"size": "640x360"},
    )
    fitted = next(node for node in drawing.nodes if node.title == "Cut to 16:9")
    graph.fold(
        "Lines of the Drawing",
        "Cuts the drawing to 16:9 and finds its lines. Open it to see them.",
        [fitted, lines, shown],
        [(lines, "low_threshold"), (lines, "high_threshold")],
    )
    sampler = made[1]
    graph.fold(
        "Photo from the Lines",
        "ComfyUI's text-to-image, led by the lines with a ControlNet. What the photo must not show is inside.",
        [unwanted, net, guided, *made],
        [(guided, "strength"), (guided, "end_percent"), (sampler, "seed"), (sampler, "steps"), (sampler, "cfg")],
    )
    return graph
