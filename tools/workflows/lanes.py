"""Route long links around the nodes between their ends, with the interface's own reroute points."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Box = tuple[float, float, float, float]  # left, top, right, bottom

MARGIN, STEP, LANE = 30, 9, 22
TALL, CORNER = 250, 40  # a way up or down longer than this gets a corner, else its curve would swing far out


@dataclass(frozen=True)
class Link:
    """A link from (x, y) to (to_x, to_y); `source` names the socket where it starts."""

    number: int
    source: tuple[int, int]
    start: tuple[float, float]
    end: tuple[float, float]

    def meets(self, box: Box) -> bool:
        """Return whether a straight line between the ends crosses the box."""
        (x, y), (to_x, to_y) = self.start, self.end
        left, right = max(x, box[0]), min(to_x, box[2])
        if left >= right:
            return False
        heights = [y + (to_y - y) * (place - x) / (to_x - x) for place in (left, right)]
        return max(heights) > box[1] and min(heights) < box[3]


@dataclass
class Lanes:
    """Reroute points of a workflow; `frames` are its groups, whose gaps the links go through."""

    frames: list[Box]
    points: list[dict[str, Any]] = field(default_factory=list)
    ends: list[dict[str, int]] = field(default_factory=list)

    def add(self, links: Iterable[Link], nodes: list[Box]) -> None:
        """Add reroute points to every link that would run behind a node, above or below the nodes between its ends."""
        far: dict[tuple[int, int], list[Link]] = {}
        for link in links:
            between = [box for box in nodes if link.start[0] < box[0] and box[2] < link.end[0]]
            if any(link.meets(box) for box in between):
                far.setdefault(link.source, []).append(link)
        for place, group in enumerate(far.values()):
            self._lead(sorted(group, key=lambda link: link.end[0]), place)

    def extra(self) -> dict[str, Any]:
        """Return the reroute points as the workflow file stores them."""
        return {"reroutes": self.points, "linkExtensions": self.ends} if self.points else {}

    def _lead(self, links: list[Link], place: int) -> None:
        (x, y), far = links[0].start, links[-1].end[0]
        between = [frame for frame in self.frames if x < frame[0] and frame[2] < far]
        top, bottom = min(frame[1] for frame in between), max(frame[3] for frame in between)
        heights = [y, *(link.end[1] for link in links)]
        above = sum(height - top for height in heights) <= sum(abs(bottom - height) for height in heights)
        lane = top - MARGIN - LANE * place if above else bottom + MARGIN + LANE * place
        shift = MARGIN + STEP * (place % 5)
        parent = None
        if abs(lane - y) > TALL:
            parent = self._point(x + shift, y + (CORNER if lane > y else -CORNER), links, parent)
        parent = self._point(x + shift, lane, links, parent)
        for column in sorted({link.end[0] for link in links}):
            ahead = [link for link in links if link.end[0] >= column]
            parent = self._point(column - shift, lane, ahead, parent)
            for link in ahead:
                to_x, to_y = link.end
                if to_x == column:
                    last = parent
                    if abs(lane - to_y) > TALL:
                        last = self._point(column - shift, to_y + (CORNER if lane > to_y else -CORNER), [link], parent)
                    self.ends.append({"id": link.number, "parentId": last})

    def _point(self, x: float, y: float, links: list[Link], parent: int | None) -> int:
        number = len(self.points) + 1
        before = {} if parent is None else {"parentId": parent}
        self.points.append({"id": number, **before, "pos": [x, y], "linkIds": sorted(link.number for link in links)})
        return number
