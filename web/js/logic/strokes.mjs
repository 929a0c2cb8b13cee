// Painted masks as in svd_core/pictures/strokes.py: "brush 0.05: 0.3,0.4 0.35,0.42; erase 0.03: 0.3,0.4; box: 0.1,0.1 0.4,0.5".
// x and y in shares of the picture's sides, radius in shares of its width; "60%" paints grey; "|" starts the next object.

const MOST_CHARACTERS = 65536
const KINDS = ['brush', 'erase', 'box']
const short = (value, digits = 4) => String(Number(value.toFixed(digits)) || 0)
const fail = text => {
  throw new Error(`"${text.trim().slice(0, 60)}" is not a stroke; write brush 0.05: 0.3,0.4 0.35,0.42`)
}

/** Return the strokes of every object: {kind, radius, level, points}. */
export function parseObjects(text) {
  if (text.length > MOST_CHARACTERS)
    throw new Error(`a painted mask has at most ${MOST_CHARACTERS} characters (got ${text.length})`)
  if (!text.trim()) return []
  return text.split('|').map(part =>
    part
      .split(/[;\n]/)
      .filter(stroke => stroke.trim())
      .map(parseStroke),
  )
}

function parseStroke(text) {
  const [head, places, ...more] = text.split(':')
  const [kind, ...rest] = head.trim().toLowerCase().split(/\s+/)
  if (more.length || places === undefined || !KINDS.includes(kind)) fail(text)
  const level = rest.find(word => word.endsWith('%'))
  const radius = kind === 'box' ? 0 : Number(rest.find(word => !word.endsWith('%')) ?? NaN)
  const points = places
    .trim()
    .split(/\s+/)
    .map(point => point.split(',').map(Number))
  const stroke = { kind, radius, level: level === undefined ? 1 : Number(level.slice(0, -1)) / 100, points }
  const finite = points.every(point => point.length === 2 && point.every(value => value >= -1 && value <= 2))
  if (
    rest.length > (kind === 'box' ? 0 : 1) + (level === undefined ? 0 : 1) ||
    !finite ||
    !(radius >= 0 && radius <= 1) ||
    !(stroke.level >= 0 && stroke.level <= 1)
  )
    fail(text)
  if (kind === 'box' ? points.length !== 2 : !(radius > 0)) fail(text)
  return stroke
}

/** Return the text of the strokes of every object. */
export const formatObjects = objects =>
  objects
    .map(strokes =>
      strokes
        .map(
          ({ kind, radius, level, points }) =>
            [kind, ...(kind === 'box' ? [] : [short(radius)]), ...(level === 1 ? [] : [`${short(100 * level)}%`])].join(
              ' ',
            ) +
            ': ' +
            points.map(([x, y]) => `${short(x, 3)},${short(y, 3)}`).join(' '),
        )
        .join('; '),
    )
    .join(' | ')

/** Return the points of a stroke without those that change its line by less than `tolerance` (Douglas-Peucker). */
export function simplified(points, tolerance = 0.002) {
  if (points.length < 3) return points
  const [[ax, ay], [bx, by]] = [points[0], points.at(-1)],
    length = Math.hypot(bx - ax, by - ay)
  let far = 0,
    place = 0
  for (let k = 1; k < points.length - 1; k++) {
    const [x, y] = points[k]
    const distance =
      length > 0 ? Math.abs((bx - ax) * (ay - y) - (ax - x) * (by - ay)) / length : Math.hypot(x - ax, y - ay)
    if (distance > far) [far, place] = [distance, k]
  }
  if (far <= tolerance) return [points[0], points.at(-1)]
  return [
    ...simplified(points.slice(0, place + 1), tolerance).slice(0, -1),
    ...simplified(points.slice(place), tolerance),
  ]
}

/** Draw strokes as white on a 2-D canvas context of `width` x `height`. */
export function drawStrokes(context, strokes, width, height) {
  for (const { kind, radius, level, points } of strokes) {
    context.globalCompositeOperation = kind === 'erase' ? 'destination-out' : 'source-over'
    const grey = Math.round(255 * level)
    context.fillStyle = context.strokeStyle = kind === 'erase' ? '#000' : `rgb(${grey},${grey},${grey})`
    const at = ([x, y]) => [x * width, y * height]
    if (kind === 'box') {
      const [[ax, ay], [bx, by]] = points.map(at)
      context.fillRect(Math.min(ax, bx), Math.min(ay, by), Math.abs(bx - ax), Math.abs(by - ay))
      continue
    }
    context.lineWidth = 2 * radius * width
    context.lineCap = context.lineJoin = 'round'
    context.beginPath()
    points.forEach((point, k) => context[k ? 'lineTo' : 'moveTo'](...at(point)))
    if (points.length === 1) context.lineTo(...at(points[0]))
    context.stroke()
  }
  context.globalCompositeOperation = 'source-over'
}
