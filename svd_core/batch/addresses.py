"""Files behind addresses such as s3://bucket/photo.jpg, copied to this machine through fsspec before they are used."""

import hashlib
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import replacing

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
CACHE = Path(tempfile.gettempdir()) / "svd_reel_batch"
"""Where models, and clips whose upload failed, are kept for the next run on this machine."""


class AddressError(ValueError):
    """An address that cannot be read or written."""


def is_address(path: str | Path | None) -> bool:
    """Return whether a path is an address, such as s3://bucket/photo.jpg."""
    return bool(SCHEME.match(str(path or "")))


@contextmanager
def answering(address: str) -> Iterator[None]:
    """Turn what fsspec and its file systems raise into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{address} does not exist; check the address and the credentials") from None
    except ImportError as error:
        raise AddressError(f'{address} needs a package ({error}); run `pip install "svd-reel[cloud]"`') from None
    except (OSError, ValueError) as error:
        if isinstance(error, AddressError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AddressError(f"{address} cannot be reached ({reason}); check the address and the credentials") from None


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise AddressError(f'{address} needs fsspec; run `pip install "svd-reel[cloud]"`') from None
    with answering(address):
        return fsspec.core.url_to_fs(address)


def copy_of(address: str, folder: Path) -> Path:
    """Copy the file or the folder at an address into `folder` and return its path there."""
    system, path = file_system(address)
    target = folder / posixpath.basename(path.rstrip("/"))
    with answering(address):
        if system.isdir(path):
            for file in system.find(path):
                place = target / posixpath.relpath(file, path.rstrip("/"))
                if not place.resolve().is_relative_to(target.resolve()):
                    raise AddressError(f"{address} lists {file}, which lies outside it; use another address")
                place.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(file, str(place))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            system.get_file(path, str(target))
    return target


def local_model(path: str) -> str:
    """Return the path of a model on this machine; one behind an address is copied once, and again when it changes."""
    if not is_address(path):
        return path
    system, place = file_system(path)
    with answering(path):
        state = f"{path} {system.ukey(place)}"
    kept = CACHE / hashlib.sha256(state.encode()).hexdigest()[:24]
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary:
            temporary.mkdir()
            copy_of(path, temporary)
    return str(next(kept.iterdir()))


def locator(base: str | Path | None, folder: Path) -> Callable[[str], Path]:
    """Return a function from the path of a picture, as a table has it, to a file of this machine.

    base: the folder or the address that relative paths belong to. folder: where pictures behind addresses are copied.
    """

    def locate(cell: str) -> Path:
        address = cell if is_address(cell) else f"{str(base).rstrip('/')}/{cell}" if is_address(base) else None
        if address is None:
            return Path(cell) if base is None else Path(base) / cell
        place = folder / hashlib.sha256(address.encode()).hexdigest()[:16]
        known = place / posixpath.basename(address)
        return known if known.exists() else copy_of(address, place)

    return locate
