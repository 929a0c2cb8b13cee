"""Write files whole or not at all, and read JSON that anybody may have written.

Everything the project writes goes through `replacing`: the content is written under a temporary name in the same
folder, flushed to the disk, and then renamed over the old file. A crash, a full disk or a kill at any moment leaves
either the old content or the new one.

Every JSON text that comes out of a file goes through `parse_json`: it limits size, depth and numbers, so that a
hostile file ends in one sentence. `printable` makes text from a file safe to show.
"""

import errno
import json
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import psutil

PART_SUFFIX, OLD_SUFFIX = ".part", ".old"
MOST_NAME = 255  # bytes of the name of a file or folder, which file systems allow
NAME_BYTES = 200  # of a file's own name in a temporary one: file systems allow 255 bytes
HIDDEN = re.compile(
    r"\.(?P<name>.+)\.((?P<machine>[0-9a-f]{4})(?P<process>[0-9a-f]{8}))?[0-9a-f]{8}(?P<suffix>\.part|\.old)", re.DOTALL
)
MACHINE = f"{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}"
ABANDONED = 24 * 3600.0  # seconds after which a file of another machine, whose processes cannot be seen, is a leftover
CLOCK_DIFFERENCE = 60.0  # seconds between the clock of a file server and that of this machine
STREAMS = ("/dev/stdout", "/dev/stderr")
STREAM_FOLDERS = ("/dev/fd/", "/proc/self/fd/")
REMEDIES = {
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EACCES: "choose another folder",
    errno.EPERM: "choose another folder",
    errno.EROFS: "choose another folder",
}
JSON_BYTES = 20_000_000
JSON_DEPTH = 64
ALL_ZEROS = bytes.maketrans(b"0123456789", b"0" * 10)
LONG_NUMBER = b"0" * 19  # of text with ALL_ZEROS; 64 bits reach to 19 digits
MOST_PATH = 1000  # characters of a path in a message
SHOWN = 80  # characters of a text from a file in a message


class JsonError(ValueError):
    """Invalid or unsafe JSON; the message gives the reason and fits into a sentence."""


_own: set[Path] = set()
"""Temporary files and folders that this process is writing now."""


@contextmanager
def replacing(path: str | PathLike) -> Iterator[Path]:
    """Yield a temporary name for a file or folder that takes the place of `path` at the end.

    The caller makes the file or folder under that name. On success it is flushed to the disk and renamed over `path`;
    on any exception it is removed, and `path` stays as it was. A file keeps the permissions of the one it replaces.
    A symbolic link stays, and the file it points to is replaced. Devices, pipes and /dev/stdout are written to, never
    replaced. Raises OSError where nothing can be written.
    """
    if is_stream(path):
        with _copied_into(Path(path)) as temporary:
            yield temporary
        return
    target = _followed(path)
    temporary = _hidden_name(target, PART_SUFFIX)
    mode = _mode_for(target, temporary)
    _own.add(temporary.absolute())
    try:
        yield temporary
        if temporary.is_dir():
            _sync_folder_content(temporary)
            _replace_folder(temporary, target)
        else:
            _sync_file(temporary)
            if stat.S_IMODE(temporary.stat().st_mode) != mode:
                temporary.chmod(mode)
            os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise
    finally:
        _own.discard(temporary.absolute())
    _sync_folder(target.parent)


def write_bytes(path: str | PathLike, content: bytes) -> None:
    """Replace the content of `path`. Raises OSError with one sentence where that fails."""
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise write_error(path, error) from error


def write_text(path: str | PathLike, text: str) -> None:
    """Replace the content of `path` by UTF-8 text; line ends are written as they are in `text`."""
    write_bytes(path, text.encode())


def write_json(path: str | PathLike, value: Any, *, indent: int | None = 1) -> None:
    """Replace the content of `path` by JSON with a line end. Raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def check_writable(path: str | PathLike) -> None:
    """Raise OSError with one sentence where `path` cannot be written or replaced."""
    if is_stream(path):
        return
    target = _followed(path)
    try:
        _mode_for(target, _hidden_name(target, PART_SUFFIX))
    except OSError as error:
        raise write_error(path, error) from error


class WriteError(OSError):
    """A file that could not be written; the message says which, why, and what to do."""


def write_error(path: str | PathLike, error: BaseException) -> OSError:
    """Return the one sentence for a file that could not be written, as an OSError with the same errno."""
    if isinstance(error, WriteError):
        return error
    code = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    remedy = REMEDIES.get(code, "free space or choose another folder")
    wrapped = WriteError(f"cannot write {printable(os.fspath(path), MOST_PATH)} ({reason}); {remedy}")
    wrapped.errno = code
    return wrapped


def remove_leftovers(folder: str | PathLike, name: str = "") -> None:
    """Remove the temporary files and folders that killed processes left in `folder`, of the file `name` or of any.

    A folder that was moved aside when the process died is put back. Files of running processes stay, and so do those
    that another machine wrote to within the last day.
    """
    folder = Path(folder)
    names = sorted(name for name in os.listdir(folder) if name.startswith(".")) if folder.is_dir() else []
    for entry in map(folder.joinpath, names):
        found = HIDDEN.fullmatch(entry.name)
        if found is None or (name and found["name"] != _short(name)) or _in_use(entry, found):
            continue
        target = folder / (name or found["name"])
        if found["suffix"] == OLD_SUFFIX and not target.exists():
            entry.rename(target)
        else:
            _remove(entry)


def _in_use(entry: Path, found: re.Match[str]) -> bool:
    """Return whether the process that made a temporary file is still running."""
    if found["process"] is None:
        return False
    changed = entry.lstat().st_mtime
    if found["machine"] != MACHINE:
        return time.time() - changed < ABANDONED
    number = int(found["process"], 16)
    if number == os.getpid():
        return entry.absolute() in _own
    try:
        return psutil.Process(number).create_time() < changed + CLOCK_DIFFERENCE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def is_stream(path: str | PathLike) -> bool:
    """Return whether `path` is a device, a pipe or a standard stream, which must be written to and not replaced."""
    text = os.path.abspath(path)
    if text in STREAMS or text.startswith(STREAM_FOLDERS):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def _copied_into(stream: Path) -> Iterator[Path]:
    """Yield a name in the system's temporary folder; its content is appended to `stream` at the end."""
    with tempfile.TemporaryDirectory(prefix="svd_reel") as folder:
        temporary = Path(folder) / stream.name
        yield temporary
        with temporary.open("rb") as source, stream.open("ab") as file:
            shutil.copyfileobj(source, file)


def _followed(path: str | PathLike) -> Path:
    """Return what `path` points to where it is a symbolic link, and `path` itself otherwise."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def _hidden_name(target: Path, suffix: str) -> Path:
    """Return a new hidden name beside `target`: on the same file system, so that the rename is atomic."""
    owner = f"{MACHINE}{os.getpid():08x}"
    return target.with_name(f".{_short(target.name)}.{owner}{secrets.token_hex(4)}{suffix}")


def _short(name: str) -> str:
    return os.fsencode(name)[:NAME_BYTES].decode(errors="ignore")


def _mode_for(target: Path, probe: Path) -> int:
    """Return the permissions for a new file at `target`, and raise OSError where none can be made there.

    Those of the file it replaces, or what the system gives a new file. The second is read from a file made for it,
    because libraries may create files that only their owner can read.
    """
    probe.touch(exist_ok=False)
    mode = probe.stat().st_mode
    probe.unlink()
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
    return stat.S_IMODE(mode)


def _replace_folder(temporary: Path, target: Path) -> None:
    """Move a folder to `target`. Python cannot exchange two folders in one step, so the old one moves aside first."""
    if not target.exists():
        temporary.rename(target)
        return
    old = _hidden_name(target, OLD_SUFFIX)
    _own.add(old.absolute())
    try:
        target.rename(old)
        try:
            temporary.rename(target)
        except BaseException:
            old.rename(target)
            raise
        _remove(old)
    finally:
        _own.discard(old.absolute())


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _sync_folder_content(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            _sync_file(Path(place, name))
        _sync_folder(Path(place))


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder, where the system can: Windows opens no folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def parse_json(
    text: str | bytes, *, most_bytes: int = JSON_BYTES, most_depth: int = JSON_DEPTH, unique: bool = False
) -> Any:
    """Parse JSON from a file that anybody may have made.

    Bytes may be UTF-8, UTF-16 or UTF-32, with or without a byte order mark. Raises JsonError for text that is longer
    than `most_bytes` or nested deeper than `most_depth`, for NaN, infinity and numbers beyond 64 bits, for lone
    surrogates, with `unique` for a key that an object has twice, and for everything that is not JSON.
    """
    if len(text) > most_bytes:
        raise JsonError(f"{len(text):,} bytes of JSON; at most {most_bytes:,} are read")
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        # Python parses thousands of numbers by itself ten times faster than through a function. A pattern of digits
        # would take twice as long to search as the whole text takes to parse.
        is_long = LONG_NUMBER in text.encode("utf-8", "surrogatepass").translate(ALL_ZEROS)
        whole = _whole if is_long else None
        value = json.loads(
            text.removeprefix("\ufeff"),
            parse_int=whole,
            parse_float=_finite,
            parse_constant=_no_constant,
            object_pairs_hook=_unique if unique else None,
        )
    except JsonError:
        raise
    except RecursionError as error:
        raise JsonError(f"nested deeper than {most_depth} levels") from error
    except ValueError as error:  # also raised for bytes that are not text
        raise JsonError(f"not valid JSON: {printable(error)}") from error
    if _depth(value, most_depth) > most_depth:
        raise JsonError(f"nested deeper than {most_depth} levels")
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise JsonError("text with a lone surrogate, which is not valid Unicode") from error
    return value


def read_json(path: str | PathLike, *, most_bytes: int = JSON_BYTES, most_depth: int = JSON_DEPTH) -> Any:
    """Parse a JSON file as `parse_json` does. Raises JsonError, and OSError where the file cannot be read."""
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    return parse_json(content, most_bytes=most_bytes, most_depth=most_depth)


def is_whole(value: Any, least: int, most: int) -> bool:
    """Return whether a JSON value is a whole number in a range."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any, most: float) -> bool:
    """Return whether a JSON value is a finite number of at most this magnitude."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= most


def fits_a_name(name: str) -> bool:
    """Return whether the name of a file or folder is short enough for file systems, which raise for longer ones."""
    return len(os.fsencode(name)) <= MOST_NAME


def printable(text: object, most: int = SHOWN) -> str:
    """Return text that a terminal, a log or a browser can show: escapes for control characters, at most `most` long."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text)[: most + 1])
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise JsonError(f"number {printable(text, 20)} is too large")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if abs(value) == float("inf"):
        raise JsonError(f"number {printable(text, 20)} is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object from its keys and values; raise JsonError for a key that it has twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"'{printable(twice)}' twice in one object")
    return found


def _no_constant(text: str) -> None:
    raise JsonError(f"{text} is not a finite number")


def _depth(value: Any, most: int) -> int:
    """Return how deep lists and objects are nested; stops counting beyond `most`."""
    level, depth = [value], 0
    while depth <= most and (containers := [item for item in level if isinstance(item, (list, dict))]):
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
        depth += 1
    return depth


def quoted(value: object) -> str:
    """Return a value out of a file for an error: control characters escaped, and then cut after 80 characters."""
    if not isinstance(value, str):
        text = repr(value)
        return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    text = repr(value[: SHOWN + 1])
    return text if len(text) <= SHOWN + 2 else f"{text[: SHOWN + 1]}...{text[0]}"
