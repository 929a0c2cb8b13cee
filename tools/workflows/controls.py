"""Workflows of the controls, all with the embedded model."""

from .graph import Graph
from .pieces import EMBEDDED, FIRST_STEPS, fold_conditioning, fold_measures, load, measure, sample, save


def camera_pan_and_zoom(graph: Graph) -> Graph:
    """A camera path imposed on a clip of the embedded model."""
    graph.note(f"""
# A camera that goes where you want

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note("""
- **Camera Path** draws the path. Write it in words, or clear *path* and choose a *move*. The content moves opposite
  to the camera.
- **Control Camera** warps the image along the path and shows what is imposed. If the clip looks like a sliding
  photograph, lower its *strength* to 0.7.
- Its *motion_bucket_id* of 10 lets the path decide what moves.
- For dolly, truck and orbit, connect a depth map to *depth* and try the mode *replace estimate*.
- **Measure Clip** shows how far the clip followed the path.
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
    )
    steer.add("PreviewImage", title="What is imposed", images=control["IMAGE"])
    make = graph.stage("5. Sample and decode")
    latent = sample(make, model, condition, control=control["SVD_CONTROL"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    finish = graph.stage("6. Video and measures")
    measures = measure(finish, frames=frames["IMAGE"], image=picture["IMAGE"])
    save(finish, graph.name, frames["IMAGE"], 7.0)
    fold_conditioning(graph, motion, condition)
    fold_measures(graph, measures)
    return graph


def steadier_clip(graph: Graph) -> Graph:
    """Motion by a curve, and everything that keeps a clip steady."""
    graph.note(f"""
# A clip that moves when you want, and stays steady

{EMBEDDED}
{FIRST_STEPS}""")
    graph.note("""
- **Control Amount of Motion** gives every frame its own motion bucket: here the clip starts gently and settles again.
  The preset *lively* moves more, *calm* moves less.
- **Keep Clip Steady** prevents guidance from burning colours, holds the first frame at your image, and keeps the
  colours of later frames at the first. To switch a part off, set it to its neutral value (0, or 1 for
  *keep_parallel*).
- **Match Clip Colours** corrects the finished frames; *strength* 0 leaves them unchanged.
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
    latent = sample(make, model, condition, guidance=guidance["SVD_GUIDANCE"], control=steady["SVD_CONTROL"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    finish = graph.stage("5. Colours, measures, video")
    matched = finish.add("SVDReelColorMatch", frames=frames["IMAGE"])
    measures = measure(finish, frames=matched["IMAGE"], image=picture["IMAGE"])
    save(finish, graph.name, matched["IMAGE"], 7.0)
    fold_measures(graph, measures)
    return graph
