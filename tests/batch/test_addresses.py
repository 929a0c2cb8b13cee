"""Batches whose inputs, model and clips are behind addresses, with the file system that fsspec keeps in memory."""

import re
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from svd_core.batch import addresses
from svd_core.batch.manifest import NAME
from svd_core.batch.remote_folder import RemoteFolder
from svd_core.cli.main import main
from svd_core.video import read_clip

QUICK = [word for setting in ("frames=2", "steps=1", "width=64", "height=64") for word in ("--set", setting)]
MEMORY = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures, a table and a mask in memory, also as files; what is kept on this machine goes to a folder."""
    monkeypatch.setattr(addresses, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("svd_core.batch.remote_folder.CACHE", tmp_path / "cache")
    MEMORY.store.clear()
    local = tmp_path / "local"
    local.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(local / f"p{index}.png")
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(local / "mask.png")
    (local / "rows.csv").write_text("image,motion_mask\np0.png,mask.png\np1.png,\n")
    for path in local.iterdir():
        MEMORY.pipe(f"/in/{path.name}", path.read_bytes())
    return local


def batch(source: str, output: str, *more: str) -> int:
    return main(["batch", source, "--output", output, "--threads", "1", "--quiet", *QUICK, *more])


def test_a_folder_behind_an_address_gives_the_clips_of_a_local_one(storage, tmp_path, capsys):
    MEMORY.rm("/in/mask.png")
    (storage / "mask.png").unlink()
    assert batch("memory://in", "memory://out") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"memory://out/p{index}.mp4" for index in range(3)]
    assert batch(str(storage), str(tmp_path / "out")) == 0
    for index in range(3):
        made = tmp_path / f"{index}.mp4"
        made.write_bytes(MEMORY.cat(f"/out/p{index}.mp4"))
        assert (read_clip(made)[0] == read_clip(tmp_path / "out" / f"p{index}.mp4")[0]).all()
    assert not list((tmp_path / "cache").glob("*/*.mp4")), "nothing stays on this machine"


def test_a_table_names_pictures_beside_it_and_elsewhere(storage, tmp_path):
    MEMORY.pipe("/other/far.png", (storage / "p2.png").read_bytes())
    MEMORY.pipe("/in/rows.csv", b"image,motion_mask\np0.png,mask.png\nmemory://other/far.png,\n")
    assert batch("memory://in/rows.csv", "memory://out") == 0
    assert {"/out/p0.mp4", "/out/far.mp4", f"/out/{NAME}"} <= set(MEMORY.store)


def test_a_resume_makes_only_what_is_missing(storage, monkeypatch):
    table = "memory://in/rows.csv"
    assert batch(table, "memory://out") == 0
    first = MEMORY.cat("/out/p0.mp4")
    MEMORY.rm("/out/p1.mp4")
    made = []
    upload = RemoteFolder.upload
    monkeypatch.setattr(
        RemoteFolder, "upload", lambda self, output: made.append(Path(output).name) or upload(self, output)
    )
    assert batch(table, "memory://out") == 0
    assert made == ["p1.mp4"] and MEMORY.cat("/out/p0.mp4") == first
    assert batch(table, "memory://out") == 0 and made == ["p1.mp4"]


def test_a_clip_whose_upload_fails_is_not_sampled_again(storage, monkeypatch, capsys):
    put, sampled = RemoteFolder._put, []

    def fail(self, path):
        if path.name == "p1.mp4":
            raise addresses.AddressError(f"{self.address} cannot be reached (no network)")
        put(self, path)

    with monkeypatch.context() as broken:
        broken.setattr(RemoteFolder, "_put", fail)
        assert batch("memory://in/rows.csv", "memory://out") == 2
    assert "memory://out cannot be reached" in capsys.readouterr().err
    monkeypatch.setattr("svd_core.batch.jobs.steered_clip", lambda *_, **__: sampled.append(1))
    assert batch("memory://in/rows.csv", "memory://out") == 0 and not sampled
    assert {"/out/p0.mp4", "/out/p1.mp4"} <= set(MEMORY.store)


def test_a_model_is_copied_once(storage, tmp_path):
    nano = Path(addresses.__file__).parents[1] / "assets" / "nano.safetensors"
    MEMORY.pipe("/models/nano.safetensors", nano.read_bytes())
    assert batch("memory://in/rows.csv", "memory://out", "--model", "memory://models/nano.safetensors") == 0
    (copy,) = (tmp_path / "cache").glob("*/nano.safetensors")
    before = copy.stat().st_mtime_ns
    assert addresses.local_model("memory://models/nano.safetensors") == str(copy)
    assert copy.stat().st_mtime_ns == before and copy.read_bytes() == nano.read_bytes()


WRONG = [
    (("warp://in", "memory://out"), "warp://in .*warp.*check the address"),
    (("memory://absent", "memory://out"), "memory://absent does not exist"),
    (("memory://in/rows.csv", "memory://out", "--kind", "frames"), "an address cannot hold; use mp4"),
    (
        ("memory://in/rows.csv", "memory://out", "--model", "memory://models/none"),
        "memory://models/none does not exist",
    ),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_what_is_not_there_is_one_sentence(words, sentence, capsys):
    assert batch(*words) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "Traceback" not in said

    assert re.search(sentence, said)


def test_files_outside_of_the_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(MEMORY, "find", lambda path: ["/in/../../etc/passwd"])
    with pytest.raises(addresses.AddressError, match="lies outside it"):
        addresses.copy_of("memory://in", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
