"""Camera paths and pose files as camera weights take them."""

import math

import pytest
import torch

from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.pose_files import cropped_intrinsics, parse_poses
from svd_core.controls.camera.weights import (
    CameraCtrlAdapter,
    LoadedCameraWeights,
    MotionCtrlAdapter,
    camera_rays,
    camera_to_world,
    camera_weights_adapter,
    relative_rows,
    rows_of,
)
from svd_core.networks.cameractrl import CameraCtrl
from svd_core.networks.config import UNetConfig
from svd_core.networks.motionctrl import MotionCtrl
from svd_core.networks.unet import transformer_places

STILL = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
SMALL = transformer_places(UNetConfig(model_channels=32, head_channels=16))


def motionctrl() -> LoadedCameraWeights:
    widths = {at.place: at.channels for at in SMALL}
    return LoadedCameraWeights(MotionCtrl(widths, 16, 64, device="meta"), "motionctrl", "motionctrl")


def cameractrl(frames: int = 25) -> LoadedCameraWeights:
    widths, levels = {at.place: at.channels for at in SMALL}, {at.place: at.level for at in SMALL}
    return LoadedCameraWeights(CameraCtrl(widths, levels, frames, device="meta"), "cameractrl", "cameractrl")


def last(adapter: MotionCtrlAdapter) -> torch.Tensor:
    """The last pose [3, 4] relative to the first."""
    return relative_rows(adapter.poses)[-1].reshape(3, 4)


@pytest.mark.parametrize(
    ("path", "axis", "sign", "factor"),
    [("dolly in", 2, -1, 4), ("dolly out", 2, 1, 4), ("truck right", 0, -1, 3), ("pedestal up", 1, 1, 1)],
)
def test_usual_moves_are_as_long_as_the_basic_moves_of_motionctrls_demo(path, axis, sign, factor):
    adapter = camera_weights_adapter(motionctrl(), parse_path(path), 14, 1024, 576)
    moved = last(adapter)[:, 3]
    assert moved[axis] == pytest.approx(sign * factor * 1.5, rel=1e-4)
    assert torch.count_nonzero(moved.abs() > 1e-5) == 1
    faster = camera_weights_adapter(motionctrl(), parse_path(path), 14, 1024, 576, speed=2.0)
    assert torch.allclose(last(faster)[:, 3], 2 * moved)


def test_a_pan_turns_the_camera_and_moves_it_nowhere():
    pose = last(camera_weights_adapter(motionctrl(), parse_path("pan right 0.2"), 14, 1024, 576))
    assert pose[:, 3].abs().max() < 1e-6 and pose[0, 2].abs() > 0.1


def test_a_window_and_a_reversed_clip_are_relative_to_their_own_first_frame():
    adapter = camera_weights_adapter(motionctrl(), parse_path("dolly in, pan right 0.1"), 9, 512, 320)
    for index in (torch.arange(4, 9), torch.arange(8, -1, -1)):
        rows = relative_rows(adapter.with_parts(lambda part, i=index: part[i]).poses)
        assert torch.allclose(rows[0], torch.tensor(STILL), atol=1e-6)
        matrix, start = rows[-1].reshape(3, 4), adapter.poses[index[0]].reshape(3, 4)
        end = torch.cat([matrix[:, :3] @ start[:, :3], (matrix[:, :3] @ start[:, 3] + matrix[:, 3])[:, None]], dim=1)
        assert torch.allclose(end, adapter.poses[index[-1]].reshape(3, 4), atol=1e-5)


def test_a_zoom_reaches_cameractrl_and_is_refused_by_motionctrl():
    with pytest.raises(ValueError, match="not support zoom; use dolly in or dolly out, or CameraCtrl"):
        camera_weights_adapter(motionctrl(), parse_path("zoom in 1.5"), 14, 576, 320)
    adapter = camera_weights_adapter(cameractrl(), parse_path("zoom in 1.5"), 5, 576, 320)
    assert adapter.cameras[-1, 0] / adapter.cameras[0, 0] == pytest.approx(1.5, rel=1e-4)
    first, zoomed = adapter.rays(64, 64)[0, 3:], adapter.rays(64, 64)[-1, 3:]
    assert first[0, 0, -1] > zoomed[0, 0, -1] > 0, "a longer lens sees less to the right"


def test_rays_have_length_1_and_look_forward_from_the_camera():
    rows = rows_of(parse_path("truck right 0.2").poses(3), 64, 32)
    rays = camera_rays(camera_to_world(rows.poses), rows.intrinsics, 64, 32)
    moment, direction = rays[:, :3], rays[:, 3:]
    assert torch.allclose(direction.norm(dim=1), torch.ones(3, 32, 64), atol=1e-6)
    assert torch.allclose((moment * direction).sum(1), torch.zeros(3, 32, 64), atol=1e-6)
    assert moment[0].abs().max() == 0 and bool((direction[:, 2] > 0).all())
    centre = direction[0, :, 15:17, 31:33].mean((1, 2))
    assert torch.allclose(centre, torch.tensor([0.0, 0, 1]), atol=1e-3)


def test_json_and_realestate_texts_give_the_same_poses():
    moved = [*STILL[:11], -0.5]
    listed = parse_poses(str([STILL, moved]))
    lines = ["title", *(f"0 0.5 0.9 0.5 0.5 0 0 {' '.join(map(str, row))}" for row in (STILL, moved))]
    read = parse_poses("\n".join(lines))
    assert torch.equal(listed.poses, read.poses) and read.intrinsics[0].tolist() == pytest.approx([0.5, 0.9, 0.5, 0.5])
    assert listed.intrinsics[0, 1] / listed.intrinsics[0, 0] == pytest.approx(1280 / 720)


def test_intrinsics_follow_the_crop():
    rows = parse_poses(str([STILL]))
    square, wide = cropped_intrinsics(rows, 320, 320), cropped_intrinsics(rows, 640, 320)
    assert (
        square.intrinsics[0, 0] == pytest.approx(0.5 * 1280 / 720) and square.intrinsics[0, 1] == rows.intrinsics[0, 1]
    )
    assert wide.intrinsics[0, 0] == 0.5 and wide.intrinsics[0, 1] == pytest.approx(1.0)


def test_the_middle_of_a_longer_list_is_used():
    rows = [[*STILL[:11], float(number)] for number in range(16)]
    adapter = camera_weights_adapter(motionctrl(), parse_poses(str(rows)), 14, 512, 320)
    assert adapter.poses[0, 11] == pytest.approx(4 * 1) and adapter.poses[-1, 11] == pytest.approx(4 * 14)
    assert relative_rows(adapter.poses)[-1, 11] == pytest.approx(4 * 13)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not JSON"),
        ("[1, 2]", "a list with 12 numbers per frame"),
        ("[]", "there are 0 camera poses"),
        ("[[1]]", "camera pose 1 must be 12 finite numbers"),
        (str([[*STILL[:11], 1e999]]).replace("inf", "1e999"), "not JSON|12 finite numbers"),
        (str([[2, *STILL[1:]]]), "camera pose 1 is not a rotation"),
        ("title\n0 0.5 0.9", "camera pose 2 must be 19 finite numbers"),
        (f"title\n0 0 0.9 0.5 0.5 0 0 {' '.join(map(str, STILL))}", "focal lengths .* above 0"),
        ("[" + " " * 1_000_001, "1,000,002 characters; at most 1,000,000"),
    ],
)
def test_text_that_is_no_camera_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_poses(text)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"speed": math.inf}, "speed of the camera must be 0 to 100"),
        ({"strength": -1.0}, "strength must be 0 or above"),
    ],
)
def test_numbers_out_of_range_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        camera_weights_adapter(motionctrl(), parse_path("dolly in"), 14, 512, 320, **given)


def test_cameractrl_takes_as_many_frames_as_its_file():
    with pytest.raises(ValueError, match="up to 14 frames .got 25.*CameraCtrl_svdxt"):
        camera_weights_adapter(cameractrl(14), parse_path("pan right"), 25, 576, 320)
    adapter = camera_weights_adapter(cameractrl(14), parse_path("pan right"), 14, 576, 320)
    assert isinstance(adapter, CameraCtrlAdapter) and adapter.rows == 14
