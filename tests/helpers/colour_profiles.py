"""Minimal ICC profiles of version 2, written by hand, and what they mean as formulas."""

import struct

import numpy as np

# Columns: XYZ of red, green and blue relative to the D50 white of ICC, from the primaries by Bradford adaptation.
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
DISPLAY_P3 = np.array(
    [[0.5151187, 0.2919778, 0.1571035], [0.2411892, 0.6922441, 0.0665668], [-0.0010505, 0.0418791, 0.7840713]]
)
ADOBE_RGB = np.array(
    [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
)
D50 = (0.9642, 1.0, 0.8249)


def icc_profile(matrix: np.ndarray | None, gamma: float) -> bytes:
    """Return the profile of RGB with these primaries, or of grey for None, whose values are encoded by `gamma`."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)}
    tags[b"wtpt"] = _xyz(D50)
    if matrix is None:
        tags[b"kTRC"] = curve
    else:
        tags |= {name + b"XYZ": _xyz(matrix[:, index]) for index, name in enumerate((b"r", b"g", b"b"))}
        tags |= {name + b"TRC": curve for name in (b"r", b"g", b"b")}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"test", 0x02400000, b"mntr", _space(matrix), b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", *(round(65536 * value) for value in D50))
    return header.ljust(128, b"\0") + table + body


def _space(matrix: np.ndarray | None) -> bytes:
    return b"GRAY" if matrix is None else b"RGB "


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">iii", *(round(65536 * value) for value in values))


def srgb_of(levels: np.ndarray, matrix: np.ndarray | None, gamma: float) -> np.ndarray:
    """Return levels [..., 3] in 0..255 of such a profile as sRGB in 0..1, by the formulas of IEC 61966-2-1."""
    linear = (levels / 255.0) ** gamma
    if matrix is not None:
        linear = linear @ (np.linalg.inv(SRGB) @ matrix).T
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
