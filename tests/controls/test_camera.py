"""Camera paths, warps and hole filling: known patterns move by known amounts, with the right signs."""

import logging
import math

import pytest
import torch

from svd_core.controls.camera.control import camera_signal, fit_map, scene_depth
from svd_core.controls.camera.depth import depth_from_foreground, depth_from_map
from svd_core.controls.camera.moves import MOVES, camera_move, move_names, parse_path
from svd_core.controls.camera.path import EASINGS, path_through
from svd_core.controls.camera.poses import PARAMETERS
from svd_core.controls.camera.warping import warp

W, H = 160, 96
FRAMES = 5


def spots(*places, width=W, height=H):
    """Soft bright spots at `places` (x, y): [1, 1, H, W]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return sum(torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8.0) for px, py in places)[None, None]


def find(frame):
    """Return the position (x, y) of the only spot in [1, H, W]."""
    y, x = torch.meshgrid(torch.arange(frame.shape[1]), torch.arange(frame.shape[2]), indexing="ij")
    weight = (frame[0] - 0.05).clamp(min=0)
    return ((weight * x).sum() / weight.sum()).item(), ((weight * y).sum() / weight.sum()).item()


def seen(text, place, depth=None, frames=FRAMES):
    """Where the last frame shows what was at `place`."""
    return find(warp(spots(place), parse_path(text).poses(frames), depth).frames[-1])


CENTRE, RIGHT, ABOVE = (79.5, 47.5), (109.5, 47.5), (79.5, 27.5)
# What the camera does, the content does the other way. Expected places by plane geometry, focal length 160 pixels.
MOVED = [
    ("pan right 0.15", CENTRE, (79.5 - 24, 47.5)),
    ("pan left 0.15", CENTRE, (79.5 + 24, 47.5)),
    ("tilt up 0.1", CENTRE, (79.5, 47.5 + 16)),
    ("tilt down 0.1", CENTRE, (79.5, 47.5 - 16)),
    ("zoom in 1.5", RIGHT, (79.5 + 45, 47.5)),
    ("zoom out 1.5", RIGHT, (79.5 + 20, 47.5)),
    ("roll cw 90", RIGHT, (79.5, 47.5 - 30)),
    ("roll ccw 90", RIGHT, (79.5, 47.5 + 30)),
    ("roll cw 30", ABOVE, (79.5 - 10, 47.5 - 20 * math.cos(math.radians(30)))),
    ("dolly in 0.2", RIGHT, (79.5 + 30 / 0.8, 47.5)),
    ("dolly out 0.5", RIGHT, (79.5 + 20, 47.5)),
    ("truck right 0.1", CENTRE, (79.5 - 16, 47.5)),
    ("truck left 0.1", RIGHT, (109.5 + 16, 47.5)),
    ("pedestal up 0.1", CENTRE, (79.5, 47.5 + 16)),
    ("pedestal down 0.1", CENTRE, (79.5, 47.5 - 16)),
    ("orbit right 20", CENTRE, CENTRE),
    ("orbit up 20", CENTRE, CENTRE),
    ("arc right 20", CENTRE, (79.5 - 160 * math.tan(math.radians(10)), 47.5)),
    ("arc up 16", CENTRE, (79.5, 47.5 + 160 * math.tan(math.radians(8)))),
    ("static", RIGHT, RIGHT),
    ("pan right 10deg", CENTRE, (79.5 - 160 * math.tan(math.radians(10)), 47.5)),
    ("pan right 15%, tilt up 0.1", CENTRE, (79.5 - 24, 47.5 + 16.2)),
    ("zoom in 1.5 and pan right 0.1", CENTRE, (79.5 - 24, 47.5)),
    ("zoom in 1.5 then pan right 0.1", CENTRE, (79.5 - 24, 47.5)),
    ("through 0 0; 0.1 0; 0.15 0.05", CENTRE, (79.5 - 24, 47.5 - 8.1)),
]


@pytest.mark.parametrize(("text", "place", "expected"), MOVED, ids=[m[0] for m in MOVED])
def test_content_moves_by_the_asked_amount_to_the_right_side(text, place, expected):
    # A quarter of a pixel: the spot changes its shape a little under perspective.
    assert seen(text, place) == pytest.approx(expected, abs=0.25)


@pytest.mark.parametrize("text", [m[0] for m in MOVED if m[0].split()[0] not in ("zoom", "roll", "dolly")])
def test_points_on_a_flat_board_land_where_the_homography_puts_them(text):
    board = torch.ones(1, 1, H, W)
    for place in (CENTRE, (100.0, 60.0)):
        assert seen(text, place, board) == pytest.approx(seen(text, place), abs=0.2)


@pytest.mark.parametrize(("text", "sign"), [("truck right 0.1", -1), ("truck left 0.1", 1)])
def test_near_things_move_more_than_far_ones(text, sign):
    depth = torch.full((1, 1, H, W), 4.0)
    depth[..., H // 2 :, :] = 0.5  # the lower half is near
    near, far = seen(text, (79.5, 70.0), depth), seen(text, (79.5, 20.0), depth)
    assert near[0] - 79.5 == pytest.approx(sign * 32, abs=0.3)
    assert far[0] - 79.5 == pytest.approx(sign * 4, abs=0.3)


def test_near_things_cover_far_ones_and_uncover_what_is_a_hole():
    picture, depth = torch.full((1, 1, H, W), -1.0), torch.full((1, 1, H, W), 4.0)
    picture[..., 30:60, 60:90], depth[..., 30:60, 60:90] = 1.0, 1.0
    frames, valid = warp(picture, parse_path("truck right 0.1").poses(2), depth)
    assert (frames[1, 0, 35:55, 48:70] > 0.99).all()  # the box, now at 44..74
    assert valid[1, 0, 35:55, 48:70].all()
    assert not valid[1, 0, 35:55, 77:84].any()  # background moved to 86 only
    assert torch.isfinite(frames).all() and valid[1, 0, :, 90:150].all()


def test_slopes_that_come_nearer_have_no_gaps():
    near = torch.linspace(0, 1, H)[None, None, :, None].expand(1, 1, H, W)
    depth = depth_from_map(near)
    _, valid = warp(torch.zeros(1, 1, H, W), parse_path("dolly in 0.3").poses(4), depth)
    assert valid.mean() > 0.995


@pytest.mark.parametrize("depth", [None, torch.ones(1, 1, H, W)], ids=["flat", "points"])
def test_frames_without_motion_are_the_picture_itself(depth):
    picture = torch.rand(1, 3, H, W)
    frames, valid = warp(picture, parse_path("hold 2 then truck right 0.1").poses(FRAMES), depth)
    assert all(torch.equal(frames[t], picture[0]) for t in range(3)) and valid[:3].all()
    assert not torch.equal(frames[3], picture[0])


@pytest.mark.parametrize("name", move_names())
def test_every_move_starts_at_the_picture_and_stays_in_range(name):
    path = camera_move(name)
    assert not path.table(9)[0].any()
    picture = torch.rand(1, 3, H, W) * 2 - 1
    frames, valid = warp(picture, path.poses(3), depth_from_foreground(spots(CENTRE)))
    assert torch.equal(frames[0], picture[0])
    assert torch.isfinite(frames).all() and frames.abs().max() <= 1
    assert valid.float().mean() > 0.6
    assert torch.equal(frames[2], picture[0]) == (name == "static")


def test_moves_after_one_another_add_up_and_those_at_once_do_too():
    pan, tilt = camera_move("pan right", 0.1), camera_move("tilt up", 0.1)
    both, chained = pan.also(tilt).table(9), pan.then(tilt).table(9)
    torch.testing.assert_close(both, pan.table(9) + tilt.table(9))
    torch.testing.assert_close(chained[-1], both[-1])
    torch.testing.assert_close(chained[:5], torch.cat([pan.table(5)]))
    torch.testing.assert_close(chained[4:] - chained[4], tilt.table(5))
    assert pan.then(tilt).then(pan).text == "pan right 0.1 then tilt up 0.1 then pan right 0.1"
    thirds = pan.then(tilt).then(pan).table(7)[:, PARAMETERS.index("pan")]
    torch.testing.assert_close(
        thirds / thirds[-1], torch.tensor([0, 0.25, 0.5, 0.5, 0.5, 0.75, 1], dtype=torch.float64)
    )


def test_holds_take_their_frames_and_shares_divide_the_rest():
    pan = parse_path("hold 3 then pan right 0.1 for 3 then tilt up 0.1 then hold 2").table(14)
    column = pan[:, PARAMETERS.index("pan")] / pan[-1, PARAMETERS.index("pan")]
    expected = [0, 0, 0, 0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1]
    torch.testing.assert_close(column, torch.tensor(expected, dtype=torch.float64))
    tilt = pan[:, PARAMETERS.index("tilt")]
    assert not tilt[:10].any() and torch.equal(tilt[11:], tilt[11].expand(3))


@pytest.mark.parametrize("easing", EASINGS)
def test_easings_run_from_start_to_end(easing):
    course = camera_move("pan right", 0.1, easing=easing).table(101)[:, 0]
    steps = course.diff()
    assert course[0] == 0 and course[-1] == pytest.approx(math.atan(0.1))
    assert bool((steps >= 0).all())
    assert (steps[0] < 0.1 * steps[50]) == (easing in ("ease", "ease-in"))
    assert (steps[-1] < 0.1 * steps[50]) == (easing in ("ease", "ease-out"))


def test_hand_held_sways_smoothly_around_the_start():
    table = camera_move("handheld", 0.02).table(50)
    angles = table[:, :3]
    assert not angles[0].any() and 0.003 < angles.std() < 0.03
    assert angles.diff(dim=0).abs().max() < 0.03
    torch.testing.assert_close(camera_move("handheld", 0.02).table(25)[:25], table[:25])


def test_paths_go_through_their_points():
    path = path_through([(0, 0), (0.1, 0, 1.2), (0.1, -0.1, 1.0, 10)])
    table = path.table(5)
    torch.testing.assert_close(table[2, :4], torch.tensor([math.atan(0.1), 0, 0, math.log(1.2)], dtype=torch.float64))
    end = [math.atan(0.1), math.atan(0.1), math.radians(10), 0.0]
    torch.testing.assert_close(table[4, :4], torch.tensor(end, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_words_of_a_path_describe_it_again():
    for text in (
        "pan right 0.1, zoom in 1.2 ease then hold 4 then tilt up 0.1 for 2",
        "handheld 0.02",
        "orbit left 12",
    ):
        assert parse_path(text).text == text
        assert torch.equal(parse_path(parse_path(text).text).table(20), parse_path(text).table(20))


SPELLINGS = [
    ("PAN Right 0.1", "pan right 0.1"),
    ("pan right 10%", "pan right 0.1"),
    ("roll clockwise 5°", "roll cw 5"),
    ("roll anticlockwise 5 degrees", "roll ccw 5"),
    ("zoom in 1.2x", "zoom in 1.2"),
    ("hand-held", "handheld 0.01"),
    ("pan right 0.1 + zoom in 1.2", "pan right 0.1, zoom in 1.2"),
    ("pan right 0.1 -> zoom in 1.2", "pan right 0.1 then zoom in 1.2"),
    ("pan right 0.1\nzoom in 1.2", "pan right 0.1 then zoom in 1.2"),
    ("push in", "dolly in 0.2"),
    ("still", "static"),
]


@pytest.mark.parametrize(("written", "meant"), SPELLINGS)
def test_usual_spellings_are_understood(written, meant):
    assert parse_path(written).text == meant


BAD = [
    ("spin 3", "camera move 'spin' is unknown; use one of pan, tilt, zoom"),
    ("pan 0.2", "pan needs a direction; write pan left or pan right"),
    ("pan up 0.2", "pan has no direction 'up'; write pan left or pan right"),
    ("pan right 3", r"pan must be 0 to 1 picture widths \(got 3\); use about 0.15"),
    ("zoom in 0.8", r"zoom must be 1 to 4 times \(got 0.8\); use about 1.25"),
    ("zoom in 5deg", r"zoom is measured in times \(got 5 degrees\); write about 1.25"),
    ("pan right far", "'far' in 'pan right far' is not understood; write an amount"),
    ("pan right 0.1 0.2", "'0.1 0.2' in 'pan right 0.1 0.2' is not understood"),
    ("pan right 0.1 for ever", "'ever' in 'pan right 0.1 for ever' of the camera path is not a number; write one"),
    ("pan right 0.1 for 0", r"pan must be above 0 \(got 0\); remove it, or write for 2"),
    ("through 0 0", r"at least 2 \(got 1\); add where the camera ends"),
    ("through 0 0; 1", r"point 2 of the camera path is \(1.0,\); write x y"),
    ("through 0 0; 0.1 0 0", r"zoom of point 2 .*above 0 \(got 0\); use"),
    ("hold 30 then pan right", "30 frames of 25, .*; hold at most 23"),
    ("hold 2.5 then pan right", "'hold 2.5' .*whole number of frames; write"),
    ("hold 2, pan right", "is not a move; write hold by itself"),
    ("dolly in 0.6 then dolly in 0.4", r"0.1 .*\(got 0.00\); use smaller amounts"),
    ("for 2", "'for 2' .*has no move; write one first"),
    (" then ", "the camera path is empty; write moves"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[b[0] for b in BAD])
def test_bad_paths_are_answered_with_a_sentence(text, message):
    with pytest.raises(ValueError, match=message):
        parse_path(text).poses(25)


def test_maps_of_another_size_are_resized_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        depth = scene_depth((H, W), torch.rand(1, 1, 20, 30))
    assert depth.shape == (1, 1, H, W) and bool((depth > 0).all())
    assert caplog.records[0].getMessage() == "the depth map is 30x20, the picture 160x96 pixels; the map was resized"
    caplog.clear()
    assert scene_depth((H, W), torch.rand(1, 1, H, W)) is not None and not caplog.records
    assert scene_depth((H, W)) is None


@pytest.mark.parametrize("layout", ["mask", "masks", "image", "alpha"])
def test_maps_come_in_any_layout_and_are_fitted_like_their_picture(layout):
    right = torch.zeros(100, 300)
    right[:, 200:] = 1.0
    values = {
        "mask": right,
        "masks": right[None],
        "image": right[None, :, :, None].expand(1, 100, 300, 3),
        "alpha": torch.cat([right[None, :, :, None].expand(1, 100, 300, 3), torch.zeros(1, 100, 300, 1)], -1),
    }[layout]
    fitted = fit_map(values, 1, (100, 300), 80, 80, "crop", "depth map")
    assert fitted.shape == (1, 1, 80, 80)
    assert not fitted[..., :70].any()  # the middle third is all that a square crop keeps
    assert fit_map(values, 0, (100, 300), 80, 80, "stretch", "depth map")[..., 60:].min() > 0.9


def test_a_signal_holds_scaled_latents_and_only_cells_without_holes():
    encoded = []

    def encode(frame):
        encoded.append(frame)
        return torch.nn.functional.avg_pool2d(torch.cat([frame, frame[:, :1]], 1), 8) / 0.18215

    picture = torch.rand(1, 3, H, W) * 2 - 1
    told = []
    made = camera_signal(
        encode, picture, parse_path("hold 1 then truck right 0.225"), 4, on_frame=lambda *done: told.append(done)
    )
    assert made.signal.latents.shape == (4, 4, 12, 20) and made.warped.frames.shape == (4, 3, H, W)
    assert len(encoded) == 3 and torch.equal(encoded[0], picture)  # the held frame is the first again
    torch.testing.assert_close(made.signal.latents[0, :3], torch.nn.functional.avg_pool2d(picture, 8)[0])
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # The last frame shows 124 of 160 columns: 15 whole cells, less the one beside the hole.
    assert made.signal.valid[0].all() and made.signal.valid[3].sum(-1).unique().tolist() == [14.0]


REFUSED = [
    ("two pictures", lambda: warp(torch.zeros(2, 3, 8, 8), parse_path("static").poses(2)), r"\[2, 3, 8, 8\]; give one"),
    (
        "depth of another size",
        lambda: warp(torch.zeros(1, 3, 8, 8), parse_path("static").poses(2), torch.ones(1, 1, 4, 4)),
        r"\[1, 1, 4, 4\], the picture \[1, 3, 8, 8\]; give",
    ),
    (
        "depth of zero",
        lambda: warp(torch.zeros(1, 3, 8, 8), parse_path("static").poses(2), torch.zeros(1, 1, 8, 8)),
        "not above 0; give",
    ),
    ("empty mask", lambda: depth_from_foreground(torch.zeros(1, 1, 8, 8)), "foreground mask is empty; paint"),
    (
        "range",
        lambda: depth_from_map(torch.rand(1, 1, 8, 8), far_to_near=1.0),
        r"above 1 and at most 100 \(got 1\); use 2 to 10",
    ),
    ("NaN", lambda: scene_depth((8, 8), torch.full((1, 1, 8, 8), math.nan)), "NaN .*; check"),
    ("layout", lambda: fit_map(torch.zeros(3), 0, (8, 8), 16, 16, "crop", "depth map"), r"\[3\]; give"),
    (
        "few",
        lambda: fit_map(torch.zeros(2, 8, 8), 2, (8, 8), 16, 16, "crop", "depth map"),
        "2 depth maps for picture 3; give one",
    ),
    ("frames", lambda: parse_path("static").poses(0), r"at least 1 frame \(got 0\); use 14"),
    ("easing", lambda: camera_move("pan left", easing="bounce"), "easing 'bounce' is unknown; use one of linear"),
    ("name", lambda: camera_move("pan sideways"), "no direction 'sideways'; write pan left or pan right"),
]


@pytest.mark.parametrize(("call", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_bad_input_says_value_limit_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_move_has_its_own_name_and_a_usual_amount_in_range():
    assert len(move_names()) == len(set(move_names())) == sum(max(1, len(kind.directions)) for kind in MOVES.values())
    assert all(kind.low <= kind.usual <= kind.high for kind in MOVES.values())
