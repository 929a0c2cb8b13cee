"""Files are written whole or not at all, in place of files and never of devices or links."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from svd_core import files
from svd_core.files import check_writable, remove_leftovers, replacing, write_bytes, write_error, write_json, write_text

POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions and devices of POSIX")


def test_a_file_takes_its_place_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == tmp_path
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, OSError(errno.ENOSPC, "No space left on device")])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, stop: BaseException) -> None:
    target = tmp_path / "clip.mp4"
    target.write_text("old")
    with pytest.raises(type(stop) if isinstance(stop, BaseException) else stop), replacing(target) as temporary:
        temporary.write_text("half")
        raise stop
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_folders_replace_folders_and_come_back_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "frames"
    for content in ("first", "second"):
        with replacing(target) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
        assert os.listdir(target) == [content]
    assert os.listdir(tmp_path) == ["frames"]

    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if self.suffix == files.PART_SUFFIX:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Permission denied"), replacing(target) as temporary:
        temporary.mkdir()
    assert os.listdir(tmp_path) == ["frames"]
    assert os.listdir(target) == ["second"]


def test_content_reaches_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def replaced(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_bytes(tmp_path / "a", b"1")
    assert events == ["file", "rename", "folder"][: 3 if os.name == "posix" else 2]


@POSIX
def test_permissions_are_those_of_the_old_file_or_of_a_new_one(tmp_path: Path) -> None:
    old, new, plain = tmp_path / "old", tmp_path / "new", tmp_path / "plain"
    old.touch()
    old.chmod(0o640)
    plain.touch()
    for target in (old, new):
        with replacing(target) as temporary:
            temporary.touch()
            temporary.chmod(0o600)  # as some libraries create files
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@POSIX
def test_links_stay_and_what_they_point_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for target in ("there", "not_there"):
        link = tmp_path / f"link_to_{target}"
        link.symlink_to(tmp_path / "disk" / target)
        write_text(link, "new")
        assert link.is_symlink()
        assert (tmp_path / "disk" / target).read_text() == "new"


@POSIX
def test_devices_and_pipes_are_written_to_and_never_replaced(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to("/dev/null")
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    for target in ("/dev/null", link, pipe):
        check_writable(target)
        write_json(target, {"a": 1}, indent=None)
    reader.join(timeout=20)
    assert received == [b'{"a": 1}\n']
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


@pytest.mark.parametrize("name", ["n" * 250, "ü" * 125, "." + "n" * 245 + ".webp"])
def test_names_near_the_limit_of_the_file_system_work(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "new")
    assert os.listdir(tmp_path) == [name]
    hidden = files._hidden_name(tmp_path / name, files.PART_SUFFIX)
    hidden.touch()
    remove_leftovers(tmp_path, name)
    assert os.listdir(tmp_path) == [name]


def test_leftovers_of_one_name_or_of_all_are_removed(tmp_path: Path) -> None:
    mine, other = tmp_path / ".a.mp4.0123abcd.part", tmp_path / ".b.mp4.0123abcd.part"
    foreign = [tmp_path / name for name in (".a.mp4.part", ".a.mp4.0123ABCD.part", "a.mp4", ".hidden")]
    for path in (mine, other, *foreign):
        path.touch()
    remove_leftovers(tmp_path, "a.mp4")
    assert set(tmp_path.iterdir()) == {other, *foreign}
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == set(foreign)
    remove_leftovers(tmp_path / "nowhere")


def test_a_folder_that_was_moved_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    for target, kept in (("frames", "old"), ("other", "new")):
        (tmp_path / f".{target}.0123abcd.old").mkdir()
        (tmp_path / f".{target}.0123abcd.old" / "old").touch()
        if kept == "new":
            (tmp_path / target).mkdir()
            (tmp_path / target / "new").touch()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["frames", "other"]
    assert os.listdir(tmp_path / "frames") == ["old"]
    assert os.listdir(tmp_path / "other") == ["new"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"\(No space left on device\); free space or choose another",
        ),
        (OSError(errno.EACCES, "Permission denied"), r"\(Permission denied\); choose another folder$"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), r"\(File name too long\); choose a shorter name$"),
        (ValueError(), r"\(ValueError\)"),
    ],
)
def test_errors_name_the_file_the_reason_and_the_remedy(error: Exception, sentence: str) -> None:
    wrapped = write_error("a.mp4", error)
    assert wrapped.errno == getattr(error, "errno", None)
    with pytest.raises(OSError, match=rf"cannot write a\.mp4 {sentence}"):
        raise wrapped
    assert write_error("b.mp4", wrapped) is wrapped


def test_a_folder_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    for write in (lambda path: write_text(path, ""), check_writable):
        with pytest.raises(OSError, match=r"cannot write .*nowhere.a\.txt \(.*\); free space or choose another folder"):
            write(tmp_path / "nowhere" / "a.txt")


def test_json_refuses_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert os.listdir(tmp_path) == []
