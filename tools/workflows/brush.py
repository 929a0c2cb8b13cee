"""Workflows of painted masks and of depth; masks are drawn by nodes, so that all run as they are."""

from typing import Any

from .graph import Graph, Node
from .pieces import EMBEDDED, FIRST_STEPS, PICTURE_SIDE, box, load, measure, sample, save

PAINT = """
- **Paint your own mask**: right-click **Load Image**, *Open in MaskEditor*, paint, save; then connect its *MASK* to
  *{target}* instead of the drawn one. You can then delete the three mask nodes.
"""


def clip(graph: Graph, number: int, model: Node, condition: Node, control: Any, mask: Any = None) -> None:
    """Add the stages from the sampler to the video and its measures."""
    make = graph.stage(f"{number}. Sample and decode")
    latent = sample(make, model, condition, control=control)
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    finish = graph.stage(f"{number + 1}. Video and measures")
    more = {} if mask is None else {"mask": mask}
    measure(finish, frames=frames["IMAGE"], **more)
    save(finish, graph.name, frames["IMAGE"], 7.0)


def motion_brush(graph: Graph) -> Graph:
    """Paint what moves; everything else stands still."""
    graph.note(f"""
# Paint what should move

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note(f"""
- White moves, black stands still, grey moves a little. Here the left part of the image moves.
{PAINT.format(target="mask").strip()}
- Still pixels match your image exactly. Switch off *keep_still* to see what the model made of them.
- **Edges look cut**: paint slightly more than the object, raise *feather*, or lower *strength* to 0.7.
- **Too little moves**: raise *motion_bucket_id* in Set Motion, or *moving_bucket*.
- **Measure Clip** reports the motion inside and outside the mask.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    mask = box(graph.stage("2. What moves", below=True), 0, 0, 380, PICTURE_SIDE)
    prepare = graph.stage("3. Motion and conditioning")
    motion = prepare.add("SVDReelMotion", motion_bucket_id=200)
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"]
    )
    steer = graph.stage("4. Control")
    brush = steer.add(
        "SVDReelMotionMask", model=model["SVD_MODEL"], image=picture["IMAGE"], mask=mask, latent=condition["LATENT"]
    )
    steer.add("MaskPreview", title="The mask as used", mask=brush["MASK"])
    clip(graph, 5, model, condition, brush["SVD_CONTROL"], mask)
    return graph


def cut_and_drag(graph: Graph) -> Graph:
    """An object cut out and dragged along a path."""
    graph.note(f"""
# Cut out an object and drag it

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note(f"""
- The mask covers the object. *path* sets where it is and where it goes, in shares of the image's width and height:
  *0.3,0.5; 0.6,0.5; 0.7,0.3*. **Preview** draws it.
{PAINT.format(target="mask").strip()}
- *scale* *1.3* makes it grow, *rotation* *10, -10* makes it sway.
- **The object stays behind**: raise *strength*; nano needs 2, SVD 1. **It looks pasted**: lower it, or paint closer
  to the object's edge.
- **The background moves too much**: raise *hold_background*. With a low motion bucket, the path decides what moves.
- **Several objects**: join their masks into a batch and write their paths with | between them.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    mask = box(graph.stage("2. The object", below=True), 250, 250, 270, 270)
    prepare = graph.stage("3. Motion and conditioning")
    motion = prepare.add("SVDReelMotion", motion_bucket_id=20)
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"]
    )
    steer = graph.stage("4. Control")
    drag = steer.add(
        "SVDReelCutAndDrag",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        mask=mask,
        latent=condition["LATENT"],
        path="0.5,0.5; 0.65,0.45; 0.75,0.55",
        easing="ease",
        strength=2.0,
    )
    steer.add("PreviewImage", title="The path", images=drag["preview"])
    steer.add("PreviewImage", title="What is imposed", images=drag["pasted"])
    clip(graph, 5, model, condition, drag["SVD_CONTROL"])
    return graph


def camera_orbit_with_depth(graph: Graph) -> Graph:
    """A camera that travels around the scene, with a depth map."""
    graph.note(f"""
# A travelling camera: orbit with depth

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note("""
- A travelling camera needs to know how far away things are. *depth* takes an image from any depth node (near is
  bright), *depth_mask* a mask. Here two nodes draw a plain: far at the top, near at the bottom.
- **Your own depth**: connect Depth Anything or MiDaS to *depth* and remove the two mask nodes. Or connect a painted
  object to *foreground* without any depth; it then stands on a plain.
- *replace estimate* follows the geometry most strictly. An orbit of 8 to 20 degrees looks natural.
- **Seams at newly visible areas**: *repeats* 3. **Wrong places in the depth map**: *keep* 0.8.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    plan = graph.stage("2. Camera and depth")
    path = plan.add("SVDReelCameraPath", image=picture["IMAGE"], path="orbit left 12 ease")
    plan.add("PreviewImage", title="The path", images=path["IMAGE"])
    near = plan.add("SolidMask", title="Near", value=1.0, width=PICTURE_SIDE, height=PICTURE_SIDE)
    depth = plan.add("FeatherMask", title="Depth: far at the top", mask=near["MASK"], top=PICTURE_SIDE)
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
        depth_mask=depth["MASK"],
    )
    steer.add("PreviewImage", title="What is imposed", images=control["IMAGE"])
    clip(graph, 5, model, condition, control["SVD_CONTROL"])
    return graph
