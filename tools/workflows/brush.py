"""Workflows of painted masks and of depth; all run as they are."""

from typing import Any

from .graph import Graph
from .node import Node
from .pieces import EMBEDDED, FIRST_STEPS, fold_conditioning, fold_measures, load, measure, sample, save

PAINT = """
- **Paint your own**: choose *brush*, *erase* or *box* in the node and paint on the picture. *clear* removes what is
  there. The painting is stored in the workflow. A connected mask replaces it.
"""


# What is painted and drawn; pictures.py shows the same.
MOVES = 0.7  # share of the picture's height that moves, from the top
OBJECT, DRAG = "brush 0.085: 0.868,0.174", "0.868,0.174; 0.62,0.12; 0.5,0.17"


def clip(graph: Graph, number: int, model: Node, condition: Node, control: Any, mask: Any = None) -> tuple[Node, Node]:
    """Add the stages from the sampler to the video and its measures; return the measures."""
    make = graph.stage(f"{number}. Sample and decode")
    latent = sample(make, model, condition, control=control)
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    finish = graph.stage(f"{number + 1}. Video and measures")
    more = {} if mask is None else {"mask": mask}
    measures = measure(finish, frames=frames["IMAGE"], **more)
    save(finish, graph.name, frames["IMAGE"], 7.0)
    return measures


def motion_brush(graph: Graph) -> Graph:
    """Paint what moves; everything else stands still."""
    graph.note(f"""
# Paint what should move

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note(f"""
- White moves, black stands still, grey moves a little. Here the sky and the hills move, and the wood stands still.
{PAINT.strip()}
- Still pixels match your image exactly. Switch off *keep_still* to see what the model made of them.
- **Edges look cut**: paint slightly more than the object, raise *feather*, or lower *strength* to 0.7.
- **Too little moves**: raise *motion_bucket_id* in Set Motion, or *moving_bucket*.
- **Measure Clip** reports the motion inside and outside the mask.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    prepare = graph.stage("2. Motion and conditioning")
    motion = prepare.add("SVDReelMotion", motion_bucket_id=200)
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"]
    )
    steer = graph.stage("3. Control")
    brush = steer.add(
        "SVDReelMotionMask",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        latent=condition["LATENT"],
        painted=f"box: 0,0 1,{MOVES:g}",
    )
    steer.add("MaskPreview", title="The mask as used", mask=brush["MASK"])
    clip(graph, 4, model, condition, brush["SVD_CONTROL"], brush["MASK"])
    return graph


def cut_and_drag(graph: Graph) -> Graph:
    """An object cut out and dragged along a path."""
    graph.note(f"""
# Cut out an object and drag it

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note(f"""
- Here the sun is painted over and dragged across the sky. Drag the end of the path to send it elsewhere; the knob there
  turns and scales it. *path* in the node adds points. The node plays where it will be.
{PAINT.strip()}
- *scale* *1.3* makes it grow, *rotation* *10, -10* makes it sway.
- **The object stays behind**: raise *strength*. **It looks pasted**: lower it, or paint closer to the object's edge.
- **The background moves too much**: raise *hold_background*. Connect a **Camera Path** to *camera* to film the scene.
- **Several objects**: press + in the node, and paint the next one.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    prepare = graph.stage("2. Motion and conditioning")
    motion = prepare.add("SVDReelMotion", motion_bucket_id=20)
    condition = prepare.add(
        "SVDReelCondition",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        motion=motion["SVD_MOTION"],
        width=192,  # a square crop would lose the sun
        height=112,
    )
    steer = graph.stage("3. Control")
    drag = steer.add(
        "SVDReelCutAndDrag",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        latent=condition["LATENT"],
        objects=OBJECT,
        path=DRAG,
        easing="ease",
    )
    steer.add("PreviewImage", title="The path", images=drag["preview"])
    steer.add("PreviewImage", title="What is imposed", images=drag["pasted"])
    fold_measures(graph, clip(graph, 4, model, condition, drag["SVD_CONTROL"]))
    return graph


def camera_orbit_with_depth(graph: Graph) -> Graph:
    """A camera that travels around the scene, with a depth map."""
    graph.note(f"""
# A travelling camera: orbit with depth

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note("""
- A travelling camera needs to know how far away things are. *depth* takes an image from any depth node (near is
  bright), *depth_mask* a mask. Here the sample picture brings a simple one.
- **Your own depth**: connect Depth Anything or MiDaS to *depth*, and disconnect *depth_mask*. Or connect a painted
  object to *foreground* without any depth; it then stands on a plain.
- *replace estimate* follows the geometry most strictly. An orbit of 8 to 20 degrees looks natural.
- **Seams at newly visible areas**: *repeats* 3. **Wrong places in the depth map**: *keep* 0.8.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    plan = graph.stage("2. Camera and depth")
    path = plan.add("SVDReelCameraPath", image=picture["IMAGE"], path="orbit left 12 ease")
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
        mode="replace estimate",
        depth_mask=picture["depth"],
    )
    steer.add("PreviewImage", title="What is imposed", images=control["IMAGE"])
    measures = clip(graph, 5, model, condition, control["SVD_CONTROL"])
    fold_conditioning(graph, motion, condition)
    fold_measures(graph, measures)
    return graph


def edit_clip(graph: Graph) -> Graph:
    """Edit the first frame of a clip, and carry the edit through it."""
    graph.note(f"""
# An edit that moves with the clip

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note("""
- For your own clip, put **Load Video** and **Get Video Components** in place of the two nodes that make one.
- The edit here is a red patch. In practice, save the first frame, edit it in any program, and load it in place of
  **Composite**.
- **Edited** shows the frames that sampling starts from. *denoise* says how much of them the model redraws.
- Without an edit, *denoise* alone changes the clip.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    make = graph.stage("2. The clip to change")
    path = make.add("SVDReelCameraPath", image=picture["IMAGE"], path="pan right 0.12, zoom in 1.1")
    filmed = make.add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"])
    camera = make.add(
        "SVDReelCameraControl",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        camera=path["SVD_CAMERA"],
        latent=filmed["LATENT"],
    )
    edit = graph.stage("3. Its first frame, edited")
    first = edit.add("ImageFromBatch", image=camera["IMAGE"], batch_index=0, length=1)
    patch = edit.add("EmptyImage", width=28, height=28, batch_size=1, color=0xD03020)
    edited = edit.add(
        "ImageCompositeMasked", destination=first["IMAGE"], source=patch["IMAGE"], x=40, y=44, resize_source=False
    )
    shown = edit.add("PreviewImage", title="The edited frame", images=edited["IMAGE"])
    steer = graph.stage("4. Control")
    condition = steer.add("SVDReelCondition", model=model["SVD_MODEL"], image=edited["IMAGE"])
    control = steer.add(
        "SVDReelEditClip",
        model=model["SVD_MODEL"],
        image=edited["IMAGE"],
        clip=camera["IMAGE"],
        latent=condition["LATENT"],
    )
    steer.add("PreviewImage", title="Edited", images=control["IMAGE"])
    fold_measures(graph, clip(graph, 5, model, condition, control["SVD_CONTROL"]))
    graph.fold(
        "The Clip to Change",
        "A camera that moves over the picture. Load Video and Get Video Components can take its place.",
        [filmed, camera],
    )
    graph.fold(
        "Edit the First Frame",
        "Puts a red patch on the first frame. Open it to see the edited frame.",
        [first, patch, edited, shown],
        [(edited, "x"), (edited, "y")],
    )
    graph.fold(
        "Carry the Edit",
        "Prepares the edited frame, and carries the edit through the frames of the clip.",
        [condition, control],
        [(control, "denoise")],
    )
    return graph


def control_by_clip(graph: Graph) -> Graph:
    """Give a picture the camera of another clip."""
    graph.note(f"""
# A picture that moves like another clip

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note("""
- The first clip drives the second. For your own, put **Load Video** and **Get Video Components** in place of Animate
  Image, and connect *images* to *clip*.
- *use* **camera** takes pan, tilt, zoom and roll and suits any picture; **flow** takes the motion of every pixel;
  **animation** takes the frames themselves, with *mask* where they count.
- *amount* scales the motion. **Rough** shows what is imposed.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    drive = graph.stage("2. The driving clip")
    driving = drive.add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"], motion_bucket_id=255)
    drive.add("PreviewImage", title="The driving clip", images=driving["IMAGE"])
    prepare = graph.stage("3. Conditioning")
    condition = prepare.add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"])
    steer = graph.stage("4. Control")
    control = steer.add(
        "SVDReelControlByClip",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        clip=driving["IMAGE"],
        latent=condition["LATENT"],
        use="camera",
        amount=1.5,
    )
    steer.add("PreviewImage", title="What is imposed", images=control["IMAGE"])
    fold_measures(graph, clip(graph, 5, model, condition, control["SVD_CONTROL"]))
    return graph
