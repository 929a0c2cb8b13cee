"""From videos, frames and photographs to cached clips: cutting, labels, camera clips, resuming, refusals."""

import errno
import math

import pytest
import torch
from PIL import Image

import tests.helpers.training_films as films
from svd_core.report import measure
from svd_core.training.data.cache import encode_sources, encoder_digest, read_clip_tensors
from svd_core.training.data.cutting import ClipPlan, CutReport, at_rate, clip_fps
from svd_core.training.data.labels import bucket_of, measured_speed, speed_of
from svd_core.training.data.samples import ClipSource
from svd_core.training.data.sources import FrameBatch, FrameFolder, VideoFile, find_sources, stills_of_batch
from svd_core.video import write_clip
from tests.helpers.training_films import (
    FRAMES,
    PLAN,
    SIZE,
    TinyEncoders,
    as_planes,
    encode,
    film,
    save_pictures,
    texture,
)

# Cutting


@pytest.mark.parametrize(
    ("file_fps", "wanted", "got"),
    [
        (30, None, 7.5),
        (24, None, 8.0),
        (8, None, 8.0),
        (5, None, 5.0),
        (30, 7, 7),
        (5, 7, 5),
        (0, None, 7.0),
        (0, 9, 9),
    ],
)
def test_clips_never_get_more_frames_per_second_than_the_file_has(file_fps, wanted, got):
    assert clip_fps(file_fps, wanted) == got


@pytest.mark.parametrize(
    ("file_fps", "fps", "first"), [(30, 7.5, [0, 4, 8, 12]), (24, 7, [0, 4, 7, 11]), (10, 10, [0, 1, 2, 3])]
)
def test_frames_are_taken_by_their_time(file_fps, fps, first):
    timed = [(index / file_fps + 3.0, index) for index in range(60)]  # films need not start at 0
    taken = [index for _, index in at_rate(timed, file_fps, fps)]
    assert all(abs(index / file_fps - k / fps) <= 0.5 / file_fps + 1e-9 for k, index in enumerate(taken))
    assert [abs(a - b) <= 1 for a, b in zip(taken, first, strict=False)] == [True] * 4


@pytest.mark.parametrize(
    ("seconds", "file_fps", "fps", "count"),
    [
        (films.times((0, 60, 30), (4, 60, 30)), 30, 7, 28),  # a pause
        (films.times((0, 60, 30), (4, 60, 30)), 1000, 7, 28),  # and a file that says too much
        (films.times((5, 60, 30), (1, 60, 30)), 30, 7, 28),  # joined films, the second with its own clock
        (films.times((0, 60, 60), (1, 30, 15)), 30, 7.5, 22),  # a telephone in the dark
        (films.times((0, 30, 30)) + films.times((1.016, 30, 30)), 30, 30, 60),  # half a frame late from there on
    ],
)
def test_frames_taken_are_never_closer_than_half_the_wanted_interval(seconds, file_fps, fps, count):
    taken = [second for second, _ in at_rate([(second, None) for second in seconds], file_fps, fps)]
    steps = [later - sooner for sooner, later in zip(taken, taken[1:], strict=False)]
    assert abs(len(taken) - count) <= 1 and sum(0 <= step < 0.5 / fps for step in steps) == 0


def test_no_clip_crosses_a_scene_cut():
    clips, report = films.cut(torch.cat([film(7), film(9, seed=9)]))
    assert [clip.number for clip in clips] == [0, 7, 11] and report.cuts == 1 and report.frames == 16


@pytest.mark.parametrize("looks_for_cuts", [True, False])
def test_no_clip_crosses_a_pause(looks_for_cuts):
    seconds = films.times((0, 7, 7), (3, 9, 7))
    plan = ClipPlan(SIZE, SIZE, FRAMES, fps=7, cut=looks_for_cuts)
    clips, report = films.cut(torch.cat([film(7), film(9, seed=9)]), plan, seconds)
    assert [clip.number for clip in clips] == [0, 7, 11]
    assert (report.cuts, report.pauses) == (0, 1) and "1 pause of more than 0.36 s" in report.text()


@pytest.mark.parametrize(
    ("seconds", "file_fps", "labels"),
    [
        (films.times((0, 12, 7)), 7, [7, 7, 7]),
        ([round(second, 3) for second in films.times((0, 12, 7))], 7, [7, 7, 7]),
        (films.times((0, 4, 7), (4 / 7, 8, 3.5)), 30, [7, 3.5, 3.5]),
        (films.times((0, 12, 5)), 60, [5, 5, 5]),
        (films.times((0, 12, 2)), 60, []),  # every step is a pause
    ],
)
def test_clips_are_told_by_the_rate_that_their_frames_really_have(seconds, file_fps, labels):
    clips, _ = films.cut(film(12), seconds=seconds, file_fps=file_fps)
    assert [clip.fps for clip in clips] == pytest.approx(labels)


def test_a_video_with_a_pause_is_told_as_one_without(tmp_path):
    path = films.write_timed(tmp_path / "pause.mkv", film(120, step=1), films.times((0, 60, 30), (4, 60, 30)))
    report = CutReport("pause")
    clips = list(VideoFile(path).clips(PLAN, report))
    assert len(clips) == 6 and report.frames in (28, 29) and report.pauses == 1
    assert {clip.fps for clip in clips} == {7} and max(c.bucket for c in clips) - min(c.bucket for c in clips) < 8


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_one_long_frame_of_an_animation_does_not_slow_down_the_others(tmp_path, kind):
    path = films.save_animation(tmp_path / f"held.{kind}", film(13), [125] * 8 + [2000] + [125] * 4)
    report = CutReport("held")
    clips = list(VideoFile(path).clips(ClipPlan(SIZE, SIZE, FRAMES), report))
    assert [clip.number for clip in clips] == [0, 4, 9] and report.pauses == 1
    assert all(clip.fps == pytest.approx(8, rel=0.05) for clip in clips)  # GIF rounds to hundredths of a second


def test_lively_footage_is_not_cut():
    clips, report = films.cut(film(24, step=9))
    assert len(clips) == 6 and report.cuts == 0


@pytest.mark.parametrize(("stride", "starts"), [(None, [0, 4]), (1, [0, 1, 2, 3, 4, 5]), (3, [0, 3]), (5, [0, 5])])
def test_the_stride_says_where_clips_start(stride, starts):
    plan = ClipPlan(SIZE, SIZE, FRAMES, fps=7, stride=stride)
    assert [clip.number for clip in films.cut(film(9), plan)[0]] == starts


def test_a_video_file_gives_clips_of_the_wanted_size_rate_and_direction(tmp_path):
    path = write_clip(film(40, step=1, size=64), tmp_path / "slide.mp4", fps=28)
    report = CutReport("slide")
    clips = list(VideoFile(path).clips(PLAN, report))
    assert len(clips) == 2 and report.clips == 2 and clips[0].frames.shape == (FRAMES, 3, SIZE, SIZE)
    assert clips[0].fps == 7 and report.file_fps == 28
    moved = measure((clips[0].frames.movedim(1, -1) + 1) / 2)
    # Four of the file's frames, a pixel each, at half the size.
    assert sum(moved.pan_x) / 3 == pytest.approx(-2.0, abs=0.3)


def test_frames_in_a_folder_and_in_a_tensor_give_the_same_clips(tmp_path):
    frames = (film(8) * 255).round() / 255
    save_pictures(tmp_path / "film", frames)
    (folder,) = find_sources(tmp_path)
    from_files = list(folder.clips(PLAN, CutReport("a")))
    from_tensor = list(FrameBatch(frames).clips(PLAN, CutReport("b")))
    assert len(from_files) == len(from_tensor) == 2
    for one, other in zip(from_files, from_tensor, strict=True):
        assert torch.equal(one.frames, other.frames) and one.bucket == other.bucket


# Labels


def test_the_bucket_rule_rises_and_has_an_inverse():
    speeds = [0.0, 0.5, 2.0, 5.0, 20.0, 100.0]
    buckets = [bucket_of(speed) for speed in speeds]
    assert buckets == sorted(buckets) and buckets[0] == 0 and buckets[3] == 127.5 and buckets[-1] < 255
    assert [speed_of(bucket) for bucket in buckets] == pytest.approx(speeds)


@pytest.mark.parametrize("step", [1, 3])
def test_the_measured_speed_is_that_of_the_film(step):
    frames = as_planes(film(FRAMES, step=step, size=96))
    expected = 100 * 7 * step / math.hypot(96, 96)
    # The estimator is good to a few hundredths of a pixel.
    assert measured_speed(frames, 7.0) == pytest.approx(expected, rel=0.1)


# Cache


def test_clips_are_encoded_once_and_read_back(tmp_path):
    sources = [FrameBatch(film(9), "one"), *stills_of_batch(texture(seed=3), "pan left", 2)]
    model = TinyEncoders()
    first = encode(sources, tmp_path, model=model)
    seen = model.seen
    again = encode(sources, tmp_path, model=model)
    assert seen > 0 and model.seen == seen
    assert [(c.path, c.fps, c.bucket) for c in first.clips] == [(c.path, c.fps, c.bucket) for c in again.clips]
    assert first.text() == again.text() and "2 clips from 9 frames" in first.text() and len(first.clips) == 4
    tensors = read_clip_tensors(first.clips[0].path)
    assert tensors["latent"].shape == (FRAMES, 4, 4, 4) and tensors["concat"].shape == (4, 4, 4, 4)
    assert tensors["levels"].tolist() == sorted(tensors["levels"].tolist())


@pytest.mark.parametrize("change", ["contents", "plan", "encoders"])
def test_whatever_clips_are_made_of_makes_other_files(tmp_path, change):
    model = TinyEncoders()
    encode_sources([FrameBatch(film(4))], PLAN, model, tmp_path, encoders="tiny")
    seen = model.seen
    source = FrameBatch(film(4, seed=1) if change == "contents" else film(4))
    plan = ClipPlan(SIZE, SIZE, FRAMES, fps=8) if change == "plan" else PLAN
    encode_sources([source], plan, model, tmp_path, encoders="other" if change == "encoders" else "tiny")
    assert model.seen == 2 * seen


def test_encoding_goes_on_where_it_was_stopped(tmp_path):
    sources, model = [FrameBatch(film(16))], TinyEncoders()
    calls = []

    def stop(name, done):
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(sources, tmp_path, model=model, on_clip=stop)
    half = model.seen
    resumed = encode(sources, tmp_path, model=model)
    assert len(resumed.clips) == 4 and model.seen == 2 * half
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path, monkeypatch):
    sources = [FrameBatch(film(12))]
    calls = []

    def full(path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("svd_core.files._sync_file", full)
    with pytest.raises(OSError, match="No space left on device.*already encoded are kept") as caught:
        encode(sources, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    left = list(tmp_path.iterdir())
    assert len(left) == 1 and read_clip_tensors(left[0])
    assert len(encode(sources, tmp_path).clips) == 3


def test_samples_are_the_same_whenever_they_are_asked(tmp_path):
    clips = encode([FrameBatch(film(20))], tmp_path)
    source = ClipSource(clips, seed=5)
    drawn = [source.sample(index, torch.Generator().manual_seed(index)) for index in range(10)]
    again = ClipSource(clips, seed=5)
    for index in (7, 2, 7):
        sample = again.sample(index, torch.Generator().manual_seed(index))
        for part in ("latent", "concat", "token", "vector"):
            assert torch.equal(getattr(sample, part), getattr(drawn[index], part))
    # Every round shows each of the five clips once.
    for round_ in (drawn[:5], drawn[5:]):
        assert len({float(sample.latent.sum()) for sample in round_}) == 5


def test_given_labels_replace_the_measured_ones(tmp_path):
    clips = encode([FrameBatch(film(4))], tmp_path)
    plain, given = (
        ClipSource(clips, **labels).sample(0, torch.Generator().manual_seed(0))
        for labels in ({}, {"bucket": 127, "fps": 7})
    )
    assert torch.equal(plain.vector[:256], given.vector[:256])  # the film is taken to be at 7 already
    assert not torch.equal(plain.vector[256:512], given.vector[256:512])
    assert torch.equal(plain.vector[512:], given.vector[512:])


# Refusals


def test_a_still_film_is_left_out_and_said(tmp_path):
    frozen = texture()[:, :48, :48].expand(8, -1, -1, -1)
    with pytest.raises(ValueError, match="2 left out for too little motion.*least motion 0"):
        encode([FrameBatch(frozen)], tmp_path)
    plan = ClipPlan(SIZE, SIZE, FRAMES, fps=7, least_motion=0)
    assert len(encode([FrameBatch(frozen)], tmp_path, plan).clips) == 2


def test_an_unreadable_video_is_a_sentence_alone_and_left_out_among_others(tmp_path, caplog):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(ValueError, match=r"bad\.mp4 cannot be read"):
        encode(find_sources(tmp_path), tmp_path / "cache")
    save_pictures(tmp_path / "good", film(4))
    clips = encode(find_sources(tmp_path), tmp_path / "cache")
    assert len(clips.clips) == 1 and "left out" in clips.text() and "bad.mp4" in caplog.text


def test_a_film_shorter_than_a_clip_is_named(tmp_path):
    with pytest.raises(ValueError, match="too short for a clip of 4 frames .has 3."):
        encode([FrameBatch(film(3), "short")], tmp_path)


@pytest.mark.parametrize(
    ("name", "move", "words"),
    [
        ("absent", "", "does not exist"),
        ("empty", "", "nothing to train on; add videos"),
        ("empty", "pan left", "nothing to train on; add videos"),
        ("notes.txt", "", "is not a video; give a video"),
        ("photo.png", "", "give a camera move"),
    ],
)
def test_what_is_no_training_data_is_refused(tmp_path, name, move, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.png")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        find_sources(tmp_path / name, move=move)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("frames", (1, 0, -3), "frames must be 2 or more .*use 14"),
        ("stride", (0, -1), "stride must be 1 or more .*use 4"),
        ("fps", (0.2, 0.0, -7, 121, math.inf, math.nan), "fps must be 1 to 120 .*use about 7"),
        ("width", (30,), "multiple of 8"),
        ("height", (0, -8), "too small"),
        ("least_motion", (-1, math.inf, math.nan), "least_motion must be 0 or more .*use 0"),
        ("most_clips", (-1,), "most_clips .*got -1.; use 0 for all"),
        ("width", (10_000_000,), "at most 268,435,456 pixels.*576x320"),
        ("frames", (10**9,), "at most 268,435,456 pixels"),
        *((name, (math.nan, 16.5), "whole number") for name in ("width", "height", "frames", "stride", "most_clips")),
    ],
)
def test_impossible_plans_are_refused(name, values, words):
    for value in values:
        with pytest.raises(ValueError, match=words):
            ClipPlan(**{"width": SIZE, "height": SIZE, "frames": FRAMES} | {name: value})


@pytest.mark.parametrize("rate", [math.inf, -math.inf, math.nan, -3.0, 0.5, 1e6])
def test_frame_rates_that_no_film_has_are_refused(tmp_path, rate):
    save_pictures(tmp_path / "film", film(4))
    for make in (
        lambda: FrameBatch(film(4), fps=rate),
        lambda: FrameFolder(tmp_path / "film", rate),
        lambda: find_sources(tmp_path, frame_fps=rate),
        lambda: find_sources(tmp_path / "film", move="pan left", frame_fps=rate),  # even where no frames are read
    ):
        with pytest.raises(ValueError, match="frame rate .* 1 to 1000 .*or 0 if it is unknown"):
            make()


def test_a_video_slower_than_any_clip_is_refused(tmp_path):
    path = films.save_animation(tmp_path / "slow.webp", film(5), 4000)
    with pytest.raises(ValueError, match=r"slow\.webp .*1 frame per second or more .has 0\.25.*folder of pictures"):
        list(VideoFile(path).clips(ClipPlan(SIZE, SIZE, FRAMES), CutReport("slow.webp")))


@pytest.mark.parametrize(
    ("label", "values"),
    [("fps", (0, 0.5, math.inf, math.nan, 1e39)), ("bucket", (-1, math.inf, math.nan, 1e39))],
)
def test_labels_that_no_clip_has_are_refused(tmp_path, label, values):
    clips = encode([FrameBatch(film(4))], tmp_path)
    for value in values:
        with pytest.raises(ValueError, match=f"{label} .* [01] to 1000 .*; use"):
            ClipSource(clips, **{label: value})


def test_another_encoder_has_another_digest():
    one, two = (torch.nn.Conv2d(3, 4, 3) for _ in range(2))
    assert encoder_digest(one) == encoder_digest(one) != encoder_digest(two)
    assert encoder_digest(one, None) == encoder_digest(one)
