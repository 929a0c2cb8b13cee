"""Codecs of films: encoders, containers, pixel formats, and what quality 0..100 means to each."""

from dataclasses import dataclass

import av

BIT_DEPTHS = (8, 10)


@dataclass(frozen=True)
class Codec:
    """One codec. formats: FFmpeg's pixel format by bit depth. sound: audio encoders, the best first."""

    name: str
    encoder: str
    suffix: str
    container: str
    formats: dict[int, str]
    sound: tuple[str, ...]
    description: str


CODECS = {
    codec.name: codec
    for codec in (
        Codec("h264", "libx264", ".mp4", "mp4", {8: "yuv420p", 10: "yuv420p10le"}, ("aac",), "H.264, plays anywhere"),
        Codec("h265", "libx265", ".mp4", "mp4", {8: "yuv420p", 10: "yuv420p10le"}, ("aac",), "H.265, smaller files"),
        Codec("vp9", "libvpx-vp9", ".webm", "webm", {8: "yuv420p", 10: "yuv420p10le"}, ("libopus", "libvorbis"),
              "VP9, for browsers"),
        Codec("prores", "prores_ks", ".mov", "mov", {10: "yuv422p10le"}, ("pcm_s16le",), "ProRes 422, for editing"),
    )
}  # fmt: skip
TAGS = {"h265": "hvc1"}  # the codec tag that Apple's players require


def find_codec(name: str, bit_depth: int) -> Codec:
    """Return the codec; raise ValueError with what this PyAV supports if it cannot write it at that bit depth."""
    if name not in CODECS:
        raise ValueError(f"codec {name!r} is unknown; use {', '.join(CODECS)}")
    codec = CODECS[name]
    if bit_depth not in codec.formats:
        supported = " or ".join(map(str, codec.formats))
        raise ValueError(f"{name} does not support {bit_depth} bits; use bit depth {supported}")
    formats = encoder_formats(codec.encoder)
    if formats is None:
        raise ValueError(f"this PyAV was built without {codec.encoder}; choose {' or '.join(available()) or 'another'}")
    if formats and codec.formats[bit_depth] not in formats:
        raise ValueError(f"this PyAV's {codec.encoder} has no {bit_depth} bits; use 8, or 10 with h264 or h265")
    return codec


def encoder_formats(encoder: str) -> list[str] | None:
    """Return the pixel formats of an encoder of this PyAV, [] if it lists none; None if there is no such encoder."""
    try:
        found = av.codec.Codec(encoder, "w")
    except ValueError:  # PyAV's UnknownCodecError
        return None
    return [entry.name for entry in found.video_formats or ()]


def available() -> list[str]:
    """Return the names of the codecs that this PyAV can write."""
    return [name for name, codec in CODECS.items() if encoder_formats(codec.encoder) is not None]


def codec_for(suffix: str) -> str:
    """Return the name of the default codec for a file suffix."""
    for name, codec in CODECS.items():
        if codec.suffix == suffix.lower():
            return name
    raise ValueError(f"a film cannot be written as {suffix or 'a file without suffix'}; use .mp4, .webm or .mov")


def encoder_options(codec: Codec, quality: int) -> dict[str, str]:
    """Return the encoder's options for a constant quality: 90 is visually lossless for most films, 70 suits the web."""
    lower = 100 - quality
    if codec.name == "h264":
        # As in video/encoded, with a shorter look-ahead: its usual 40 frames take half a gigabyte at 4K.
        return {"crf": str(min(51, round(12 + lower * 0.5))), "mbtree": "0", "rc-lookahead": "10"}
    if codec.name == "h265":
        return {"crf": str(min(51, round(14 + lower * 0.5))), "x265-params": "log-level=error:rc-lookahead=10"}
    if codec.name == "vp9":
        return {"crf": str(min(63, round(15 + lower * 0.8))), "b": "0", "cpu-used": "4", "row-mt": "1"}
    profile = 3 if quality >= 80 else 2 if quality >= 50 else 1
    return {"profile": str(profile), "vendor": "apl0"}
