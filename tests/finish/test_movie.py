"""Film files: colours and tags, bits, sound, settings; never a broken file under the final name."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import pytest
import torch

import svd_core.finish.movie as movie
from svd_core.finish import CODECS, FilmOptions, Sound, check_film, write_film
from svd_core.finish.codecs import available, encoder_formats
from svd_core.video import read_clip

ROOT = Path(__file__).resolve().parents[2]
KINDS = [("h264", 8), ("h264", 10), ("h265", 8), ("h265", 10), ("vp9", 8), ("prores", 10)]


def ramp(frames: int = 6, height: int = 64, width: int = 256) -> torch.Tensor:
    """[T, H, W, 3]: red runs across, green down, blue over time."""
    across = torch.linspace(0, 1, width).expand(height, width)
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([torch.stack([across, down, torch.full_like(across, t / frames)], -1) for t in range(frames)])


def can(codec: str, bits: int) -> bool:
    formats = encoder_formats(CODECS[codec].encoder)
    return formats is not None and (not formats or CODECS[codec].formats[bits] in formats)


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def kind(request) -> tuple[str, int]:
    if not can(*request.param):
        pytest.skip("this PyAV cannot write it")
    return request.param


def test_size_count_rate_tags_and_settings_are_as_asked(tmp_path, kind):
    codec, bits = kind
    path = tmp_path / f"film{CODECS[codec].suffix}"
    options = FilmOptions(24, codec, 90, bits, metadata={"seed": 3}, texts={"workflow": {"nodes": [1]}})
    assert write_film(iter(ramp()), path, options) == 6
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        context = stream.codec_context
        assert (len(frames), context.width, context.height, stream.average_rate) == (6, 256, 64, 24)
        assert context.pix_fmt == CODECS[codec].formats[bits]
        # 1 is BT.709 for all three, and limited range.
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
        texts = {key.lower(): value for key, value in container.metadata.items()}
        assert texts["workflow"] == '{"nodes": [1]}'
        times = [frame.time for frame in frames]
        assert times == pytest.approx([index / 24 for index in range(6)], abs=1e-3)
    found, fps, settings = read_clip(path)
    assert fps == 24 and settings == {"seed": 3}
    difference = (found - ramp()) * 255
    # As for clips: the wrong matrix would leave 7 levels, full range taken as limited 10.
    assert difference.abs().mean() < 2 and difference.mean((0, 1, 2)).abs().max() < 1.5


def test_ten_bits_hold_finer_steps_than_eight(tmp_path):
    shade = torch.linspace(0.40, 0.42, 256).expand(64, 256)[..., None].expand(64, 256, 3)
    levels = {}
    for bits in (8, 10):
        path = tmp_path / f"{bits}.mp4"
        write_film(iter([shade]), path, FilmOptions(24, "h264", 100, bits))
        with av.open(str(path)) as container:
            plane = next(container.decode(video=0)).planes[0]
            kind = torch.uint8 if bits == 8 else torch.int16
            levels[bits] = len(torch.frombuffer(bytearray(plane), dtype=kind).unique())
    assert levels[10] >= 2.5 * levels[8]


def test_odd_sizes_are_written_and_come_back(tmp_path, kind):
    codec, bits = kind
    path = tmp_path / f"odd{CODECS[codec].suffix}"
    write_film(iter(ramp(3, 67, 91)), path, FilmOptions(10, codec, 90, bits))
    assert read_clip(path)[0].shape == (3, 67, 91, 3)


def test_what_x265_cannot_take_is_refused(tmp_path):
    if not can("h265", 8):
        pytest.skip("this PyAV cannot write it")
    with pytest.raises(ValueError, match="use h264"):
        write_film(iter(ramp(3, 33, 47)), tmp_path / "small.mp4", FilmOptions(10, "h265"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", ["h264", "vp9", "prores"])
def test_sound_goes_along_and_ends_with_the_picture(tmp_path, codec, channels):
    path = tmp_path / f"loud{CODECS[codec].suffix}"
    tone = torch.sin(torch.arange(3 * 44100) * 0.05).expand(channels, -1) * 0.5
    bits = min(CODECS[codec].formats)
    write_film(iter(ramp(12)), path, FilmOptions(12, codec, 90, bits, Sound(tone, 44100)))
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        heard = sum(frame.samples for frame in container.decode(stream)) / stream.rate
        assert stream.codec_context.channels == channels
    # One second of picture; encoders pad to their own block of up to 2048 samples.
    assert 0.95 < heard < 1.1


def breaking(frames: int, error: BaseException):
    """Frames that end in an error."""
    yield from ramp(frames)
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("cancelled"), OSError(5, "unreadable source")])
def test_a_cancelled_film_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)) as raised:
        write_film(breaking(3, error), tmp_path / "film.mp4", FilmOptions(24))
    assert raised.value is error and list(tmp_path.iterdir()) == []


def test_a_cancelled_film_may_stay_as_a_shorter_one(tmp_path, kind):
    codec, bits = kind
    path = tmp_path / f"film{CODECS[codec].suffix}"
    with pytest.raises(KeyboardInterrupt, match="the first 4 frames are in .*film"):
        write_film(breaking(4, KeyboardInterrupt()), path, FilmOptions(24, codec, 90, bits, keep_partial=True))
    assert len(read_clip(path)[0]) == 4 and list(tmp_path.iterdir()) == [path]


def test_an_older_film_stays_whole_until_the_new_one_is(tmp_path):
    path = tmp_path / "film.mp4"
    write_film(iter(ramp(2)), path, FilmOptions(24))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_film(breaking(3, KeyboardInterrupt()), path, FilmOptions(24))
    assert path.read_bytes() == before


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(movie._Writer, "finish", full)
    with pytest.raises(OSError, match=r"cannot write .*No space left") as raised:
        write_film(iter(ramp(3)), tmp_path / "film.mp4", FilmOptions(24, keep_partial=True))
    assert raised.value.errno == 28 and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_a_killed_process_leaves_no_film(tmp_path):
    """Nothing under the final name, however rude the end."""
    script = """
        import sys, time, torch
        from svd_core.finish import FilmOptions, write_film
        def frames():
            for index in range(1000):
                print(index, flush=True)
                time.sleep(0.02)
                yield torch.rand(64, 64, 3)
        write_film(frames(), sys.argv[1], FilmOptions(24, keep_partial=True))
    """
    path = tmp_path / "film.mp4"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        for line in process.stdout:
            if line.strip() == "10":
                break
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait(timeout=30)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        (FilmOptions(24, "h266"), "film.mp4", "h264, h265"),
        (FilmOptions(24, "prores", 90, 8), "film.mov", "bit depth 10"),
        (FilmOptions(24, "h264"), "film.webm", "ends in .mp4"),
        (FilmOptions(24, quality=200), "film.mp4", "0 to 100"),
        (FilmOptions(0), "film.mp4", "0.01 to 1000"),
        (FilmOptions(24), "absent/film.mp4", "create it first"),
    ],
)
def test_bad_settings_are_found_before_the_first_frame(tmp_path, options, name, words):
    with pytest.raises((ValueError, OSError), match=words):
        check_film(tmp_path / name, options)
    assert list(tmp_path.iterdir()) == []


def test_frames_that_are_no_frames_are_refused(tmp_path):
    for bad in (torch.full((64, 256, 3), float("nan")), torch.zeros(32, 32, 3)):
        with pytest.raises(ValueError, match="frame 1"):
            write_film(iter([ramp(1)[0], bad]), tmp_path / "film.mp4", FilmOptions(24))
    with pytest.raises(ValueError, match="0 were given"):
        write_film(iter([]), tmp_path / "film.mp4", FilmOptions(24))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_encoder_is_named_with_what_there_is(tmp_path, monkeypatch):
    import svd_core.finish.codecs as codecs

    monkeypatch.setattr(codecs, "encoder_formats", lambda name: None if name == "libx265" else [])
    with pytest.raises(ValueError, match="without libx265; choose h264"):
        check_film(tmp_path / "film.mp4", FilmOptions(24, "h265"))
    assert "h265" not in available()
