"""One reader for every clip: shape, timing, order and settings of files from anywhere, a few frames in memory."""

import gc
import json
import struct
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from svd_core.video import open_clip, read_clip, read_settings, write_clip
from svd_core.video.clip import MARK, parse_settings
from svd_core.video.frames import Recent
from tests.helpers.videos import DATA, reference

TURNS = [("turned_90.mp4", 32, 48), ("turned_180.mp4", 48, 32), ("turned_270.mp4", 32, 48)]


@pytest.mark.parametrize(("file", "width", "height"), TURNS)
def test_turned_videos_are_read_upright(file: str, width: int, height: int):
    with open_clip(DATA / file) as clip:
        assert (clip.width, clip.height) == (width, height) and clip[0].shape == (height, width, 3)
        error = (clip[0] - reference(file.split(".")[0], width, height)).abs() * 255
    assert error.max() <= 1 and not clip.notes


# Each row: the numbers a, b, c, d of a display matrix, and what a player shows of a picture [H, W].
MATRICES = [
    ((1, 0, 0, 1), lambda picture: picture),
    ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
    ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
    ((0, -1, 1, 0), lambda picture: np.rot90(picture, 1)),
    ((-1, 0, 0, 1), np.fliplr),
    ((1, 0, 0, -1), np.flipud),
    ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1)),
    ((0, -1, -1, 0), lambda picture: np.rot90(picture, 2).swapaxes(0, 1)),
    # Not at a right angle, or damaged: the picture as it is stored.
    ((0.7, 0.7, -0.7, 0.7), lambda picture: picture),
    ((0, 0, 0, 0), lambda picture: picture),
    ((1, 1, 1, 1), lambda picture: picture),
]


@pytest.mark.parametrize(("matrix", "shown"), MATRICES, ids=[str(row[0]) for row in MATRICES])
def test_every_display_matrix_is_applied(tmp_path: Path, matrix: tuple, shown):
    frame = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(1)).repeat_interleave(16, 0)
    frame = frame.repeat_interleave(24, 1)  # four patches in 32 x 48
    path = write_clip(frame[None].repeat(2, 1, 1, 1), tmp_path / "clip.mp4", fps=7, quality=100)
    upright = read_clip(path)[0][0].numpy()
    content = path.read_bytes()
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    place = content.index(identity, content.index(b"tkhd"))
    a, b, c, d = (round(65536 * value) for value in matrix)
    changed = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30)
    path.write_bytes(content[:place] + changed + content[place + 36 :])
    found = read_clip(path)[0][0].numpy()
    assert np.array_equal(found, shown(upright))


@pytest.mark.parametrize(("file", "width"), [("wide_pixels.mp4", 96), ("narrow_pixels.mp4", 36)])
def test_pixels_that_are_no_squares_are_stretched(file: str, width: int):
    with open_clip(DATA / file) as clip, open_clip(DATA / "bt709.mp4") as plain:
        assert (clip.width, clip.height) == (width, 32)
        found, stored = clip[0], plain[0]
    assert found.shape == (32, width, 3)
    planes = stored.movedim(-1, 0)[None]
    expected = torch.nn.functional.interpolate(planes, (32, width), mode="bicubic", antialias=True)[0].movedim(0, -1)
    # The waves are smooth; encoding again cost up to a level.
    assert (found - expected.clamp(0, 1)).abs().max() * 255 < 3


def test_a_variable_rate_keeps_its_times_and_can_be_resampled():
    with open_clip(DATA / "vfr.mp4") as clip:
        assert clip.times == pytest.approx([0, 1 / 12, 2 / 12, 3 / 12, 7 / 12, 11 / 12], abs=1e-3)
        assert not clip.is_even and clip.steady_fps == pytest.approx(12) and clip.seconds == pytest.approx(15 / 12)
        frames = list(clip)
        for fps, order in ((12, [0, 1, 2, *[3] * 4, *[4] * 4, *[5] * 4]), (6, [0, 2, 3, 3, 4, 4, 5, 5])):
            shown = clip.at_rate(fps)
            assert [next(i for i in range(6) if torch.equal(frame, frames[i])) for frame in shown] == order


def test_an_even_rate_is_told_apart():
    for name in ("bt709.mp4", "alpha_vp9.webm", "alpha_apng.png", "jpeg.avi"):
        with open_clip(DATA / name) as clip:
            assert clip.is_even and clip.steady_fps == pytest.approx(12, rel=0.02)
            assert clip.seconds == pytest.approx(len(clip) / 12, rel=0.01)


def test_interlaced_videos_are_said(caplog):
    open_clip(DATA / "interlaced.mp4").close()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["interlaced.mp4"]
    assert "interlaced" in caplog.text and "deinterlace" in caplog.text


def test_headers_count_frames_without_decoding(monkeypatch):
    for name, frames in (("bt709.mp4", 6), ("long.mp4", 100), ("pq.mkv", 3), ("alpha_vp9.webm", 3)):
        with open_clip(DATA / name) as clip:
            monkeypatch.setattr(type(clip), "__len__", lambda clip: pytest.fail("decoded"))
            assert clip.header_frames == frames
            monkeypatch.undo()
            assert len(clip) == frames


ORDERS = {
    "forwards": range(100),
    "backwards": range(99, -1, -1),
    "jumps": (50, 99, 0, 49, 51, 29, 30, 31, 98, 7),
    "every seventh": range(0, 100, 7),
}


@pytest.mark.parametrize("order", ORDERS)
def test_frames_by_index_are_those_in_order(monkeypatch, order: str):
    """Grey levels count the frames; key frames are 30 apart, with B-frames between them."""
    monkeypatch.setattr("svd_core.video.frames.MOST_RECENT", 8 * 3 * 16 * 16)
    with open_clip(DATA / "long.mp4") as clip:
        levels = [(float(frame.mean()) * 219 + 16) for frame in clip]
        assert len(levels) == 100 and all(a < b for a, b in zip(levels[8:], levels[9:], strict=False))
        for index in ORDERS[order]:
            assert float(clip[index].mean()) * 219 + 16 == pytest.approx(levels[index], abs=1e-3)
        for index in (-1, 100, -101):
            if index == -1:
                assert torch.equal(clip[-1], clip[99])
            else:
                with pytest.raises(IndexError):
                    clip[index]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.webp", "clip.gif", "frames"])
def test_our_own_clips_are_the_same_in_every_way_of_reading(tmp_path: Path, name: str):
    clip = torch.rand(7, 33, 47, 3, generator=torch.Generator().manual_seed(2))
    path = write_clip(clip, tmp_path / name, fps=7, metadata={"seed": 3})
    frames, fps, settings = read_clip(path)
    assert (frames.shape, fps, settings) == ((7, 33, 47, 3), 7.0, {"seed": 3}) and frames.is_contiguous()
    with open_clip(path) as opened:
        assert (opened.width, opened.height, len(opened), opened.fps) == (47, 33, 7, 7) and not opened.notes
        assert opened.is_even and opened.metadata == read_settings(path) == settings
        for index in (3, 0, 6, 5, 4, 1, 2):
            assert torch.equal(opened[index], frames[index])
        assert torch.equal(torch.stack(list(opened)), frames)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webp", "frames"])
def test_only_a_few_frames_are_in_memory(tmp_path: Path, name: str):
    path = write_clip(torch.rand(24, 32, 32, 3), tmp_path / name, fps=7)
    alive, most = [], 0
    with open_clip(path) as clip:
        for index in [*range(24), *range(23, -1, -1)]:
            frame = clip[index]
            alive.append(weakref.ref(frame))
            most = max(most, sum(one() is not None for one in alive))
            del frame
        for frame in clip:
            alive.append(weakref.ref(frame))
            gc.collect(0)
            most = max(most, sum(one() is not None for one in alive))
    assert most <= 2


@pytest.mark.parametrize(("bytes_per_frame", "kept"), [(2**26, 4), (2**24, 4), (2**23, 8), (2**20, 24)])
def test_the_memory_for_reading_backwards_is_bounded(bytes_per_frame: int, kept: int):
    recent = Recent(bytes_per_frame)
    for index in range(100):
        recent.add(index, index)
    assert list(recent) == list(range(100 - kept, 100))


def with_comment(path: Path, text: str, **changes) -> Path:
    """Write three grey frames of 64 x 48 at 7 fps with any comment."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["comment"] = text
        stream = container.add_stream("libx264", rate=changes.get("rate", 7), options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = changes.get("width", 64), 48, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((48, stream.width, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def embedded(metadata=None, fps="7", size=(64, 48)) -> str:
    return json.dumps({MARK: {"seed": 3} if metadata is None else metadata, "fps": fps, "size": size})


DAMAGED = {
    "depth": "[" * 100000 + MARK,
    "deep metadata": embedded(json.loads('{"a":' * 20 + "1" + "}" * 20)),
    "metadata a list": embedded([1]),
    "metadata null": '{"svd_reel": null, "fps": "7", "size": [64, 48]}',
    "metadata text": embedded("text"),
    "no fps": json.dumps({MARK: {}, "size": [64, 48]}),
    "fps a bomb": embedded(fps="1e99999999"),
    "fps infinite": embedded(fps="inf"),
    "fps negative": embedded(fps="-7"),
    "fps zero": embedded(fps="0"),
    "fps by zero": embedded(fps="7/0"),
    "fps a number": embedded(fps=7),
    "fps long": embedded(fps="9" * 5000),
    "size text": embedded(size="6448"),
    "size floats": embedded(size=[64.0, 48.0]),
    "size negative": embedded(size=[-64, 48]),
    "size zero": embedded(size=[0, 48]),
    "size huge": embedded(size=[10**30, 48]),
    "size flags": embedded(size=[True, True]),
    "one side": embedded(size=[64]),
    "not JSON": f"{{{MARK}",
    "a text of JSON": json.dumps(MARK),
    "a list of JSON": json.dumps([MARK]),
    "too long": embedded({"a": "x" * 2**21}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_settings_are_ignored_with_one_warning(tmp_path: Path, name: str, caplog):
    path = with_comment(tmp_path / "clip.mp4", DAMAGED[name])
    frames, fps, settings = read_clip(path)
    assert (frames.shape, fps, settings) == ((3, 48, 64, 3), 7.0, {})
    assert len(caplog.records) == 1 and "settings are ignored" in caplog.text and len(caplog.text) < 400
    assert read_settings(path) == {}


@pytest.mark.parametrize("text", ["", "made by hand", "{}", "[]", "12", "svd", None, b"\xff\xfe"])
def test_other_texts_are_no_settings_and_no_fault(text):
    assert parse_settings(text).metadata == {} and parse_settings(text).fault == ""


def test_settings_are_read_back():
    assert parse_settings(embedded(fps="15/2")).fps == Fraction(15, 2)
    assert parse_settings(embedded().encode()).size == (64, 48)
    nested = json.loads('{"a":' * 15 + "1" + "}" * 15)
    assert parse_settings(embedded(nested)).metadata == nested


@pytest.mark.parametrize(
    ("size", "rate", "shape", "fps", "words"),
    [
        ((64, 48), "7", (48, 64), 7, []),
        ((63, 47), "7", (47, 63), 7, []),
        ((62, 48), "7", (48, 64), 7, ["was resized: 64x48 pixels, written at 62x48"]),
        ((32, 24), "7", (48, 64), 7, ["was resized"]),
        ((128, 96), "7", (48, 64), 7, ["was resized"]),
        ((64, 48), "14", (48, 64), 7, ["was retimed: 7 fps, written at 14"]),
        ((64, 48), "701/100", (48, 64), 7, ["was retimed"]),
        ((64, 48), "7007/1001", (48, 64), 7, []),
        ((32, 24), "12", (48, 64), 7, ["was resized", "was retimed"]),
    ],
)
def test_size_and_rate_of_the_file_are_true(tmp_path: Path, caplog, size, rate, shape, fps, words):
    path = with_comment(tmp_path / "clip.mp4", embedded(fps=rate, size=size))
    frames, found, settings = read_clip(path)
    assert frames.shape[1:3] == shape and found == pytest.approx(fps) and settings == {"seed": 3}
    assert len(caplog.records) == len(words) and all(word in caplog.text for word in words)


@pytest.mark.parametrize("name", ["clip.webp", "clip.gif"])
def test_a_retimed_animation_has_the_rate_of_the_file(tmp_path: Path, name: str, caplog):
    path = write_clip(torch.rand(4, 16, 16, 3), tmp_path / name, fps=7, metadata={"seed": 3})
    with Image.open(path) as picture:
        text = picture.info.get("comment") or picture.getexif()[0x010E]
        frames = []
        for index in range(4):
            picture.seek(index)
            frames.append(picture.convert("RGB"))
    exif = Image.Exif()
    exif[0x010E] = text if isinstance(text, str) else text.decode()
    options = {"exif": exif} if name.endswith("webp") else {"comment": text}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=250, **options)
    assert read_clip(path)[1:] == (4.0, {"seed": 3}) and "retimed: 4 fps, written at 7" in caplog.text


def test_a_comment_in_capitals_is_found(tmp_path: Path):
    path = write_clip(torch.rand(2, 16, 16, 3), tmp_path / "clip.webm", fps=7, metadata={"seed": 5})
    assert read_settings(path) == {"seed": 5}  # Matroska writes COMMENT


def test_a_video_cut_short_is_said_in_one_sentence(tmp_path: Path):
    whole = (DATA / "alpha_vp9.webm").read_bytes()
    (tmp_path / "cut.webm").write_bytes(whole[:300])
    with pytest.raises(ValueError, match=r"clip .*cut.webm .*cut short"):
        read_clip(tmp_path / "cut.webm")
    damaged = bytearray((DATA / "bt709.mp4").read_bytes())
    del damaged[len(damaged) // 2 :]
    (tmp_path / "half.mp4").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"clip .*half.mp4 cannot be read"):
        read_clip(tmp_path / "half.mp4")


def test_a_file_of_sound_has_no_frames(tmp_path: Path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="holds no frames"):
        open_clip(tmp_path / "sound.mp4")


def test_a_video_that_changes_its_size_is_refused(tmp_path: Path):
    """Two H.264 streams of different sizes, one after the other."""
    content = b""
    for width in (64, 96):
        with av.open(str(tmp_path / f"{width}.h264"), "w") as container:
            stream = container.add_stream("libx264", rate=7, options={"qp": "0", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
            for _ in range(2):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, width, 3), np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        content += (tmp_path / f"{width}.h264").read_bytes()
    (tmp_path / "both.h264").write_bytes(content)
    with pytest.raises(ValueError, match="changes from 64x48 to 96x48 pixels; convert it to one size"):
        read_clip(tmp_path / "both.h264")
