"""Convert decoded video frames to RGB: matrices, ranges, wide gamuts, and HDR tone-mapped to SDR.

Standard video (BT.601 and BT.709, limited range) is converted by swscale. Everything else is converted here: matrices
after ITU-T H.273, display-referred transfer functions after BT.1886 and BT.2100. Chroma is upsampled by swscale.
"""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

# Numbers of ITU-T H.273, as FFmpeg uses them: of matrices, primaries, transfer functions and ranges.
RGB_MATRIX, BT709, UNKNOWN, FCC, BT601, SMPTE170M, SMPTE240M, YCGCO, BT2020 = 0, 1, 2, 4, 5, 6, 7, 8, 9
P3_DCI, P3_D65 = 11, 12
PQ, HLG = 16, 18
LIMITED, FULL = 1, 2
FLOAT_WHITE = np.float32(257 / 256)  # swscale's floats have 8-bit white at 255 / 256 of 16 bits, a level too dark
GREYS = ("gray", "gray9le", "gray10le", "gray12le", "gray14le", "gray16le")
LUMA_WEIGHTS = {  # of red and blue; green has the rest
    BT709: (0.2126, 0.0722),
    FCC: (0.30, 0.11),
    BT601: (0.299, 0.114),
    SMPTE170M: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
}
HD_HEIGHT = 720  # players read untagged video of this height and more as BT.709

# Linear RGB of other primaries to that of BT.709, both with the white point D65 (BT.2087; SMPTE RP 431-2).
TO_BT709 = {
    BT2020: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730)),
    P3_D65: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}
TO_BT709[P3_DCI] = TO_BT709[P3_D65]

DISPLAY_GAMMA = 2.4  # BT.1886
WHITE = 203.0  # nits of diffuse white in HDR (BT.2408), shown as SDR white before tone mapping
PEAK = 1000.0  # nits of the brightest highlight that is still distinguished
KNEE = 0.3  # linear light up to which tone mapping changes nothing


@dataclass(frozen=True)
class Colour:
    """Colour description of a stream: numbers of H.273, UNKNOWN where the file has no tag."""

    matrix: int
    primaries: int
    transfer: int
    full_range: bool

    @classmethod
    def of(cls, frame: av.VideoFrame, context: Any) -> "Colour":
        """Return the description of a frame, or of its codec context where the frame has none."""

        def tag(name: str) -> int:
            value = int(getattr(frame, name, None) or UNKNOWN)
            return int(getattr(context, name, None) or UNKNOWN) if value == UNKNOWN else value

        matrix = int(frame.colorspace)
        if matrix == UNKNOWN:
            matrix = BT709 if frame.height >= HD_HEIGHT else BT601
        full = frame.format.name.startswith("yuvj") or int(frame.color_range) == FULL
        return cls(matrix, tag("color_primaries"), tag("color_trc"), full)

    @property
    def hdr(self) -> bool:
        """Whether the frames must be tone-mapped."""
        return self.transfer in (PQ, HLG)

    @property
    def standard(self) -> bool:
        """Whether swscale converts the frames: BT.601 or BT.709 in limited range, of usual primaries."""
        return (
            self.matrix in (BT709, BT601, SMPTE170M)
            and not self.full_range
            and not self.hdr
            and self.primaries not in TO_BT709
        )

    def check(self) -> None:
        """Raise ValueError for a matrix that cannot be converted."""
        if self.matrix not in LUMA_WEIGHTS and self.matrix not in (RGB_MATRIX, YCGCO):
            raise ValueError(f"colour matrix {self.matrix} of H.273 is not supported; convert it to BT.709 first")


def to_rgb(frame: av.VideoFrame, colour: Colour) -> Tensor:
    """Return a decoded frame as [H, W, 3 | 4] floats in 0..1: RGB of BT.709, with its alpha where it has one."""
    if frame.format.name in GREYS:
        return _converted(torch.from_numpy(_by_luma(frame)), colour)
    if _is_rgb(frame):
        return _converted(torch.from_numpy(_by_planes(frame)), colour)
    if colour.standard:
        rgb = torch.from_numpy(_by_swscale(frame, colour.matrix)).clamp(0, 1)
    else:
        rgb = _converted(torch.from_numpy(_by_matrix(frame, colour)), colour)
    return torch.cat([rgb, _alpha(frame)], dim=-1) if _has_alpha(frame) else rgb


def _is_rgb(frame: av.VideoFrame) -> bool:
    return bool(frame.format.is_rgb) or frame.format.name.startswith(("pal8", "gray", "ya", "mono"))


def _has_alpha(frame: av.VideoFrame) -> bool:
    name = frame.format.name
    return name.startswith(("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya")) or name in ("pal8", "ayuv64le")


def _by_planes(frame: av.VideoFrame) -> np.ndarray:
    """Return [H, W, 3 | 4] in 0..1 of a frame without a matrix.

    Through planes of whole numbers, which swscale keeps as they are.
    """
    bits = max(component.bits for component in frame.format.components)
    planar = "gbrap" if _has_alpha(frame) else "gbrp"
    if bits == 32:
        return frame.reformat(format=f"{planar}f32le").to_ndarray().clip(0, 1)
    if bits > 8:
        planes = [_rows(plane, np.uint16) for plane in frame.reformat(format=f"{planar}16le").planes]
    else:
        planes = [_rows(plane, np.uint8) for plane in frame.reformat(format=planar).planes]
    green, blue, red, *alpha = planes
    most = np.float32(65535 if bits > 8 else 255)
    return np.stack([red, green, blue, *alpha], axis=-1).astype(np.float32) / most


def _by_luma(frame: av.VideoFrame) -> np.ndarray:
    """Return [H, W, 3] of a grey frame. Grey is of full range unless it is tagged otherwise, as in swscale."""
    bits = frame.format.components[0].bits
    luma = _rows(frame.planes[0], np.uint8 if bits == 8 else np.uint16).astype(np.float32)
    limited = int(frame.color_range) == LIMITED
    black, white = (16 * 2 ** (bits - 8), 235 * 2 ** (bits - 8)) if limited else (0, 2**bits - 1)
    return np.repeat((luma[..., None] - black) / np.float32(white - black), 3, axis=-1)


def _by_swscale(frame: av.VideoFrame, matrix: int) -> np.ndarray:
    """Return [H, W, 3]. In floats, because swscale's conversion to 8 bits is a level too dark on average."""
    source = Colorspace.ITU709 if matrix == BT709 else Colorspace.ITU601
    # RGB has no matrix, but PyAV before 15 ignores the source's unless the destination's has another name.
    rgb = frame.reformat(format="gbrpf32le", src_colorspace=source, dst_colorspace=Colorspace.FCC).to_ndarray()
    return rgb * FLOAT_WHITE


def _by_matrix(frame: av.VideoFrame, colour: Colour) -> np.ndarray:
    """Return the non-linear RGB [H, W, 3] of a frame, not clamped, by its own matrix and range."""
    luma, blue, red = (plane.astype(np.float32) / 256 for plane in _planes_444(frame))  # 8-bit levels
    if colour.full_range:
        luma, blue, red = luma / 255, (blue - 128) / 255, (red - 128) / 255
    else:
        luma, blue, red = (luma - 16) / 219, (blue - 128) / 224, (red - 128) / 224
    if colour.matrix == YCGCO:
        return np.stack([luma - blue + red, luma + blue, luma - blue - red], axis=-1)
    if colour.matrix == RGB_MATRIX:
        return np.stack([red, luma, blue], axis=-1) + np.float32([0.5, 0, 0.5])
    kr, kb = LUMA_WEIGHTS[colour.matrix]
    r = luma + 2 * (1 - kr) * red
    b = luma + 2 * (1 - kb) * blue
    return np.stack([r, (luma - kr * r - kb * b) / (1 - kr - kb), b], axis=-1)


def _planes_444(frame: av.VideoFrame) -> list[np.ndarray]:
    """Return luma and both chroma planes [H, W] in units of 1 / 256 of an 8-bit level."""
    if frame.format.name in ("yuvj444p", "yuv444p"):  # swscale would rescale the luma of these
        return [_rows(plane, np.uint8).astype(np.uint16) * 256 for plane in frame.planes[:3]]
    # A range for both sides stops swscale from converting it: usual formats are shifted only, yuvj by the other range.
    kept = ColorRange.JPEG if frame.format.name.startswith("yuvj") else ColorRange.MPEG
    wide = frame.reformat(format="yuv444p16le", src_color_range=kept, dst_color_range=kept)
    return [_rows(plane, np.uint16) for plane in wide.planes]


def _alpha(frame: av.VideoFrame) -> Tensor:
    """Return the alpha plane [H, W, 1] in 0..1."""
    plane = frame.planes[-1]
    bits = frame.format.components[-1].bits
    values = _rows(plane, np.uint8 if bits == 8 else np.uint16).astype(np.float32)
    return torch.from_numpy(values / (2**bits - 1))[..., None].clamp(0, 1)


def _rows(plane: Any, kind: type) -> np.ndarray:
    """Return the pixels [h, w] of a plane, whose rows may be longer."""
    width = plane.width
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, :width]


def _converted(rgb: Tensor, colour: Colour) -> Tensor:
    """Return non-linear RGB [H, W, 3 | 4] of any primaries and transfer as BT.709, clamped to 0..1."""
    matrix = TO_BT709.get(colour.primaries)
    if matrix is None and not colour.hdr:
        return rgb.clamp(0, 1)
    signal, alpha = rgb[..., :3].clamp(min=0), rgb[..., 3:]
    if colour.transfer == PQ:
        linear = pq_to_nits(signal.clamp(max=1)) / WHITE
    elif colour.transfer == HLG:
        linear = hlg_to_nits(signal.clamp(max=1)) / WHITE
    else:
        linear = signal**DISPLAY_GAMMA
    if matrix is not None:
        linear = linear @ linear.new_tensor(matrix).T
    if colour.hdr:
        linear = tone_mapped(linear)
    return torch.cat([linear.clamp(0, 1) ** (1 / DISPLAY_GAMMA), alpha], dim=-1)


def pq_to_nits(signal: Tensor) -> Tensor:
    """Return the luminance of a PQ signal in 0..1, up to 10000 nits (BT.2100 table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return 10000 * ((root - c1).clamp(min=0) / (c2 - c3 * root)) ** (1 / m1)


def hlg_to_nits(signal: Tensor) -> Tensor:
    """Return the luminance [..., 3] of an HLG signal in 0..1 on a display of 1000 nits (BT.2100 table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = torch.where(signal <= 0.5, signal**2 / 3, (torch.exp((signal - c) / a) + b) / 12)
    luminance = scene @ scene.new_tensor((0.2627, 0.6780, 0.0593))
    return PEAK * luminance.clamp(min=1e-9)[..., None] ** 0.2 * scene


def tone_mapped(linear: Tensor) -> Tensor:
    """Return linear RGB [..., 3], 1 being diffuse white, compressed so that PEAK becomes 1 (Moebius curve).

    The brightest channel of a pixel is mapped and the others keep their ratio to it. Nothing changes below KNEE.
    """
    peak, knee = PEAK / WHITE, KNEE
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    brightest = linear.amax(dim=-1, keepdim=True).clamp(min=1e-6)
    mapped = (b * b + 2 * b * knee + knee**2) / (b - a) * (brightest + a) / (brightest + b)
    return linear * torch.where(brightest <= knee, 1.0, mapped / brightest)
