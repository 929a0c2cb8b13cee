// Drag paths as in svd_core/controls/drag.py: "0.3,0.5; 0.6,0.4 | 0.1,0.2; 0.2,0.2", in shares of the picture's sides.

import { EASINGS } from './camera.mjs'

const MOST_POINTS = 512
const LOW = -1,
  HIGH = 2
const numbers = text => text.replaceAll(',', ' ').split(/\s+/).filter(Boolean).map(Number)
const short = value => String(Number(value.toFixed(4)) || 0)

/** Return the points [x, y] of every object; takes lists of {"x", "y"} in JSON, in shares or in pixels of `size`. */
export function parsePaths(text, size = null) {
  if (text.trim().startsWith('[')) return parseJson(text, size)
  const lines = text.split(/[|\n]/).filter(line => line.trim())
  return lines.map(line =>
    check(
      line
        .split(';')
        .map(numbers)
        .filter(point => point.length)
        .map(point => {
          if (point.length !== 2) throw new Error(`a point of the drag path has ${point.length} numbers; write x,y`)
          return point
        }),
    ),
  )
}

function check(points) {
  if (points.length > MOST_POINTS)
    throw new Error(`a drag path has at most ${MOST_POINTS} points (got ${points.length})`)
  for (const [x, y] of points)
    if (!(x >= LOW && x <= HIGH && y >= LOW && y <= HIGH))
      throw new Error(`points of the drag path must be ${LOW} to ${HIGH} picture sides (got ${x},${y})`)
  return points
}

function parseJson(text, size) {
  const content = JSON.parse(text)
  const tracks = Array.isArray(content[0]) ? content : [content]
  return tracks.map(track => {
    const points = track.map(point => [Number(point.x), Number(point.y)])
    const pixels = points.some(([x, y]) => Math.abs(x) > HIGH || Math.abs(y) > HIGH)
    if (pixels && !size) throw new Error('points in pixels need a picture; connect one')
    return check(pixels ? points.map(([x, y]) => [x / size[0], y / size[1]]) : points)
  })
}

/** Return the text of the paths of all objects. */
export const formatPaths = paths =>
  paths.map(points => points.map(([x, y]) => `${short(x)},${short(y)}`).join('; ')).join(' | ')

/** Return the numbers in a text such as "1.2, 1", or [] if it has other words. */
export function parseNumbers(text) {
  const values = numbers(text)
  return values.every(Number.isFinite) ? values : []
}

/** Return {x, y, scale, turn} of a frame: shift in picture sides, factor, and degrees clockwise. */
export function placeAt(points, scales, turns, easing, when) {
  const t = (EASINGS[easing] ?? EASINGS.linear)(when)
  const lengths = points.slice(1).map(([x, y], k) => Math.hypot(x - points[k][0], y - points[k][1]))
  const total = lengths.reduce((sum, length) => sum + length, 0)
  const along = [0]
  for (const length of lengths) along.push(along.at(-1) + length)
  const knots = total > 0 ? along.map(value => value / total) : points.map((_, k) => k / Math.max(points.length - 1, 1))
  const even = values => values.map((_, k) => k / Math.max(values.length - 1, 1))
  const scaled = [1, ...scales],
    turned = [0, ...turns]
  return {
    x: interpolate(
      t,
      knots,
      points.map(point => point[0] - points[0][0]),
    ),
    y: interpolate(
      t,
      knots,
      points.map(point => point[1] - points[0][1]),
    ),
    scale: interpolate(t, even(scaled), scaled),
    turn: interpolate(t, even(turned), turned),
  }
}

/** Return the linear interpolation of `values` at rising `knots`; outside them the nearest value. */
export function interpolate(t, knots, values) {
  if (values.length === 1) return values[0]
  let index = 1
  while (index < values.length - 1 && knots[index] <= t) index++
  const span = Math.max(knots[index] - knots[index - 1], 1e-12)
  const share = Math.min(1, Math.max(0, (t - knots[index - 1]) / span))
  return values[index - 1] + (values[index] - values[index - 1]) * share
}
