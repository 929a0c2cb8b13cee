"""Clips of shots: the settings, length and key of each, and the files in a store."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import ImageDraw

from svd_core import AnimateSettings
from svd_core.charts import FAINT, INK
from svd_core.sampling.solvers import Step
from svd_core.storyboard import ClipStore, MemoryStore, Panel, Shot
from svd_core.storyboard.clips import DEPTH, LONGER, StoredClip, make_clip, shot_key, shot_settings
from svd_core.storyboard.film import Film, clip_steps, draw_contact_sheet, fade_share, film_frames, sheet_frame
from svd_core.storyboard.timing import Timing

SETTINGS = AnimateSettings(width=48, height=32, steps=4, extend_overlap=3)


def shot(frames: int, tail: int = 0, move: str | None = "zoom in 1.1", **rest) -> Shot:
    panel = Panel(move=move, bucket=40, seed=5, transition="cut", fade=0.0)
    return Shot(panel, rest.pop("start", 0), frames, rest.pop("fade", 0), tail)


# Each row: frames and tail of the shot, how it gets longer, and its settings on a model of 14 frames.
SHOTS = [
    (14, 0, "windows", {"frames": 14, "windows": 0, "extend": 0, "camera": "zoom in 1.1"}),
    (13, 0, "windows", {"frames": 14, "camera": "zoom in 1.1 then hold 1"}),
    (2, 0, "windows", {"frames": 14, "camera": "zoom in 1.1 then hold 12"}),
    (1, 0, "windows", {"frames": 14, "camera": "zoom in 1.1 then hold 12"}),
    (12, 1, "extend", {"frames": 14, "extend": 0, "camera": "zoom in 1.1 then hold 1"}),
    (15, 0, "windows", {"frames": 15, "windows": 14, "extend": 0}),
    (12, 5, "windows", {"frames": 17, "windows": 14}),
    (20, 0, "extend", {"frames": 14, "windows": 0, "extend": 6, "extend_overlap": 3}),
    (20, 0, "slower", {"frames": 14, "windows": 0, "extend": 0, "camera": "zoom in 1.1"}),
]


@pytest.mark.parametrize(("frames", "tail", "longer", "expected"), SHOTS)
def test_settings_follow_the_length_of_the_shot(frames: int, tail: int, longer: str, expected: dict):
    found = shot_settings(SETTINGS, shot(frames, tail), 14, longer)
    assert {name: getattr(found, name) for name in expected} == expected
    assert (found.motion_bucket, found.seed, found.width, found.steps) == (40, 5, 48, 4)


@pytest.mark.parametrize(
    ("move", "camera"),
    [
        (None, ""),
        ("", ""),
        ("pan left then hold 3", "pan left then hold 3 then hold 4"),
        # A path that already holds its end for all but the first frame has no frame left to hold.
        ("pan left then hold 9", "pan left then hold 9"),
        ("pan left then hold 8", "pan left then hold 8 then hold 4"),
    ],
)
def test_a_move_ends_with_a_short_shot(move: str | None, camera: str):
    assert shot_settings(SETTINGS, shot(10, move=move), 14, "windows").camera == camera


def test_the_overlap_of_an_extension_is_shorter_than_the_clip():
    found = shot_settings(replace(SETTINGS, extend_overlap=9), shot(6), 4, "extend")
    assert (found.extend, found.extend_overlap) == (2, 3)


def test_an_unknown_way_to_lengthen_is_refused():
    with pytest.raises(ValueError, match="'loop' is unknown; use windows, extend, slower"):
        shot_settings(SETTINGS, shot(6), 4, "loop")
    assert LONGER == ("windows", "extend", "slower")


@pytest.mark.parametrize(
    ("made", "wanted", "shown"),
    [
        (4, 4, [0, 1, 2, 3]),
        (4, 2, [0, 1]),
        (4, 6, [0, 0, 1, 2, 2, 3]),
        (4, 8, [0, 0, 1, 1, 2, 2, 3, 3]),
        (3, 7, [0, 0, 0, 1, 1, 2, 2]),
    ],
)
def test_a_clip_has_the_frames_of_its_shot(monkeypatch, made: int, wanted: int, shown: list):
    frames = torch.arange(made).div(10).reshape(made, 1, 1, 1).expand(made, 32, 48, 3)
    monkeypatch.setattr("svd_core.storyboard.clips.steered_clip", lambda *given, **options: frames)
    clip = make_clip(None, None, shot(wanted), SETTINGS)
    assert (clip[:, 0, 0, 0] * 10).round().int().tolist() == shown
    assert clip.shape == (wanted, 32, 48, 3)
    assert torch.equal(clip, (clip * DEPTH).round() / DEPTH)


@pytest.mark.parametrize(("value", "level"), [(0.25, 16384), (0.5, 32768), (0.1, 6554), (1.0, 65535), (1e-6, 0)])
def test_clips_are_rounded_to_65535_levels(monkeypatch, value: float, level: int):
    frames = torch.full((2, 32, 48, 3), value)
    monkeypatch.setattr("svd_core.storyboard.clips.steered_clip", lambda *given, **options: frames)
    clip = make_clip(None, None, shot(2), SETTINGS)
    assert clip.unique().item() == pytest.approx(level / 65535, rel=1e-7)


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((32, 20), (slice(None), slice(14, 34))),
        ((12, 48), (slice(10, 22), slice(None))),
        ((31, 47), (slice(0, 31), slice(0, 47))),
    ],
)
def test_smaller_frames_lie_in_the_middle_of_black(monkeypatch, size: tuple, inner: tuple):
    monkeypatch.setattr("svd_core.storyboard.clips.steered_clip", lambda *given, **options: torch.ones(2, *size, 3))
    clip = make_clip(None, None, shot(2), SETTINGS)
    assert clip[:, inner[0], inner[1]].min() == 1 and clip.shape == (2, 32, 48, 3)
    assert clip.sum() == 2 * 3 * size[0] * size[1]


def test_the_key_tells_pictures_settings_lengths_and_models_apart():
    picture = torch.rand(1, 8, 8, 3)
    key = shot_key(picture, shot(4), SETTINGS, "nano")
    others = [
        shot_key(picture * 0.5, shot(4), SETTINGS, "nano"),
        shot_key(picture.view(1, 4, 16, 3), shot(4), SETTINGS, "nano"),
        shot_key(picture, shot(5), SETTINGS, "nano"),
        shot_key(picture, shot(4), replace(SETTINGS, steps=5), "nano"),
        shot_key(picture, shot(4), SETTINGS, "xt"),
    ]
    assert len({key, *others}) == 6 and len(key) == 24 and int(key, 16) >= 0
    assert shot_key(picture.clone(), shot(3, tail=1, start=9), SETTINGS, "nano") == key


def test_a_memory_store_generates_every_clip_again():
    calls = []
    for _ in range(2):
        assert MemoryStore().frames("key", lambda: calls.append(1) or "clip") == "clip"
    assert len(calls) == 2


def test_a_stored_clip_is_generated_once_and_read_by_index(tmp_path: Path):
    store, calls = ClipStore(tmp_path / "kept"), []
    clip = torch.tensor([0.0, 1 / DEPTH, 0.5, 1.0]).reshape(4, 1, 1, 1).expand(4, 2, 3, 3)
    clip = (clip * DEPTH).round() / DEPTH
    assert not store.finished("abc")
    for _ in range(2):
        frames = store.frames("abc", lambda: calls.append(1) or clip)
        assert len(frames) == 4 and all(torch.equal(frames[index], clip[index]) for index in range(4))
    assert len(calls) == 1 and store.finished("abc")
    for index in (-1, 4):
        with pytest.raises(IndexError):
            frames[index]
    assert store.path("abc") == tmp_path / "kept" / "clip_abc.safetensors"
    assert isinstance(frames, StoredClip) and [path.name for path in store.folder.iterdir()] == ["clip_abc.safetensors"]


def test_the_manifest_removes_only_clips_that_it_named_before(tmp_path: Path):
    store = ClipStore(tmp_path / "kept")
    store.write_manifest([{"panel": 1, "clip": "a"}, {"panel": 2, "clip": "b"}])
    for key in ("a", "b", "c"):
        store.path(key).touch()
    store.write_manifest([{"panel": 1, "clip": "b"}])
    assert {path.name for path in store.folder.iterdir()} == {
        "panels.json",
        *(f"clip_{key}.safetensors" for key in "bc"),
    }
    assert json.loads((store.folder / "panels.json").read_text()) == {"panels": [{"panel": 1, "clip": "b"}]}


@pytest.mark.parametrize(
    "text",
    ["no JSON", "[]", "{}", '{"panels": 1}', '{"panels": [{}]}', '{"panels": [{"clip": ["a"]}]}', "[" * 100000],
)
def test_a_manifest_that_cannot_be_read_counts_as_empty(tmp_path: Path, text: str):
    store = ClipStore(tmp_path)
    store.path("a").touch()
    (tmp_path / "panels.json").write_text(text)
    store.write_manifest([{"clip": "b"}])
    assert store.path("a").exists() and json.loads((tmp_path / "panels.json").read_text())["panels"] == [{"clip": "b"}]


def test_what_killed_runs_left_among_the_clips_is_removed(tmp_path: Path):
    left = (tmp_path / ".panels.json.0123abcd.part", tmp_path / ".clip_ab.safetensors.0123abcd.part")
    for path in (*left, tmp_path / "clip_ab.safetensors"):
        path.write_bytes(b"half")
    ClipStore(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["clip_ab.safetensors"]


def test_an_edited_manifest_deletes_nothing_outside_the_folder(tmp_path: Path):
    outside = tmp_path / "clip_x.safetensors"
    outside.touch()
    store = ClipStore(tmp_path / "kept")
    store.folder.mkdir()
    (store.folder / "clip_..").mkdir()
    (store.folder / "panels.json").write_text('{"panels": [{"clip": "../../clip_x"}]}')
    store.write_manifest([{"clip": "b"}])
    assert outside.exists()


@pytest.mark.parametrize(("frames", "shares"), [(1, [0.5]), (2, [1 / 3, 2 / 3]), (3, [0.25, 0.5, 0.75])])
def test_fades_are_even_and_never_show_one_panel_alone(frames: int, shares: list):
    assert [fade_share(index, frames) for index in range(frames)] == pytest.approx(shares)


@pytest.mark.parametrize(("frames", "index"), [(1, 0), (2, 1), (3, 1), (14, 7)])
def test_the_sheet_shows_the_middle_frame(frames: int, index: int):
    assert sheet_frame(frames) == index


@pytest.mark.parametrize(
    ("extend", "overlap", "steps"), [(0, 3, 4), (1, 3, 8), (11, 3, 8), (12, 3, 12), (22, 3, 12), (23, 3, 16)]
)
def test_the_steps_of_extensions_are_counted(extend: int, overlap: int, steps: int):
    settings = replace(SETTINGS, frames=14, extend=extend, extend_overlap=overlap)
    assert clip_steps(settings) == steps


class Steps:
    """A stand-in for `steered_clip`: reports the steps of a clip, and returns frames that identify their clip."""

    def __init__(self) -> None:
        self.made: list[float] = []
        self.more = 0

    def __call__(self, model, picture, settings, steering, *, on_step=None):
        self.made.append(float(picture.mean()))
        for index in range(settings.steps + self.more):
            if on_step is not None:
                on_step(Step(index, settings.steps, 1.0, torch.zeros(1), torch.zeros(1)))
        frames = torch.arange(settings.frames).reshape(-1, 1, 1, 1) / 100 + picture.mean()
        return frames.expand(settings.frames, 32, 48, 3)


@pytest.fixture
def steps(monkeypatch) -> Steps:
    found = Steps()
    monkeypatch.setattr("svd_core.storyboard.clips.steered_clip", found)
    return found


def three_shots() -> Film:
    shots = (shot(4, tail=2), shot(3, start=4, fade=2, tail=1), shot(2, start=7, fade=1))
    settings = tuple(replace(SETTINGS, frames=one.clip_frames, extend=0, windows=0) for one in shots)
    return Film(Timing(shots, Fraction(10)), settings)


def test_a_film_reports_steps_clips_and_unfaded_frames(steps: Steps, tmp_path: Path):
    told, clips, shown, film = [], [], [], three_shots()

    def picture(number: int) -> torch.Tensor:
        return torch.full((1, 8, 8, 3), (number + 1) / 5)

    store = ClipStore(tmp_path / "kept")
    options = {
        "store": store,
        "on_step": lambda step: told.append((step.index, step.steps)),
        "on_clip": lambda *given: clips.append(given),
        "on_frame": lambda panel, index, frame: shown.append((panel, index, round(float(frame[0, 0, 0]), 2))),
    }
    values = [float(frame[0, 0, 0]) for frame in film_frames(None, picture, film, **options)]
    # Frame i of clip c is (c + 1) / 5 + i / 100; the first clip goes on with frames 4 and 5 under the fade.
    first, second, third = ([(clip + 1) / 5 + index / 100 for index in range(6)] for clip in range(3))
    expected = first[:4] + [
        first[4] + (second[0] - first[4]) / 3,
        first[5] + (second[1] - first[5]) * 2 / 3,
        second[2],
        second[3] + (third[0] - second[3]) / 2,
        third[1],
    ]
    assert values == pytest.approx(expected, abs=1e-4)
    assert told == [(index, 12) for index in range(12)]
    assert clips == [(0, True), (1, True), (2, True)]
    assert [entry[:2] for entry in shown] == [
        (panel, index) for panel, count in ((0, 4), (1, 3), (2, 2)) for index in range(count)
    ]
    assert shown[4][2] == 0.4, "before it is faded"
    clips.clear(), told.clear()
    again = [float(frame[0, 0, 0]) for frame in film_frames(None, picture, film, **options)]
    assert again == values and clips == [(0, False), (1, False), (2, False)] and not told and len(steps.made) == 3
    named = film_frames(None, picture, film, store=store, model_name="other")
    assert [float(frame[0, 0, 0]) for frame in named] == values and len(steps.made) == 6


def test_more_steps_than_planned_do_not_pass_the_total(steps: Steps):
    told, steps.more = [], 1
    for _ in film_frames(None, lambda number: torch.zeros(1, 8, 8, 3), three_shots(), on_step=told.append):
        pass
    assert [step.index for step in told] == [*range(5), *range(4, 9), *range(8, 12), 11]
    assert {step.steps for step in told} == {12}


@pytest.mark.parametrize(
    ("count", "size", "columns"),
    [(1, (20, 30), 1), (7, (20, 30), 3), (9, (30, 20), 5), (2, (20, 30), 2), (3, (20, 30), 2)],
)
def test_the_contact_sheet_is_about_square(count: int, size: tuple, columns: int):
    panels = [Panel(seconds=1, transition="cut", bucket=1, seed=1) for _ in range(count)]
    timing = Timing(tuple(Shot(panel, index * 5, 5, 0, 0) for index, panel in enumerate(panels)), Fraction(5))
    height, width = size
    small = (round(width * 256 / max(size)), round(height * 256 / max(size)))
    page = draw_contact_sheet(timing, [torch.full((*size, 3), 0.1) for _ in range(count)])
    cell = (max(small[0], 176), small[1] + 60)
    rows = -(-count // columns)
    assert page.shape[2] == max(480, 2 * 20 + columns * (cell[0] + 16) - 16)
    assert page.shape[1] == 54 + rows * (cell[1] + 16) - 16 + 20
    dark = ((page[0] * 255).round() == 26).all(-1)
    for number in range(count):
        x, y = 20 + number % columns * (cell[0] + 16), 54 + number // columns * (cell[1] + 16)
        inner = dark[y + 1 : y + small[1] - 1, x + 1 : x + small[0] - 1]
        assert bool(inner.all()), number
        assert not bool(dark[y, x : x + small[0]].any()), "the outline"


def test_the_contact_sheet_says_what_each_panel_is(monkeypatch):
    shortened, drawn = [], []
    monkeypatch.setattr(
        "svd_core.storyboard.film.shorten", lambda pen, text, *room: shortened.append((text, *room)) or text
    )
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda pen, place, text, fill, font: drawn.append((place, text, fill))
    )
    shots = (
        Shot(Panel(image="a.png", move="", bucket=127, seed=3), 0, 5, 0, 2),
        Shot(Panel(title="Second", move="zoom in 1.1", bucket=40.5, seed=7), 5, 6, 2, 0),
    )
    draw_contact_sheet(Timing(shots, Fraction(4)), [torch.zeros(20, 30, 3)] * 2, title="Film")
    lines = [
        "1. a.png", "0.00 to 1.25 s, cut", "free, bucket 127, seed 3",
        "2. Second", "1.25 to 2.75 s, cross-fade 2", "zoom in 1.1, bucket 40.5, seed 7",
    ]  # fmt: skip
    # The frames are 256 x 171 pixels, 16 apart, with a margin of 20; lines are 18 pixels apart below them.
    head = "Film: 2 panels, 2.75 s, 11 frames at 4 fps"
    assert shortened == [(head, 2 * 256 + 16, 20), *((line, 256, 14) for line in lines)]
    places = [(x, 54 + 171 + 4 + 18 * line) for x in (20, 292) for line in range(3)]
    colours = [INK, FAINT, FAINT] * 2
    assert drawn == [((20, 16), head, INK), *zip(places, lines, colours, strict=True)]
