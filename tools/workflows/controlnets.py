"""Workflows of SVD ControlNets: a clip that follows depth maps or line drawings, and one for the embedded model."""

from typing import Any

from .graph import Graph, Stage
from .node import Node, Output
from .pieces import EMBEDDED, FIRST_STEPS, HUB, SVD, fold_conditioning, load, sample, sample_picture, save

DEPTH = ("svd_depth.safetensors", "CiaraRowles/temporal-controlnet-depth-svd-v1")
LINES = ("svd_lineart.safetensors", "CiaraRowles/temporal-controlnet-lineart-svd-v1")
NANO = "nano line art (embedded)"
FILE = "controlnet/diffusion_pytorch_model.safetensors"


def source(control: tuple[str, str]) -> str:
    """Return the lines of a note about the ControlNet's file."""
    name, repository = control
    address = f"{HUB}/{repository}/resolve/main/{FILE}"
    return (
        f"- [{FILE}]({address}) of {repository.split('/')[1]} goes into *models/controlnet*, renamed to *{name}*\n\n"
        "Licence: the ControlNet was trained on SVD, so SVD's research licence applies to both."
    )


def models_of(control: tuple[str, str]) -> list[dict[str, str]]:
    """Return what the interface's missing-model dialog reads."""
    name, repository = control
    url = f"{HUB}/{repository}/resolve/main/{FILE}"
    return [{"name": FILE.split("/")[1], "url": url, "directory": "controlnet"}]


def controlled(graph: Graph, control: tuple[str, str], model: Node, picture: Node, images: Output, number: int) -> None:
    """Add the stages from the conditioning to the video. Without the files, the embedded line art serves lines."""
    off, bypassed = ({"without": "mute"}, {"without": "bypass"}) if control is DEPTH else ({}, {})
    small = {} if control is DEPTH else {"small": {"control_net_name": NANO}}
    prepare = graph.stage(f"{number}. Motion and conditioning")
    motion = prepare.add("SVDReelMotion", motion_bucket_id=40)
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"],
        width=512, height=512, small={"width": 128, "height": 128},
    )  # fmt: skip
    steer = graph.stage(f"{number + 1}. Control")
    network = steer.add(
        "SVDReelLoadControlNet", **off, **small, control_net_name=control[0], models=models_of(control)
    )  # fmt: skip
    follow = steer.add(
        "SVDReelControlNet",
        **bypassed,
        model=model["SVD_MODEL"],
        control_net=network["SVD_CONTROLNET"],
        images=images,
        latent=condition["LATENT"],
    )
    make = graph.stage(f"{number + 2}. Sample and decode")
    latent = sample(make, model, condition, control=follow["SVD_CONTROL"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage(f"{number + 3}. Video"), graph.name, frames["IMAGE"], 7.0)
    fold_conditioning(graph, motion, condition)


def show(stage: Stage, images: Any) -> None:
    """Add a preview of the control pictures."""
    stage.add("PreviewImage", title="Control pictures", images=images)


def depth_controlnet(graph: Graph) -> Graph:
    """A clip that keeps to depth maps."""
    graph.note(f"""
# A clip that follows depth maps

Needs two files:

{SVD.line}
{source(DEPTH)}

1. Swap the sample picture for your own with **Load Image**.
2. Connect depth maps to *images* of **Control by ControlNet**, one per frame, near is bright: from a depth node on a
   video, or rendered. Here the sample
   picture brings one, which serves all frames.
3. Press **Run**.
""")
    graph.note("""
- **The clip ignores the depth**: the first depth map must belong to your image; raise *strength* to 1.2.
- **It looks stiff**: *end* 0.6 leaves the details to the model.
- One object in the middle and calm motion follow best: the ControlNet was trained so, at 512x512.
- Line drawings instead: the workflow *lineart_controlnet*.
""")
    picture, model = load(graph.stage("1. Picture and model"), SVD)
    plan = graph.stage("2. Depth")
    maps = plan.add("MaskToImage", title="Depth maps (yours here)", mask=picture["depth"])
    show(plan, maps["IMAGE"])
    controlled(graph, DEPTH, model, picture, maps["IMAGE"], 3)
    return graph


def lineart_controlnet(graph: Graph) -> Graph:
    """A clip that keeps to line drawings."""
    graph.note(f"""
# A clip that follows line drawings

Needs two files:

{SVD.line}
{source(LINES)}

1. Swap the first sample picture for your first frame, and **Frames to follow** for the frames of a video whose lines
   the clip should follow.
2. Press **Run**. **Draw Lines of Frames** needs no model; line-art nodes of other packs work as well.
""")
    graph.note("""
- With a single picture, the clip holds its layout. With the frames of a video, it takes over their motion.
- **Too many lines**: *detail* 0.5. **Soft pictures**: *detail* 2.
- **Follow the motion, invent the details**: *end* 0.6.
- **Another look, the same motion**: make the first frame from the video's first frame with an image model.
""")
    start = graph.stage("1. Picture and model")
    picture, model = load(start, SVD)
    draw = graph.stage("2. Lines")
    driving = sample_picture(draw, "Frames to follow (swap in yours)")
    lines = draw.add("SVDReelLineArt", images=driving["IMAGE"])
    show(draw, lines["lines"])
    controlled(graph, LINES, model, picture, lines["lines"], 3)
    return graph


def nano_controlnet(graph: Graph) -> Graph:
    """A ControlNet on any computer: the embedded model follows the lines of a moving camera."""
    graph.note(f"""
# A ControlNet without a download

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note("""
- **Control Camera** makes rough frames of a camera that moves, **Draw Lines of Frames** turns them into line drawings,
  and the clip follows these: only the lines say where the camera goes. Change the *path*, and the clip follows it.
- Draw your own lines, white on black, one picture per frame: connect them to *images* of **Control by ControlNet**.
- *end* 0.6 lets the lines decide the motion and leaves the details to the model. *strength* 0 switches them off.
- **Real results**: the workflow *lineart_controlnet* does the same with SVD and the published ControlNet.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    prepare = graph.stage("2. Motion and conditioning")
    motion = prepare.add("SVDReelMotion", motion_bucket_id=40)
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"]
    )
    plan = graph.stage("3. Lines of a camera")
    path = plan.add("SVDReelCameraPath", image=picture["IMAGE"], path="pan left 0.12")
    warped = plan.add(
        "SVDReelCameraControl", title="Control Camera (for its rough frames)",
        model=model["SVD_MODEL"], image=picture["IMAGE"], camera=path["SVD_CAMERA"], latent=condition["LATENT"],
    )  # fmt: skip
    lines = plan.add("SVDReelLineArt", images=warped["warped"])
    show(plan, lines["lines"])
    steer = graph.stage("4. Control")
    network = steer.add("SVDReelLoadControlNet", control_net_name=NANO)
    follow = steer.add(
        "SVDReelControlNet", model=model["SVD_MODEL"], control_net=network["SVD_CONTROLNET"], images=lines["lines"],
        latent=condition["LATENT"], end=0.6,
    )  # fmt: skip
    make = graph.stage("5. Sample and decode")
    latent = sample(make, model, condition, control=follow["SVD_CONTROL"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("6. Video"), graph.name, frames["IMAGE"], 7.0)
    fold_conditioning(graph, motion, condition)
    graph.fold(
        "Lines of a Camera Move",
        "Moves a camera over the picture and draws the lines of every frame.",
        [warped, lines],
        [(lines, "detail")],
    )
    return graph
