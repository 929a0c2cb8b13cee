"""Hand files to FFmpeg by path alone: never as a URL, a number pattern or a playlist that opens other files."""

import os
from os import PathLike

import av
from av.container import InputContainer, OutputContainer

# Containers that hold frames or sound themselves. Playlists (HLS, DASH, concat) would make FFmpeg open what they name.
FORMATS = (
    "aac,ac3,aiff,apng,asf,avi,avif,caf,dv,eac3,flac,flv,gif,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp3,mpeg,mpegts,"
    "mpegvideo,mxf,nut,ogg,rm,w64,wav,yuv4mpegpipe"
)


def media_url(path: str | PathLike) -> str:
    """Return the URL of a file; without its scheme FFmpeg reads "a:b.mp4" as the protocol a, and opens no file."""
    return f"file:{os.path.abspath(path)}"


def open_input(path: str | PathLike) -> InputContainer:
    """Open a video or audio file. Raises av.FFmpegError or OSError for a file that is neither."""
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    return av.open(media_url(path), options=options, metadata_errors="replace")


def open_output(path: str | PathLike, container: str, options: dict[str, str]) -> OutputContainer:
    """Open a file to be written in a container format of FFmpeg."""
    return av.open(media_url(path), "w", format=container, options=options)
