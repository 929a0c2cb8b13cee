"""The shared motion of a clip as a camera track, compared with the requested path."""

import json

import pytest
import torch

from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.warping import warp
from svd_core.report import CameraTrack, ClipReport, measure, plot
from tests.helpers.report_clips import moving, texture

PICTURE = torch.nn.functional.interpolate(texture(), (192, 288), mode="area") * 2 - 1
FRAMES = 9


def filmed(path: str, frames: int = FRAMES) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a clip [T, 96, 144, 3] of a camera over a picture, and the requested track."""
    poses = parse_path(path).poses(frames)
    # The picture is larger than the frame, so that no hole is seen.
    large = warp(PICTURE, parse_path(path).poses(frames)).frames
    small = large[:, :, 24:168, 36:252]
    small = torch.nn.functional.interpolate(small, (96, 144), mode="bilinear", antialias=True)
    views = poses.views(288, 192).clone()
    views[:, :2] *= 288 / 216  # the frame is 216 of 288 pixels wide
    return (small.movedim(1, -1) + 1) / 2, views


PATHS = [
    ("pan right 0.1", (13.3, 0, 1.0, 0)),
    ("pan left 0.08, tilt up 0.06", (-10.7, 8.0, 1.0, 0)),
    ("zoom in 1.3", (0, 0, 1.3, 0)),
    ("zoom out 1.2", (0, 0, 1 / 1.2, 0)),
    ("roll cw 20", (0, 0, 1.0, 20)),
    ("zoom in 1.3 then pan right 0.1", (13.3, 0, 1.3, 0)),
    ("pan right 0.1 then tilt up 0.08", (13.3, 10.7, 1.0, 0)),
    ("roll cw 15 then pan right 0.08", (10.7, 0, 1.0, 15)),
    ("zoom in 1.2 then pan left 0.1 then roll ccw 10", (-13.3, 0, 1.2, -10)),
    ("pan right 0.12 ease then pan left 0.12 ease", (0, 0, 1.0, 0)),
]


@pytest.mark.parametrize(("path", "end"), PATHS, ids=[path for path, _ in PATHS])
def test_moves_one_after_the_other_sum_up_over_the_clip(path: str, end: tuple) -> None:
    clip, views = filmed(path)
    report = measure(clip, asked=views)
    track = report.camera
    right, up, zoom, roll = end
    # A fifth of a per cent of the width is 0.3 pixels over eight steps.
    assert (track.right[-1], track.up[-1]) == pytest.approx((right, up), abs=0.2)
    assert (track.zoom[-1], track.roll[-1]) == pytest.approx((zoom, roll), abs=0.3)
    asked = report.asked
    assert max(abs(a - b) for a, b in zip(track.right + track.up, asked.right + asked.up, strict=True)) < 0.3
    for name, share in report.followed.items():
        assert share is None or share == pytest.approx(1, abs=0.03), (name, share)
    if path.endswith("pan left 0.12 ease"):
        assert report.followed["right"] is not None, "a move that returns is a move"


def test_the_view_of_a_path_is_what_the_middle_of_the_frame_shows() -> None:
    views = parse_path("through 0 0; 0.1 0; 0.2 0.05 1.2 10").poses(5).views(160, 96)
    assert views[0].tolist() == pytest.approx([0, 0, 1, 0], abs=1e-9)
    assert views[2, :2].tolist() == pytest.approx([0.1, 0])
    assert views[4, :2].tolist() == pytest.approx([0.2, -0.051], abs=1e-3)
    # Zoom and roll are those of fitted similarities, which perspective changes a little.
    assert views[2, 2:].tolist() == pytest.approx([1.0, 0], abs=0.02)
    assert views[4, 2:].tolist() == pytest.approx([1.2, 10], abs=0.1)
    assert parse_path("dolly in 0.2").poses(2).views(160, 96)[-1].tolist() == pytest.approx([0, 0, 1.25, 0])


def test_half_a_move_is_followed_by_half_and_other_moves_are_not_told() -> None:
    clip, views = filmed("pan right 0.05")
    double = views.clone()
    double[:, 0] *= 2
    report = measure(clip, asked=double)
    assert report.followed["right"] == pytest.approx(0.5, abs=0.03)
    assert {name for name, share in report.followed.items() if share is None} == {"up", "zoom", "roll"}
    assert report.summary()["followed_right"] == report.followed["right"]
    assert report.summary()["followed_zoom"] is None
    text = report.text()
    assert "followed" in text and "right 50 %" in text.replace("49", "50").replace("51", "50")
    assert measure(clip).followed == {} and "followed" not in measure(clip).text()


def test_a_path_of_the_first_frames_is_compared_with_those() -> None:
    clip, views = filmed("pan right 0.1")
    longer = torch.cat([clip, clip[-1:].repeat(4, 1, 1, 1)])
    assert measure(longer, asked=views).followed["right"] == pytest.approx(1, abs=0.03)


def test_a_cut_adds_nothing_to_the_track() -> None:
    parts = [moving(96, 96, pan=(-1.5, 0.0), frames=6, seed=seed) for seed in (1, 2)]
    track = measure(torch.cat(parts)).camera
    assert track.right[5] == pytest.approx(track.right[6], abs=1.5)
    assert track.right[-1] == pytest.approx(100 * 15 / 96, abs=1.5)


def test_a_single_frame_stands_still() -> None:
    report = measure(moving(32, 32, frames=1))
    assert report.camera == CameraTrack((0.0,), (0.0,), (1.0,), (0.0,))
    assert report.summary()["camera_zoom"] == 1


def test_json_and_page_hold_the_track() -> None:
    clip, views = filmed("pan right 0.05", frames=3)
    report = measure(clip, asked=views)
    read = json.loads(report.to_json())
    assert read["camera"]["right"] == pytest.approx(report.camera.right, rel=1e-4)
    assert read["asked"]["right"] == pytest.approx(report.asked.right, rel=1e-4)
    assert not torch.equal(plot(report), plot(measure(clip)))


def plain_report(**changes: tuple) -> ClipReport:
    """A report of four frames of 100x50 in which nothing moves, but for `changes`."""
    still = {name: (0.0,) * 3 for name in ("pan_x", "pan_y", "roll", "motion", "fast_motion", "flicker", "step")}
    values = still | {"zoom": (1.0,) * 3, "rigid": (1.0,) * 3, "motion_inside": None, "motion_outside": None}
    values |= {"loop_step": 0.0, "colour": (0.0,) * 4, "contrast": (1.0,) * 4, "sharpness": (1.0,) * 4}
    return ClipReport(frames=4, width=100, height=50, **values | changes)


FLASH = (0.2, 9.0, 0.2)


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"pan_x": (-3.0, -2.0, 0.0)}, (5, 0, 1, 0)),
        ({"pan_y": (3.0, 1.0, 0.0)}, (0, 4, 1, 0)),
        ({"zoom": (2.0, 1.0, 1.0), "pan_x": (0.0, -10.0, 0.0)}, (5, 0, 2, 0)),
        ({"zoom": (1.0, 2.0, 1.0), "pan_x": (-10.0, 0.0, 0.0)}, (10, 0, 2, 0)),
        ({"roll": (-90.0, 0.0, 0.0), "pan_x": (0.0, -10.0, 0.0)}, (0, -10, 1, 90)),
        ({"roll": (170.0, 170.0, 0.0)}, (0, 0, 1, -340)),
        # The second pair is a cut if little of the picture shares its motion and it flickers more than the others.
        ({"pan_x": (-3.0, -50.0, 0.0), "rigid": (1.0, 0.49, 1.0), "flicker": FLASH}, (3, 0, 1, 0)),
        ({"pan_x": (-3.0, -50.0, 0.0), "rigid": (1.0, 0.5, 1.0), "flicker": FLASH}, (53, 0, 1, 0)),
        ({"pan_x": (-3.0, -50.0, 0.0), "rigid": (1.0, 0.49, 1.0), "flicker": (2.0, 9.0, 2.0)}, (53, 0, 1, 0)),
    ],
)
def test_pairs_are_put_together_as_similarities(changes: dict, end: tuple) -> None:
    track = plain_report(**changes).camera
    assert (track.right[-1], track.up[-1], track.zoom[-1], track.roll[-1]) == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize(
    ("asked", "share"),
    [((0.0, 2.0, 4.0), 0.75), ((0.0, 0.5, 1.99), None), ((0.0, 2.0, 0.0), 0.5), ((0.0, -2.0, -4.0), -0.75)],
)
def test_followed_is_the_slope_over_all_frames(asked: tuple, share: float | None) -> None:
    own = CameraTrack((0.0, 1.0, 3.25), (0.0,) * 3, (1.0,) * 3, (0.0,) * 3)
    found = own.followed(CameraTrack(asked, (0.0,) * 3, (1.0,) * 3, (0.0,) * 3))
    assert found["right"] == (None if share is None else pytest.approx(share)) and found["zoom"] is None


@pytest.mark.parametrize("shape", [(9, 3), (0, 4), (10, 4), (4,)])
def test_tracks_of_another_shape_are_refused(shape: tuple) -> None:
    with pytest.raises(ValueError, match=r"1 to 9"):
        measure(moving(32, 32, frames=9), asked=torch.zeros(shape))
