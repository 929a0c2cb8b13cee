"""Long work asks whether to stop at least about every second: attention, encoding, decoding, reading, fingerprints."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from svd_core import stopping
from svd_core.checkpoints import load_model
from svd_core.networks import attention
from svd_core.networks.attention import QUERIES_ON_CPU, attend
from svd_core.stopping import ask_between, stop_if_asked
from svd_core.training.data.sources import VideoFile
from svd_core.video import open_clip, read_clip, write_clip


class Stopped(Exception):
    """What a host raises."""


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """The questions asked so far."""
    monkeypatch.setattr(stopping, "_questions", [])
    found: list[int] = []

    def question() -> None:
        found.append(len(found))

    ask_between(question)
    ask_between(question)
    return found


def test_a_question_is_registered_once_and_asked_each_time(asked: list):
    stop_if_asked()
    stop_if_asked()
    assert len(asked) == 2


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize(("rows", "queries", "keys"), [(1, 1500, 1500), (1, 1024, 700), (5, 600, 600), (3, 40, 900)])
def test_long_attention_on_a_cpu_is_sliced_without_changing_a_bit(monkeypatch, asked, rows, queries, keys, strided):
    generator = torch.Generator().manual_seed(1)

    def tokens(length: int) -> torch.Tensor:
        if strided:  # as the pixels of a frame come
            return torch.randn(rows, 2, 32, length, generator=generator).transpose(2, 3)
        return torch.randn(rows, 2, length, 32, generator=generator)

    q, k, v = tokens(queries), tokens(keys), tokens(keys)
    with torch.no_grad():
        whole = attend(q, k, v)
        assert not asked
        monkeypatch.setattr(attention, "WORK_ON_CPU", 1)
        sliced = attend(q, k, v)
    pieces = -(-queries // QUERIES_ON_CPU) * (rows if queries > QUERIES_ON_CPU // 2 else -(-rows // (512 // queries)))
    assert len(asked) == (0 if pieces == 1 else pieces) and torch.equal(whole, sliced)


def test_gradients_are_not_sliced(monkeypatch, asked: list):
    monkeypatch.setattr(attention, "WORK_ON_CPU", 1)
    q = torch.randn(1, 1, 1500, 8, requires_grad=True)
    attend(q, q, q).sum().backward()
    assert not asked and q.grad is not None


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = torch.rand(6, 32, 48, 3, generator=torch.Generator().manual_seed(2))
    return write_clip(frames, tmp_path / "film.mp4", fps=7)


def stop_at_once(monkeypatch) -> None:
    def question() -> None:
        raise Stopped

    monkeypatch.setattr(stopping, "_questions", [question])


def read_all(film: Path) -> None:
    read_clip(film)


def count(film: Path) -> None:
    with open_clip(film) as clip:
        len(clip)


def animation(film: Path) -> None:
    Image.new("RGB", (8, 8)).save(film.with_suffix(".gif"), save_all=True, append_images=[Image.new("RGB", (8, 8), 9)])
    open_clip(film.with_suffix(".gif"))


def folder(film: Path) -> None:
    Image.new("RGB", (8, 8)).save(film.parent / "a_1.png")
    open_clip(film.parent)


def encode(film: Path) -> None:
    load_model("nano").encode_latent(torch.zeros(1, 3, 64, 64))


def fingerprint(film: Path) -> None:
    VideoFile(film).fingerprint()


@pytest.mark.parametrize("work", [read_all, count, animation, folder, encode, fingerprint])
def test_work_ends_where_the_user_asks_for_it(film: Path, monkeypatch, work):
    stop_at_once(monkeypatch)
    with pytest.raises(Stopped):
        work(film)


def test_a_film_asks_for_every_frame(film: Path, asked: list):
    read_all(film)
    assert len(asked) == 6
