"""Where a workflow may read and write: the one place that checks paths and names which a workflow brings.

Workflows come from strangers. They may read in ComfyUI's input, output, temp and models folders, and write in its
output folder. A user allows more folders by naming them in `allowed_folders.txt` beside this pack's `__init__.py`.
"""

import logging
import os
import tempfile
from pathlib import Path

from ...svd_core.files import fits_a_name, printable
from . import comfy as host

ALLOWED_FILE = Path(__file__).resolve().parents[2] / "allowed_folders.txt"
MOST_BYTES = 100_000  # of ALLOWED_FILE
LONGEST_NAME = 200  # bytes; file systems allow 255, and temporary files and licence notices have longer names
FORBIDDEN = set('<>:"/\\|?*')  # on Windows; everywhere, so that a name works on the next machine too

log = logging.getLogger("svd_reel")


def readable(text: str, what: str) -> Path:
    """Return the path that a workflow names; a relative one is in ComfyUI's input folder.

    Links that the user made inside the folders are followed. Raises ValueError for a path outside them, whether it
    exists or not, and for text that cannot be a path.
    """
    try:
        path = Path(text.strip()).expanduser()
    except RuntimeError:  # ~name of an unknown user
        path = None
    fits = path is not None and text.isprintable() and all(map(fits_a_name, path.parts))
    if not fits or not text.strip():
        raise ValueError(
            f"{what} {printable(text)!r} cannot be a path; name a file or folder in ComfyUI's input folder"
        )
    # Without following links: `..` is removed from the text, and links below a folder are the user's own.
    path = Path(os.path.abspath(path if path.is_absolute() else host.input_folder() / path))
    if not any(_is_inside(path, root) for root in readable_folders()):
        raise ValueError(
            f"{what} {printable(text)!r} is outside ComfyUI's input, output, temp and models folders, so a workflow "
            f"may not read it; move it there, or add its folder as a line to {ALLOWED_FILE}"
        )
    return path


def readable_folders() -> list[Path]:
    """Return the folders in which workflows may read: those of the host, and those that the user allowed."""
    if host.PRESENT:
        folders = [host.input_folder(), host.output_folder(), *host.temp_and_models_folders()]
    else:
        folders = [host.input_folder(), host.output_folder(), Path(tempfile.gettempdir())]
    return [*folders, *_allowed_folders()]


def plain_name(text: str, what: str) -> str:
    """Return the name of a new file or folder without its extension.

    Raises ValueError for names with folders, hidden names, names that Windows forbids, and long names.
    """
    name = text.strip().removesuffix(".safetensors")
    wrong = sorted(FORBIDDEN & set(name))
    if not name or wrong or name.startswith(".") or name.endswith(".") or not name.isprintable():
        raise ValueError(
            f"{what} must be a plain name without folders, {''.join(sorted(FORBIDDEN))} or a dot at its start or end "
            f"(got {printable(text)!r}); use a name such as my_model"
        )
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(
            f"{what} must be at most {LONGEST_NAME} bytes long (got {len(os.fsencode(name))}); shorten the name"
        )
    return name


def save_folder(kind: str) -> Path:
    """Return the folder of the output folder for new models of one kind; the host lists it among its models."""
    folder = host.output_folder() / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def profile_file() -> Path:
    """Return the file in the output folder that keeps what Check My Setup measured; it may not exist."""
    return host.output_folder() / "svd_reel" / "profile.json"


def _is_inside(path: Path, root: Path) -> bool:
    """Return whether an absolute path is in a folder by its text; the folder may itself be a link."""
    for folder in (os.path.abspath(root), os.path.realpath(root)):
        plain = [os.path.normcase(text) for text in (path, folder)]
        try:
            if os.path.commonpath(plain) == plain[1]:
                return True
        except ValueError:  # different drives of Windows
            continue
    return False


def _allowed_folders() -> list[Path]:
    """Return the folders of ALLOWED_FILE, one on each line; lines that start with # are comments."""
    try:
        with ALLOWED_FILE.open(encoding="utf-8") as file:
            lines = [line.strip() for line in file.read(MOST_BYTES).splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s is not read (%s); save it as UTF-8 text", ALLOWED_FILE, error)
        return []
    folders = [Path(line).expanduser() for line in lines if line and not line.startswith("#")]
    for folder in folders:
        if not folder.is_absolute():
            log.warning("%s names %s, which is no absolute path; it is ignored", ALLOWED_FILE.name, folder)
    return [folder for folder in folders if folder.is_absolute()]
