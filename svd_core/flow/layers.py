"""Large motions between two pictures: a few layers, each of which moves as a whole.

Dense flow follows small steps. An object that moves or turns by more than its own size is found here instead: the
ground is what stands still or follows the shared motion, and every further layer is the similarity that explains most
of the edges that the ground leaves over. Layers are found on small pictures, by trying all shifts at several angles.
Both pictures are then divided among the layers so that they agree. After Wang and Adelson, "Representing moving images
with layers" (1994).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .planes import blur, extent, gradients, inside, lay_out, positions, resize, sample
from .shared import Similarity, fit_similarity

SEARCH_AREA, DIVIDE_AREA = 1536, 6144  # pixels of the pictures on which layers are found, and divided
ANGLES = (-40, -20, 0, 20, 40)  # degrees; refined afterwards
SHIFTS_AT_ONCE = 256
MOST = 4  # layers, the ground included
LEAST, LEAST_OF_FIRST = 6e-4, 0.15  # mean error that a layer must explain; also as a share of the first one's
WINDOW = 1.2  # pixels of blur of errors on small pictures
MARGIN = 0.004  # of an error, that does not count as explained
EXPLAINED = 0.12  # largest error of a pixel, so that a few dark pixels do not decide
TOLERATED = 0.03  # error of a pixel that any change of light causes
GROUND = 0.7  # of what a ground at rest leaves unexplained, at which the shared motion is the ground instead
EDGE = 0.05  # gradient that counts fully as an edge
STEPS, ROUNDS, HALVINGS = (0.1, 0.1, 0.06, 0.06), 3, 6  # first changes of turn, scale and shift, in halves of the side
WRONG = 0.25  # error at which a layer is as good as no layer
EVIDENCE, SMOOTH, COMMON, REACH = 8.0, 4.0, 0.7, 2.0  # weights of errors, neighbours and size; pixels of neighbours
DIVISIONS, OPEN = 12, 4  # rounds in which pictures are divided, and those until both must agree
SMALLEST = 0.01  # share of the picture that a layer needs
FIT = 30.0  # decay of a pixel's weight with its error
OBJECT, LOST = 0.03, 0.1  # share of the picture that a lost object has, and of itself that a flow finds at most
RIM = 2  # pixels of the divided pictures around other layers, where the ground is taken from the other picture
FAINT = 1e-3


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: the motion from the earlier to the later picture, and its share [1, 1, h, w] of both in 0..1.

    centre: [1], complex, its middle in the earlier picture, which moves on a straight line.
    """

    motion: Similarity
    earlier: Tensor
    later: Tensor
    centre: Tensor

    def until(self, time: float) -> Similarity:
        """Return the motion from the earlier picture to `time`, 0 to 1: it turns evenly around its middle."""
        scale = self.motion.scale
        turned = torch.polar(scale.abs() ** time, scale.angle() * time)
        end = scale * self.centre + self.motion.shift
        return _motion(turned, torch.lerp(self.centre, end, time) - turned * self.centre)


def find_layers(earlier: Tensor, later: Tensor) -> tuple[Layer, ...]:
    """Return the layers of two frames [H, W, 3] in 0..1, the ground first, then from large to small."""
    frames = [lay_out(frame.float().movedim(-1, 0)[None]) for frame in (earlier, later)]  # [1, 3, H, W]
    height, width = frames[0].shape[2:]
    first, second = (blur(resize(frame, _within(height, width, SEARCH_AREA)), 0.6) for frame in frames)
    motions = _motions(first, second)
    small = [resize(frame, _within(height, width, DIVIDE_AREA)) for frame in frames]
    before, _ = _divide(*small, motions)
    for number in range(1, len(motions)):
        motions[number] = _fitted(*small, motions[number], before[number : number + 1])
    shares = _divide(*small, motions)
    kept = [k for k in range(1, len(motions)) if float(shares[0][k].mean()) >= SMALLEST]
    # What is left out belongs to the ground.
    shares = [torch.cat([1 - share[kept].sum(0, keepdim=True), share[kept]]) for share in shares]
    reach, layers = extent(*small[0].shape[2:]), []
    x, y = positions(small[0], reach)
    for number, place in enumerate([0, *kept]):
        own, its = (share[number : number + 1] for share in shares)
        centre = torch.complex((own * x).sum(), (own * y).sum())[None] / own.sum().clamp(min=1e-6)
        layers.append(Layer(motions[place], own, its, centre))
    return (layers[0], *sorted(layers[1:], key=lambda layer: -float(layer.earlier.mean())))


def share_of(frames: tuple[Tensor, Tensor], layers: Sequence[Layer]) -> float:
    """Return the share of two frames [H, W, 3] that a layer moves onto something that looks alike, 0 to 1."""
    return sum(float(found.mean()) for found in _found_again(frames, layers))


def lost_by_flow(frames: tuple[Tensor, Tensor], layers: Sequence[Layer], trust: Tensor) -> bool:
    """Return whether a flow loses an object that a layer finds again.

    trust: [1, 1, h, w] in 0..1, how well each pixel of the first frame fits where the flow moves it.
    """
    trust = resize(trust, tuple(layers[0].earlier.shape[2:]))
    for layer, found in zip(layers[1:], _found_again(frames, layers)[1:], strict=True):
        size = float(layer.earlier.mean())
        by_flow, by_layer = float((layer.earlier * trust).mean()) / size, float(found.mean()) / size
        if size >= OBJECT and by_flow < LOST and by_layer > 2 * by_flow + LOST:
            return True
    return False


def _found_again(frames: tuple[Tensor, Tensor], layers: Sequence[Layer]) -> list[Tensor]:
    """Return for each layer how well it fits the pixels of the first frame that it moves: [1, 1, h, w] in 0..1."""
    size = tuple(layers[0].earlier.shape[2:])
    first, second = (resize(lay_out(frame.float().movedim(-1, 0)[None]), size) for frame in frames)
    reach, found = extent(*size), []
    for layer in layers:
        there = layer.motion.move(*_everywhere(first))
        error = blur((sample(second, *there, reach) - first).abs().mean(1, keepdim=True), 1.0)
        both = layer.earlier * sample(layer.later, *there, reach, beyond="zeros")
        found.append(both * torch.exp(-FIT * error))
    return found


def frame_of_layers(frames: tuple[Tensor, Tensor], layers: Sequence[Layer], time: float) -> Tensor:
    """Return the frame [H, W, 3] at `time`, 0 to 1, between two [H, W, 3] in 0..1: layers in front of each other."""
    first, second = (lay_out(frame.float().movedim(-1, 0)[None]) for frame in frames)
    height, width = first.shape[2:]
    reach, x_y, result = extent(height, width), _everywhere(first), None
    for number, layer in enumerate(layers):
        here = layer.until(time).inverse().move(*x_y)  # where each pixel was in the first picture
        there = layer.motion.move(*here)  # and will be in the second
        own, its = (_seen(share, place, reach) for share, place in ((layer.earlier, here), (layer.later, there)))
        near, far = own, its
        if number == 0:
            near = _seen(_without_rim(layer.earlier), here, reach)
            far = _seen(_without_rim(layer.later), there, reach)
        near, far = (1 - time) * (near + FAINT), time * (far + FAINT)
        colours = [
            sample(picture, *place, reach, mode="bicubic") for picture, place in ((first, here), (second, there))
        ]
        colour = (near * colours[0] + far * colours[1]) / (near + far)
        result = colour if number == 0 else torch.lerp(result, colour, (1 - time) * own + time * its)
    return lay_out(result[0].movedim(0, -1).clamp(0, 1))


def _seen(share: Tensor, place: tuple[Tensor, Tensor], reach: tuple[float, float]) -> Tensor:
    """Return a share [1, 1, h, w] at positions x, y [H, W], 0 beyond the picture: [1, 1, H, W]."""
    whole = F.interpolate(share, tuple(place[0].shape[-2:]), mode="bilinear", align_corners=False)
    return sample(whole, *place, reach, beyond="zeros")


def _without_rim(share: Tensor) -> Tensor:
    """Return a share [1, 1, h, w] without the rim beside other layers, whose masks are never exact."""
    return -F.max_pool2d(-share, 2 * RIM + 1, 1, RIM)


def _within(height: int, width: int, area: int) -> tuple[int, int]:
    """Return a size of at most `area` pixels and of the same aspect."""
    factor = min(1.0, math.sqrt(area / (height * width)))
    return max(8, round(height * factor)), max(8, round(width * factor))


def _motion(scale: Tensor, shift: Tensor) -> Similarity:
    none = torch.zeros_like(scale.real)
    return Similarity(scale, shift, none, none)


def _everywhere(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions x, y [h, w] of all pixels."""
    height, width = planes.shape[2:]
    x, y = positions(planes, extent(height, width))
    return x.expand(height, width), y.expand(height, width)


def _errors(first: Tensor, second: Tensor, motions: Similarity) -> Tensor:
    """Return the error of each motion at each pixel, infinite where it leads outside: [K, 1, h, w]."""
    reach = extent(*first.shape[2:])
    there = motions.move(*_everywhere(first))
    moved = sample(second.expand(len(motions.scale), -1, -1, -1), *there, reach)
    error = (moved - first).abs().mean(1, keepdim=True)
    return torch.where(inside(*there, reach)[:, None] > 0, error, torch.inf)


def _explained(error: Tensor, left: Tensor, edges: Tensor) -> Tensor:
    """Return how much of the error `left` [1, 1, h, w] motions of `error` [K, 1, h, w] explain at edges: the same."""
    gain = (left - error).nan_to_num(0, 0, 0).clamp(-EXPLAINED, EXPLAINED) * edges
    return (blur(gain, WINDOW) - MARGIN).clamp(min=0)


@dataclass(eq=False)
class _Left:
    """What the layers found so far leave unexplained, seen from both small pictures."""

    pictures: tuple[Tensor, Tensor]
    errors: list[Tensor]  # [1, 1, h, w] of each picture
    edges: list[Tensor]

    def gain(self, motions: Similarity) -> Tensor:
        """Return the mean error that each motion explains: [K]."""
        return sum(_explained(*given).mean((1, 2, 3)) for given in self._given(motions)) / 2

    def remove(self, motion: Similarity) -> None:
        """Take away what one motion explains."""
        given = self._given(motion)
        self.errors = [
            torch.where(_explained(error, left, edges) > 0, torch.minimum(left, error), left)
            for error, left, edges in given
        ]

    def _given(self, motions: Similarity) -> list[tuple[Tensor, Tensor, Tensor]]:
        first, second = self.pictures
        errors = (_errors(first, second, motions), _errors(second, first, motions.inverse()))
        return list(zip(errors, self.errors, self.edges, strict=True))


def _motions(first: Tensor, second: Tensor) -> list[Similarity]:
    """Return the motions of the layers between small pictures [1, 3, h, w], that of the ground first."""
    ground = _ground(first, second)
    back = ground.inverse()
    left = _left_by(first, second, ground, _own_edges(first, second, ground), _own_edges(second, first, back))
    motions, most = [ground], 0.0
    while len(motions) < MOST:
        motion, gain = _refined(left, _search(left))
        most = max(most, gain)
        if gain < max(LEAST, LEAST_OF_FIRST * most):
            break
        motions.append(motion)
        left.remove(motion)
    return motions


def _ground(first: Tensor, second: Tensor) -> Similarity:
    """Return what most of two small pictures does: nothing, the fitted similarity, or the best that a search finds."""
    one = torch.ones(1, dtype=torch.complex64, device=first.device)
    rest = _motion(one, torch.zeros_like(one))
    fitted = fit_similarity(first.mean(1, keepdim=True), second.mean(1, keepdim=True))
    left = _left_by(first, second, rest, *[torch.ones_like(first[:, :1])] * 2)
    moving = [_motion(fitted.scale, fitted.shift), _refined(left, _search(left))[0]]
    errors = [_unexplained(first, second, motion) for motion in moving]
    at = errors.index(min(errors))
    return moving[at] if errors[at] < GROUND * _unexplained(first, second, rest) else rest


def _left_by(first: Tensor, second: Tensor, ground: Similarity, edges: Tensor, others: Tensor) -> _Left:
    """Return what a ground leaves, to be explained at the edges [1, 1, h, w] of both pictures."""
    errors = [_errors(first, second, ground), _errors(second, first, ground.inverse())]
    return _Left((first, second), [torch.where(error.isinf(), EXPLAINED, error) for error in errors], [edges, others])


def _unexplained(first: Tensor, second: Tensor, motion: Similarity) -> float:
    """Return the mean error of a ground, in both pictures; what it moves outside counts as an error."""
    errors = (_errors(first, second, motion), _errors(second, first, motion.inverse()))
    return sum(float((error - TOLERATED).clamp(0, EXPLAINED).mean()) for error in errors)


def _own_edges(picture: Tensor, other: Tensor, ground: Similarity) -> Tensor:
    """Return 1 at edges of a picture that the other lacks where the ground takes them, else 0: [1, 1, h, w].

    They belong to what moves. The ground that it covers in the other picture has no such edges, so it is not taken for
    something that moves the other way.
    """
    slopes = []
    for plane in (picture, other):
        x, y = gradients(plane.mean(1, keepdim=True))
        slopes.append(blur(x * x + y * y, 1.0).sqrt())
    there = ground.move(*_everywhere(picture))
    return ((slopes[0] - sample(slopes[1], *there, extent(*picture.shape[2:]))) / EDGE).clamp(0, 1)


def _search(left: _Left) -> Similarity:
    """Return the turn and shift that explain most of what is left of the first picture."""
    first, second = left.pictures
    height, width = first.shape[2:]
    reach, (right, down) = extent(height, width), (width // 2, height // 2)
    shifts = [(x, y) for y in range(-down, down + 1) for x in range(-right, right + 1)]
    best, found = -1.0, None
    for angle in ANGLES:
        turn = torch.polar(first.new_ones(1), first.new_full((1,), math.radians(angle)))
        there = _motion(turn, torch.zeros_like(turn)).move(*_everywhere(first))
        turned = torch.where(inside(*there, reach)[:, None] > 0, sample(second, *there, reach), torch.nan)
        wide = F.pad(turned, (right, right, down, down), value=torch.nan)
        for start in range(0, len(shifts), SHIFTS_AT_ONCE):
            part = shifts[start : start + SHIFTS_AT_ONCE]
            moved = torch.cat([wide[..., down + y :, right + x :][..., :height, :width] for x, y in part])
            error = (moved - first).abs().mean(1, keepdim=True).nan_to_num(torch.inf)
            gains = _explained(error, left.errors[0], left.edges[0]).mean((1, 2, 3))
            at = int(gains.argmax())
            if float(gains[at]) > best:
                best = float(gains[at])
                found = _motion(turn, turn * complex(*part[at]) * (2 / max(height, width)))
    return found


def _refined(left: _Left, motion: Similarity) -> tuple[Similarity, float]:
    """Return a motion changed in small steps as long as it explains more, and the mean error that it explains."""
    return _climbed(left.gain, motion, 1.0)


def _fitted(first: Tensor, second: Tensor, motion: Similarity, share: Tensor) -> Similarity:
    """Return a motion changed in small steps as long as the `share` [1, 1, h, w] of a layer fits better."""

    def fit(motions: Similarity) -> Tensor:
        return -(_errors(first, second, motions).clamp(max=WRONG) * share).mean((1, 2, 3))

    return _climbed(fit, motion, 0.5)[0]


def _climbed(value: Callable[[Similarity], Tensor], motion: Similarity, size: float) -> tuple[Similarity, float]:
    """Return the motion near `motion` with the largest value, and that value; `size` is that of the first changes."""
    steps = size * torch.tensor(STEPS, device=motion.scale.device)
    changes = torch.cat([torch.zeros(1, 4, device=steps.device), torch.diag(steps), -torch.diag(steps)])
    best = 0.0
    for _ in range(HALVINGS):
        for _ in range(ROUNDS):
            scales = motion.scale * torch.complex(1 + changes[:, 0], changes[:, 1])
            shifts = motion.shift + torch.complex(changes[:, 2], changes[:, 3])
            values = value(_motion(scales, shifts))
            at = int(values.argmax())
            motion, best = _motion(scales[at : at + 1], shifts[at : at + 1]), float(values[at])
            if at == 0:
                break
        changes = changes / 2
    return motion, best


def _divide(first: Tensor, second: Tensor, motions: list[Similarity]) -> tuple[Tensor, Tensor]:
    """Return the share of every layer in both pictures: two [K, 1, h, w].

    A pixel belongs to the layer that fits it and its neighbours, if the pixel that it moves onto belongs to it as well;
    else to the larger layer, which the other hides.
    """
    reach = extent(*first.shape[2:])
    sides = []  # of each picture: what speaks for a layer [K, 1, h, w], and where each layer moves its pixels
    for own, other, turned in ((first, second, False), (second, first, True)):
        ways = [motion.inverse() if turned else motion for motion in motions]
        errors = torch.cat([_errors(own, other, way) for way in ways])
        errors = blur((errors - TOLERATED).clamp(0, WRONG), 1.0)
        sides.append((1 - errors / WRONG, [way.move(*_everywhere(own)) for way in ways]))
    shares = [torch.softmax(EVIDENCE * fits, 0) for fits, _ in sides]
    for number in range(DIVISIONS):
        alone, agreed = max(0.0, 1 - number / OPEN), []
        for (fits, there), share, other in zip(sides, shares, shares[::-1], strict=True):
            its = torch.cat([sample(other[k : k + 1], *place, reach, beyond="zeros") for k, place in enumerate(there)])
            size = share.mean((1, 2, 3), keepdim=True).clamp(min=FAINT)
            score = EVIDENCE * fits * (alone + (1 - alone) * its) + COMMON * size.log() + SMOOTH * blur(share, REACH)
            agreed.append(torch.softmax(score, 0))
        shares = agreed
    return shares[0], shares[1]
