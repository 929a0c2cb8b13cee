"""A shared workflow reads only in ComfyUI's own folders and writes only in its output folder, whatever it names."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.helpers.nodes_pack import part, run

OUTSIDE = (
    "{secret}", "{secret}/deep", "{inside}/../../secret", "../secret", "a/../../secret", "/", "/etc", "/etc/passwd",
    "~", "~root", "~nobody-here/x", "~/videos", "//server/share", "/proc/self", "..", "../", "/dev/zero",
    "{secret}/../secret",
    "{inside}x", "{inside}/..", "{inside}/" + "x" * 3000, "x" * 3000,
    "file:///etc/passwd/../../../..", "nul\0byte", "line\nbreak", "\x1b[31m", " ",
)  # fmt: skip
NAMES = (
    "../evil", "/evil", "a/b", "..", ".", "", ".hidden", "evil\0", "evil\nname", "a" * 300, "a\\b", "C:evil",
    "evil|", 'e"vil', "evil.", "\x1b[31m",
)  # fmt: skip


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A host whose folders are below tmp_path / "comfy", and a folder with secrets beside it."""
    host, paths = part("nodes.host.comfy"), part("nodes.host.paths")
    found = {name: tmp_path / "comfy" / name for name in ("input", "output", "temp", "models")}
    for folder in (*found.values(), tmp_path / "secret"):
        folder.mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(folder / "photo.png")
    monkeypatch.setattr(host, "input_folder", lambda: found["input"])
    monkeypatch.setattr(host, "output_folder", lambda: found["output"])
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: str(found["temp"]))
    monkeypatch.setattr(paths, "ALLOWED_FILE", tmp_path / "allowed_folders.txt")
    return {**found, "secret": tmp_path / "secret", "allowed": tmp_path / "allowed_folders.txt"}


def training_set(folder: str) -> tuple:
    return run("SVDReelTrainingSet", folder=folder, camera_move="pan left")


def filmed(name: str) -> None:
    module = part("nodes.storyboard")
    panel = part("svd_core.storyboard").Panel(image=name, row="row 1")
    module._picture(panel, 0, None)


@pytest.mark.parametrize("read", [training_set, filmed])
@pytest.mark.parametrize("text", OUTSIDE)
def test_nothing_outside_the_folders_is_read(folders, read, text):
    text = text.format(secret=folders["secret"], inside=folders["input"])
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read(text)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 500
    assert "no training data" in said or "outside" in said or "cannot be a path" in said or "batch holds" in said


def test_what_is_outside_is_refused_in_the_same_words_whether_it_exists_or_not(folders):
    said = []
    for name in ("photo.png", "absent.png"):
        with pytest.raises(ValueError, match="outside") as caught:
            filmed(f"{folders['secret']}/{name}")
        said.append(str(caught.value).replace(name, ""))
    assert said[0] == said[1]


def test_the_folders_of_the_host_are_read(folders):
    for text in ("", ".", str(folders["input"]), str(folders["temp"]), str(folders["output"]), "../output"):
        if text:
            assert "1 source" in training_set(text)[1]
    filmed("photo.png")
    filmed("./photo.png")


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_that_the_user_made_inside_are_followed(folders):
    (folders["input"] / "mine").symlink_to(folders["secret"])
    assert "1 source" in training_set("mine")[1]
    filmed("mine/photo.png")
    with pytest.raises(ValueError, match="outside"):
        training_set("mine/../../secret")


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_the_input_folder_may_be_a_link_itself(folders, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(folders["input"])
    monkeypatch.setattr(part("nodes.host.comfy"), "input_folder", lambda: tmp_path / "link")
    assert "1 source" in training_set(str(folders["input"]))[1]
    assert "1 source" in training_set(".")[1]


def test_the_user_allows_more_folders_in_a_file_beside_the_pack(folders):
    folders["allowed"].write_text(f"# my videos\n\nrelative/folder\n{folders['secret']}\n", encoding="utf-8")
    assert "1 source" in training_set(str(folders["secret"]))[1]
    filmed(f"{folders['secret']}/photo.png")
    with pytest.raises(ValueError, match="outside"):
        training_set(str(folders["secret"].parent))
    folders["allowed"].write_bytes(b"\xff\xfe\0")
    with pytest.raises(ValueError, match="outside"):
        training_set(str(folders["secret"]))


@pytest.mark.parametrize("name", NAMES)
def test_names_of_saved_files_stay_in_the_output_folder(folders, name):
    plain_name = part("nodes.host.paths").plain_name
    with pytest.raises(ValueError, match="plain name|at most 200 bytes") as caught:
        plain_name(name, "name")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300
    with pytest.raises(ValueError, match="plain name|at most 200 bytes"):
        part("nodes.model_info")._target("svd", name, "single")


def test_every_file_is_saved_in_the_output_folder(folders, monkeypatch):
    before = {path for path in folders["secret"].parent.rglob("*") if folders["output"] not in path.parents}
    adapters = {"out.2": (torch.rand(1, 4), torch.rand(4, 1), 1.0)}
    lora = type("Trained", (), {"adapters": adapters, "notes": {"base_model": "nano"}})()
    monkeypatch.setattr(part("nodes.host.comfy"), "model_roots", lambda folder: [str(folders["models"] / folder)])
    saved = [run("SVDReelSaveLora", lora=lora, name="mine")[0] for _ in range(2)]
    assert [Path(path).name for path in saved] == ["mine.safetensors", "mine_2.safetensors"]
    made = run("SVDReelModelInfo", model_name="nano (embedded)", fix="extract the VAE")["result"][1]
    assert all(folders["output"] in Path(path).parents for path in (*saved, made))
    after = {path for path in folders["secret"].parent.rglob("*") if folders["output"] not in path.parents}
    assert after == before


def test_a_notice_of_somebody_else_is_never_overwritten(folders):
    notice_path = part("svd_core.checkpoints.licence").notice_path
    file = folders["output"] / "mine.safetensors"
    other = folders["output"] / "mine.NOTICE.txt"
    assert notice_path(file) == other
    other.write_text("Notice for mine.safetensors\nours")
    assert notice_path(file) == other
    other.write_text("Copyright of somebody else")
    assert notice_path(file).name == "mine.NOTICE.2.txt"
    notice_path(file).mkdir()
    assert notice_path(file).name == "mine.NOTICE.3.txt"


def test_every_text_of_a_node_that_may_be_a_path_is_in_this_file():
    """A new text input is either checked as a path, or listed here as something else."""
    no_paths = {
        "background", "trigger", "camera_move", "move", "panels", "buckets", "seeds", "sigma_max", "fps", "seams",
        "path", "scale", "rotation", "camera", "curve", "points", "filename_prefix", "new_name", "name", "sigmas",
        "bucket_curve", "fps_curve", "azimuths", "elevations", "painted",
        "objects", "camera_strength", "strength_curve", "poses",
    }  # fmt: skip
    found = set()
    for node in part("nodes").NODE_CLASS_MAPPINGS.values():
        groups = node.INPUT_TYPES()
        entries = {**groups["required"], **groups.get("optional", {})}
        found |= {name for name, (kind, _) in entries.items() if kind == "STRING"}
    assert found - no_paths == {"folder"}
