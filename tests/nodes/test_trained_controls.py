"""Nodes of camera weights, pose networks and video readers: what they make is what the pipelines make."""

import re

import pytest
import torch
from safetensors.torch import save_file

import svd_core as svd
from svd_core.checkpoints.backward_motion import motion_differences
from svd_core.pipelines.video_depth import VideoDepthSettings, video_depth
from tests.helpers.family_golden import read_golden
from tests.helpers.golden_rule import DATA, fill_by_rule
from tests.helpers.nodes_pack import part, run, write_tiny

MOTIONCTRL, POSES, MODEL = "motionctrl.safetensors", "pose_net.safetensors", "svd_tiny.safetensors"
BACKWARD = "backward_motion.safetensors"
FRAMES = 4


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tiny model, and adapters that fit its UNet."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny(folder / MODEL)
    motion = read_golden(DATA / "family" / "motionctrl_tiny.safetensors")
    save_file(fill_by_rule({k: v for k, v in motion.shapes.items() if "time_stack" in k}, 3), folder / MOTIONCTRL)
    mimic = read_golden(DATA / "family" / "mimic_tiny.safetensors")
    save_file(fill_by_rule({k: v for k, v in mimic.shapes.items() if "pose_net" in k}, 3), folder / POSES)
    between = read_golden(DATA / "family" / "gen_inbetween_tiny.safetensors").shapes
    unet, tuned = ({key.removeprefix(part): shape for key, shape in between.items() if key.startswith(part)}
                   for part in ("unet.", "finetuned."))  # fmt: skip
    weights = fill_by_rule(unet, 3)
    save_file(motion_differences(weights | fill_by_rule(tuned, 4), weights, "tuned"), folder / BACKWARD)
    return {name: folder / name for name in (MOTIONCTRL, POSES, MODEL, BACKWARD)}


@pytest.fixture(scope="module", autouse=True)
def listed(files):
    host, patch = part("nodes.host.comfy"), pytest.MonkeyPatch()
    patch.setattr(host, "model_files", lambda folder: list(files) if folder == "svd" else [])
    patch.setattr(host, "model_path", lambda folder, name: str(files[name]) if name in files else None)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def model(files):
    return run("SVDReelLoadModel", model_name=MODEL)[0]


@pytest.fixture(scope="module")
def condition(model):
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    return run("SVDReelCondition", model=model, image=image, width=64, height=64, frames=FRAMES)


def clip(model, condition, control=None, **more):
    positive, negative, latent = condition
    given = {"positive": positive, "negative": negative, "latent": latent, "sigmas": torch.tensor([20.0, 2.0, 0.0])}
    return run("SVDReelSampler", model=model, control=control, **given, **more)[0]["samples"]


@pytest.fixture(scope="module")
def plain(model, condition):
    return clip(model, condition)


@pytest.fixture(scope="module")
def camera_weights(model):
    return run("SVDReelLoadCameraWeights", model=model, file=MOTIONCTRL)[0]


def follow(camera_weights, condition, path="dolly in 0.2", **more):
    camera = run("SVDReelCameraPath", path=path)[0] if path else None
    return run("SVDReelCameraWeights", camera_weights=camera_weights, latent=condition[2], camera=camera, **more)[0]


def test_the_camera_changes_the_clip_and_strength_0_leaves_it_bit_equal(model, condition, plain, camera_weights):
    moved = clip(model, condition, follow(camera_weights, condition))
    assert not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(clip(model, condition, follow(camera_weights, condition, strength=0.0)), plain)
    faster = clip(model, condition, follow(camera_weights, condition, speed=3.0))
    assert not torch.allclose(moved, faster, atol=1e-4)


def test_a_pose_file_moves_the_camera_as_its_path_does(model, condition, camera_weights):
    rows = [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, -0.1 * frame] for frame in range(FRAMES + 2)]
    moved = clip(model, condition, follow(camera_weights, condition, "", poses=str(rows)))
    turned = clip(model, condition, follow(camera_weights, condition, "", poses=str(rows[::-1])))
    assert not torch.allclose(moved, turned, atol=1e-4)


@pytest.mark.parametrize(
    ("path", "poses", "words"),
    [
        ("zoom in 1.2", "", "MotionCtrl does not support zoom; use dolly in"),
        ("dolly in", "[[1]]", "exactly one of the two"),
        ("", "", "exactly one of the two"),
        ("", "[[1]]", "camera pose 1 must be 12 finite numbers"),
        ("", "[[2,0,0,0,0,1,0,0,0,0,1,0]]", "camera pose 1 is not a rotation"),
        ("", "[[1,0,0,0,0,1,0,0,0,0,1,0]]", "has 1 camera poses for 4 frames"),
    ],
)
def test_paths_and_poses_that_cannot_be_followed_are_refused(condition, camera_weights, path, poses, words):
    with pytest.raises(ValueError, match=words):
        follow(camera_weights, condition, path, poses=poses)


@pytest.mark.parametrize(("node", "words"), [("SVDReelLoadCameraWeights", "MimicMotion pose network"),
                                             ("SVDReelLoadPoseNetwork", "MotionCtrl-SVD camera weights")])  # fmt: skip
def test_a_file_of_another_kind_is_named(model, node, words):
    wrong = POSES if node == "SVDReelLoadCameraWeights" else MOTIONCTRL
    more = {"model": model} if node == "SVDReelLoadCameraWeights" else {}
    with pytest.raises(ValueError, match=rf"{re.escape(wrong)} is (a )?{words}, for Load .*; use"):
        run(node, file=wrong, **more)


def test_a_file_that_is_not_there_says_where_it_belongs(model):
    with pytest.raises(FileNotFoundError, match="models/svd"):
        run("SVDReelLoadPoseNetwork", file="none found")


@pytest.fixture(scope="module")
def poses(model, condition):
    network = run("SVDReelLoadPoseNetwork", file=POSES)[0]
    drawings = torch.rand(FRAMES, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    return {"model": model, "pose_network": network, "poses": drawings, "latent": condition[2]}


def test_poses_change_the_clip_drop_its_first_frame_and_give_the_guidance(model, condition, plain, poses):
    control, guidance = run("SVDReelPoses", **poses)
    posed = clip(model, condition, control)
    assert not torch.allclose(posed, plain, atol=1e-3)
    assert guidance.over(FRAMES, model.config).scale.tolist() == [2.0] * FRAMES
    latent = {**condition[2], "samples": posed}
    note = part("nodes.shared.clips").ClipNote(FRAMES, finish=control.finishing(1))
    frames = run("SVDReelDecode", vae=model.vae, latent={**latent, "svd_reel": note})[0]
    assert frames.shape == (FRAMES - 1, 64, 64, 3)
    whole = run("SVDReelPoses", **poses, keep_first=True)[0]
    assert not whole.finishing(1)


def test_poses_at_strength_0_leave_the_clip_bit_equal(model, condition, plain, poses):
    assert torch.equal(clip(model, condition, run("SVDReelPoses", **poses, strength=0.0)[0]), plain)


def test_drawings_that_do_not_fit_the_clip_are_refused(poses):
    with pytest.raises(ValueError, match="2 pose drawings for 4 frames; set frames .* to 2"):
        run("SVDReelPoses", **{**poses, "poses": poses["poses"][:2]})
    with pytest.raises(ValueError, match="the pose drawings are black"):
        run("SVDReelPoses", **{**poses, "poses": torch.zeros(FRAMES, 64, 64, 3)})


@pytest.mark.parametrize("kind", ["depthcrafter", "normalcrafter"])
def test_a_video_becomes_maps_of_its_size_and_the_licence_is_named(model, files, kind):
    video = torch.rand(3, 50, 70, 3, generator=torch.Generator().manual_seed(4))
    given = {"steps": 1, "window": 3, "overlap": 1, "longest_side": 64}
    maps, depth, licence = run("SVDReelVideoDepth", model=model, video=video, kind=kind, **given)
    assert maps.shape == (3, 50, 70, 3) and depth.shape == (3, 50, 70)
    same = video_depth(svd.load_model(files[MODEL]), video, VideoDepthSettings(kind, **given))
    assert torch.allclose(maps, same, atol=1e-5)
    words = {"depthcrafter": "academic, research and education", "normalcrafter": "not stated for the weights"}
    assert words[kind] in licence
    if kind == "depthcrafter":
        # Scaled over the whole video before it is brought back to the picture's size.
        assert maps.min() >= 0 and maps.max() <= 1 and torch.equal(maps[..., 0], maps[..., 1])


def test_a_model_that_makes_clips_reads_no_video(model):
    with pytest.raises(ValueError, match="reads no video; load DepthCrafter or NormalCrafter"):
        run("SVDReelVideoDepth", model=model, video=torch.rand(2, 64, 64, 3))


def test_a_fine_tuned_in_between_needs_its_weights_and_its_mode(model):
    pictures = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    weights = run("SVDReelLoadBetweenWeights", model=model, file=BACKWARD)[0]
    given = {"model": model, "image": pictures[:1], "end_image": pictures[1:], "width": 64, "height": 64, "frames": 4}
    given |= {"seed": 3, "sigmas": torch.tensor([20.0, 2.0, 0.0])}
    made = run("SVDReelInbetween", **given, mode="fine-tuned", between_weights=weights, repeats=1)[0]["samples"]
    assert made.isfinite().all()
    assert not torch.equal(made, run("SVDReelInbetween", **given, mode="blend")[0]["samples"])
    for options, words in (
        (
            {"mode": "blend", "between_weights": weights},
            "between_weights work in the mode fine-tuned only .got 'blend'",
        ),
        ({"mode": "fine-tuned"}, "needs backward motion weights"),
        ({"mode": "blend", "repeats": 2}, "repeats .2. only apply to the mode fine-tuned"),
    ):
        with pytest.raises(ValueError, match=words):
            run("SVDReelInbetween", **given, **options)
