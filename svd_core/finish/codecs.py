"""The kinds of film files: encoders, containers, number formats, and what quality 0..100 means to each."""

from dataclasses import dataclass

import av

BIT_DEPTHS = (8, 10)


@dataclass(frozen=True)
class Codec:
    """One way to write a film. formats: FFmpeg's pixel format by bits; suffix picks the container."""

    name: str
    encoder: str
    suffix: str
    container: str
    formats: dict[int, str]
    sound: tuple[str, ...]
    spoken: str


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
# Above 8 bits players guess wrong least with these.
TAGS = {"h265": "hvc1"}  # as Apple's players want it


def find_codec(name: str, bit_depth: int) -> Codec:
    """The codec, if this PyAV can write it with that many bits; ValueError that says what it can do otherwise."""
    if name not in CODECS:
        raise ValueError(f"codec {name!r} is unknown; use {', '.join(CODECS)}")
    codec = CODECS[name]
    if bit_depth not in codec.formats:
        able = " or ".join(map(str, codec.formats))
        raise ValueError(f"{name} has no {bit_depth} bits here; use bit depth {able}")
    formats = encoder_formats(codec.encoder)
    if formats is None:
        raise ValueError(f"this PyAV was built without {codec.encoder}; choose {' or '.join(available()) or 'another'}")
    if formats and codec.formats[bit_depth] not in formats:
        raise ValueError(f"this PyAV's {codec.encoder} has no {bit_depth} bits; use 8, or 10 with h264 or h265")
    return codec


def encoder_formats(encoder: str) -> list[str] | None:
    """Pixel formats that an encoder of this PyAV takes, empty if it does not say; None if there is no such encoder."""
    try:
        found = av.codec.Codec(encoder, "w")
    except ValueError:  # PyAV's UnknownCodecError
        return None
    return [entry.name for entry in found.video_formats or ()]


def available() -> list[str]:
    """Names of the codecs that this PyAV can write."""
    return [name for name, codec in CODECS.items() if encoder_formats(codec.encoder) is not None]


def codec_for(suffix: str) -> str:
    """The codec that a file name asks for."""
    for name, codec in CODECS.items():
        if codec.suffix == suffix.lower():
            return name
    raise ValueError(f"a film cannot be a {suffix or 'file without suffix'}; use .mp4, .webm or .mov")


def encoder_options(codec: Codec, quality: int) -> dict[str, str]:
    """Constant quality: 90 is visually lossless for most films, 70 good for the web."""
    lower = 100 - quality
    if codec.name == "h264":
        # As in video/encoded; a shorter look-ahead, since forty frames of 4K are half a gigabyte.
        return {"crf": str(min(51, round(12 + lower * 0.5))), "mbtree": "0", "rc-lookahead": "10"}
    if codec.name == "h265":
        return {"crf": str(min(51, round(14 + lower * 0.5))), "x265-params": "log-level=error:rc-lookahead=10"}
    if codec.name == "vp9":
        return {"crf": str(min(63, round(15 + lower * 0.8))), "b": "0", "cpu-used": "4", "row-mt": "1"}
    profile = 3 if quality >= 80 else 2 if quality >= 50 else 1
    return {"profile": str(profile), "vendor": "apl0"}
