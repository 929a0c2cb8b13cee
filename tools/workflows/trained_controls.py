"""Workflows of networks trained to steer SVD: camera weights, poses, and the depth of a video."""

from .graph import Graph
from .pieces import PICTURE, SVD, SVD_XT, SVD_XT_1_1, Weights, load_model, sample, save

# Published as pickles, which `convert` turns into safetensors files of the same name.
MOTIONCTRL = Weights("motionctrl_svd.ckpt", "svd", "TencentARC/MotionCtrl/resolve/main")
CAMERACTRL = Weights("CameraCtrl_svdxt.ckpt", "svd", "hehao13/CameraCtrl_SVD_ckpts/resolve/main")
MIMICMOTION = Weights("MimicMotion-fp16.safetensors", "checkpoints", "Kijai/MimicMotion_pruned/resolve/main")
DEPTHCRAFTER = Weights("diffusion_pytorch_model.safetensors", "checkpoints", "tencent/DepthCrafter/resolve/main")
STABILITY = "the licence of Stable Video Diffusion, which limits commercial use"


def _camera(graph: Graph, base: Weights, weights: Weights, path: str, size: dict[str, int], words: str) -> Graph:
    """A clip whose camera follows weights that were trained for it."""
    graph.note(words)
    start = graph.stage("1. Picture and model")
    picture = start.add("LoadImage", title="Load Image (your picture)", image=PICTURE)
    model = load_model(start, base)
    plan = graph.stage("2. Camera")
    camera = plan.add("SVDReelCameraPath", image=picture["IMAGE"], path=path)
    plan.add("PreviewImage", title="The path", images=camera["IMAGE"])
    loaded = plan.add(
        "SVDReelLoadCameraWeights",
        without="mute",
        model=model["SVD_MODEL"],
        file=weights.name.replace(".ckpt", ".safetensors"),
        models=weights.models,
    )
    ready = graph.stage("3. Conditioning and control")
    condition = ready.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], small=dict.fromkeys(size, 0), **size
    )
    control = ready.add(
        "SVDReelCameraWeights",
        without="mute",
        camera_weights=loaded["SVD_CAMERA_WEIGHTS"],
        latent=condition["LATENT"],
        camera=camera["SVD_CAMERA"],
    )
    make = graph.stage("4. Sample and decode")
    latent = sample(make, model, condition, control=control["SVD_CONTROL"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("5. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph


def motionctrl_camera(graph: Graph) -> Graph:
    """A dolly made by MotionCtrl."""
    return _camera(
        graph,
        SVD,
        MOTIONCTRL,
        "dolly in 0.2",
        {},
        f"""
# MotionCtrl moves the camera

Needs two files:

{SVD.line}
{MOTIONCTRL.line}. Convert it there once:
  *python -m svd_core convert motionctrl_svd.ckpt motionctrl_svd.safetensors --dtype fp16*

Licence: Apache-2.0 for MotionCtrl, and {STABILITY}.

1. Choose your image in **Load Image**, and the path in **Camera Path**.
2. Press **Run**.

- Little motion: raise *speed* in Follow Camera with Weights to 2 or 3. The picture breaks: lower it.
- MotionCtrl takes no zoom; use dolly, truck, pedestal, pan, tilt, roll or orbit.
- Paste one of MotionCtrl's JSON files into *poses*, and disconnect *camera*, to use its paths.
""",
    )


def cameractrl_camera(graph: Graph) -> Graph:
    """A pan with a zoom made by CameraCtrl."""
    return _camera(
        graph,
        SVD_XT,
        CAMERACTRL,
        "pan right 0.15, zoom in 1.2",
        {"width": 576, "height": 320},
        f"""
# CameraCtrl moves the camera

Needs two files:

{SVD_XT.line}
{CAMERACTRL.line}. Convert it there once:
  *python -m svd_core convert CameraCtrl_svdxt.ckpt CameraCtrl_svdxt.safetensors --dtype fp16*

Licence: Apache-2.0 for CameraCtrl, and {STABILITY}.

1. Choose your image in **Load Image**, and the path in **Camera Path**.
2. Press **Run**. CameraCtrl was trained at 576x320; upscale the clip afterwards.

- It takes a zoom, unlike MotionCtrl, and up to 25 frames.
- Paste a RealEstate10K file into *poses*, and disconnect *camera*, to follow a real camera.
""",
    )


def character_dance(graph: Graph) -> Graph:
    """A person who follows pose drawings, with MimicMotion."""
    graph.note(f"""
# Poses drive a person, with MimicMotion

Needs two files, and a folder of pose drawings:

{MIMICMOTION.line}
{SVD_XT_1_1.line}

Licence: Apache-2.0 for MimicMotion, whose UNet was fine-tuned from SVD-XT 1.1: {STABILITY}.

1. Choose the picture of a person in **Load Image**.
2. Connect the drawings of a pose detector, such as DWPose, to *poses* of **Follow Poses**: the pose of your picture
   first, then one drawing per frame. Here a second Load Image stands for them.
3. Set *frames* of **Prepare Image for SVD** to the number of drawings, and press **Run**.
""")
    graph.note("""
- The first frame shows the picture's own pose and is dropped.
- The clip was trained upright at 576x1024, to be shown at 15 frames per second.
- **MimicMotion 1.1**: *window* 72, *overlap* 4. **ControlNeXt**: choose its UNet and its network, and
  *augmentation_level* 0.02.
- The guidance is constant, as *guidance* of Follow Poses gives it.
""")
    start = graph.stage("1. Picture and model")
    picture = start.add("LoadImage", title="Load Image (a person)", image=PICTURE)
    model = start.add(
        "SVDReelLoadModel", model_name=MIMICMOTION.name, complete_from=SVD_XT_1_1.name,
        models=[*MIMICMOTION.models, *SVD_XT_1_1.models], without="mute",
    )  # fmt: skip
    poses = graph.stage("2. Poses")
    drawings = poses.add("LoadImage", title="Pose drawings (connect a pose detector)", image=PICTURE)
    poses.add("PreviewImage", title="The poses", images=drawings["IMAGE"])
    network = poses.add("SVDReelLoadPoseNetwork", without="mute", file=MIMICMOTION.name, models=MIMICMOTION.models)
    ready = graph.stage("3. Conditioning and control")
    motion = ready.add("SVDReelMotion", augmentation_level=0.0)
    condition = ready.add(
        "SVDReelCondition", without="mute", model=model["SVD_MODEL"], image=picture["IMAGE"],
        motion=motion["SVD_MOTION"], width=576, height=1024, frames=1,
    )  # fmt: skip
    control = ready.add(
        "SVDReelPoses", without="mute", model=model["SVD_MODEL"], pose_network=network["SVD_POSE_NETWORK"],
        poses=drawings["IMAGE"], latent=condition["LATENT"],
    )  # fmt: skip
    make = graph.stage("4. Sample and decode")
    latent = make.add(
        "SVDReelSampler", without="mute", model=model["SVD_MODEL"], positive=condition["positive"],
        negative=condition["negative"], latent=condition["LATENT"], control=control["SVD_CONTROL"],
        guidance=control["SVD_GUIDANCE"],
    )  # fmt: skip
    frames = make.add("SVDReelDecode", without="mute", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("5. Video"), graph.name, frames["IMAGE"], 15.0, without="mute")
    return graph


DEPTH_FILES = f"""
Needs two files:

{DEPTHCRAFTER.line}
{SVD_XT.line}

The name of the first file says nothing, so *kind* of Video to Depth or Normals is set to depthcrafter.

Licence: DepthCrafter is for academic, research and education purposes only, **not commercial**.
"""


def _load_depth(graph: Graph, what: str) -> tuple:
    start = graph.stage(f"1. {what} and depth model")
    picture = start.add("LoadImage", title=f"Load Image (your {what.lower()})", image=PICTURE)
    reader = start.add(
        "SVDReelLoadModel", title="Load SVD Model (DepthCrafter)", model_name=DEPTHCRAFTER.name,
        complete_from=SVD_XT.name, models=[*DEPTHCRAFTER.models, *SVD_XT.models], without="mute",
    )  # fmt: skip
    return picture, reader


def video_depth(graph: Graph) -> Graph:
    """Steady depth of a video, with DepthCrafter."""
    graph.note(f"""
# Steady depth of a video, with DepthCrafter
{DEPTH_FILES}
1. Connect your video to *video* of **Video to Depth or Normals**: ComfyUI's *Load Video* and *Get Video Components*,
   or any node that gives frames. Load Image stands for it here.
2. Press **Run**. Near is bright.
""")
    graph.note("""
- Videos of any length run in windows of 110 frames. Memory is short: *window* 25, *longest_side* 640.
- *maps* fits the depth inputs of Control Camera and depth ControlNets.
- **Normals**: load NormalCrafter instead; one evaluation per window.
- *licence* holds what the licence allows.
""")
    picture, reader = _load_depth(graph, "Video")
    read = graph.stage("2. Depth")
    depth = read.add(
        "SVDReelVideoDepth", without="mute", model=reader["SVD_MODEL"], video=picture["IMAGE"], kind="depthcrafter"
    )
    read.add("PreviewImage", title="The video", images=picture["IMAGE"])
    read.add("MaskPreview", title="The depth as a mask", without="mute", mask=depth["depth"])
    save(graph.stage("3. Video"), graph.name, depth["maps"], 7.0, without="mute")
    return graph


def orbit_from_video_depth(graph: Graph) -> Graph:
    """A camera that travels around a picture, by depth that was read from it."""
    graph.note(f"""
# An orbit by depth that was read from the picture
{DEPTH_FILES}
1. Choose your image in **Load Image** and press **Run**.
2. **Video to Depth or Normals** reads the depth, **Condition and Control the Camera** moves the camera by
   it.
""")
    graph.note("""
- The clip itself is made by SVD-XT, which is also the file that completes DepthCrafter.
- Try *dolly in 0.2* or *truck right 0.15*: moves that travel need depth.
- *far_to_near* sets how deep the scene is.
""")
    picture, reader = _load_depth(graph, "Picture")
    model = load_model(graph.stage("2. Model of the clip"), SVD_XT)
    read = graph.stage("3. Depth and camera")
    depth = read.add(
        "SVDReelVideoDepth", without="mute", model=reader["SVD_MODEL"], video=picture["IMAGE"], kind="depthcrafter"
    )
    path = read.add("SVDReelCameraPath", image=picture["IMAGE"], path="orbit left 12 ease")
    read.add("PreviewImage", title="The path", images=path["IMAGE"])
    ready = graph.stage("4. Conditioning and control")
    motion = ready.add("SVDReelMotion", motion_bucket_id=20)
    condition = ready.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"]
    )
    control = ready.add(
        "SVDReelCameraControl", model=model["SVD_MODEL"], image=picture["IMAGE"], camera=path["SVD_CAMERA"],
        latent=condition["LATENT"], mode="replace estimate", depth=depth["maps"],
    )  # fmt: skip
    ready.add("PreviewImage", title="What is imposed", images=control["IMAGE"])
    make = graph.stage("5. Sample and decode")
    latent = sample(make, model, condition, control=control["SVD_CONTROL"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("6. Video"), graph.name, frames["IMAGE"], 7.0)
    graph.fold(
        "Condition and Control the Camera",
        "Prepares the image for the model, and leads the clip along the camera path by the depth.",
        [motion, condition, control],
        [
            (motion, "motion_bucket_id"),
            *((condition, name) for name in ("width", "height", "frames")),
            *((control, name) for name in ("mode", "strength", "far_to_near")),
        ],
    )
    return graph
