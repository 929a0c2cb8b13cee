// Camera paths as in svd_core/controls/camera (moves.py, path.py, poses.py); tests/data/editor_cases.json checks both.

const FOCAL = 1 // of picture widths
export const PARAMETERS = ['pan', 'tilt', 'roll', 'zoom', 'x', 'y', 'z', 'orbit_x', 'orbit_y', 'arc_x', 'arc_y']
export const EASINGS = {
  linear: t => t,
  ease: t => t * t * (3 - 2 * t),
  'ease-in': t => t * t,
  'ease-out': t => t * (2 - t),
}
const SIDES = { left: -1, right: 1 }
const HEIGHTS = { up: 1, down: -1 }
const DEPTHS = { in: 1, out: -1 }
const along = (name, signs) => Object.fromEntries(Object.entries(signs).map(([side, sign]) => [side, [name, sign]]))
const around = name => ({ ...along(name + '_x', SIDES), ...along(name + '_y', HEIGHTS) })
const radians = degrees => (degrees * Math.PI) / 180
const degrees = angle => (angle * 180) / Math.PI
const angleOf = widths => Math.atan(widths / FOCAL)
const kind = (directions, usual, low, high, unit, convert) => ({ directions, usual, low, high, unit, convert })
const same = value => value

export const MOVES = {
  pan: kind(along('pan', SIDES), 0.15, 0, 1, 'picture widths', angleOf),
  tilt: kind(along('tilt', HEIGHTS), 0.1, 0, 1, 'picture widths', angleOf),
  zoom: kind(along('zoom', DEPTHS), 1.25, 1, 4, 'times', Math.log),
  roll: kind(along('roll', { cw: 1, ccw: -1 }), 8, 0, 180, 'degrees', radians),
  dolly: kind(along('z', DEPTHS), 0.2, 0, 0.9, "of the centre's depth", same),
  truck: kind(along('x', SIDES), 0.15, 0, 1, "of the centre's depth", same),
  pedestal: kind(along('y', HEIGHTS), 0.1, 0, 1, "of the centre's depth", same),
  orbit: kind(around('orbit'), 12, 0, 60, 'degrees', radians),
  arc: kind(around('arc'), 16, 0, 60, 'degrees', radians),
  handheld: kind({}, 0.01, 0, 0.1, 'picture widths', same),
  static: kind({}, 0, 0, 0, '', same),
}
const ALIASES = {
  clockwise: 'cw',
  counterclockwise: 'ccw',
  anticlockwise: 'ccw',
  'hand-held': 'handheld',
  shake: 'handheld',
  still: 'static',
  push: 'dolly',
  track: 'truck',
}
const alias = word => (Object.hasOwn(ALIASES, word) ? ALIASES[word] : word)
const fail = message => {
  throw new Error(message)
}

// Parts of a path: each has a share of time, held frames, and table(when in 0..1, length in frames) -> 11 numbers.

const zeros = () => new Array(PARAMETERS.length).fill(0)
const add = (a, b) => a.map((value, i) => value + b[i])
const row = change => {
  const made = zeros()
  for (const [name, value] of change) made[PARAMETERS.indexOf(name)] = value
  return made
}
const clamp = (value, low, high) => Math.min(high, Math.max(low, value))

const move = (change, easing, share) => {
  const full = row(change)
  return { share, held: 0, table: when => full.map(value => value * EASINGS[easing](when)) }
}
const hold = frames => ({ share: 0, held: frames, table: zeros })

const CYCLES = [0.043, 0.11, 0.19]
const WAVES = [1, 0.5, 0.25]
const PHASES = [
  // torch.Generator seed 7, as in path.Shake
  [0.279380429906404, 0.27369371365176565, 0.8620929614176255],
  [0.6566884305882014, 0.9225293674529872, 0.8395453757623866],
  [0.2947121080128837, 0.5607215973721555, 0.7630434112121387],
].map(phases => phases.map(phase => phase * 2 * Math.PI))

const shake = (amount, share) => ({
  share,
  held: 0,
  table: (when, length) =>
    row(
      ['pan', 'tilt', 'roll'].map((name, i) => [
        name,
        angleOf(amount) *
          PHASES[i].reduce(
            (sum, phase, k) =>
              sum + (Math.sin(2 * Math.PI * CYCLES[k] * when * length + phase) - Math.sin(phase)) * WAVES[k],
            0,
          ),
      ]),
    ),
})

function through(points, easing, share, times) {
  const rows = points.map(row)
  const shifted = rows.map(point => point.map((value, i) => value - rows[0][i]))
  const at = times.length ? throughTimes(shifted, times) : evenly(shifted)
  return { share, held: 0, points: shifted, times, easing, table: when => at(EASINGS[easing](when)) }
}

function evenly(rows) {
  const last = rows.length - 1
  const end = (a, b) => a.map((value, i) => 2 * value - b[i])
  const padded = [end(rows[0], rows[1]), ...rows, end(rows[last], rows[last - 1])]
  return when => {
    const place = when * last,
      index = Math.min(Math.floor(place), last - 1),
      t = place - index
    const [a, b, c, d] = padded.slice(index, index + 4)
    return b.map(
      (_, i) =>
        b[i] +
        (t / 2) * (c[i] - a[i] + t * (2 * a[i] - 5 * b[i] + 4 * c[i] - d[i] + t * (3 * (b[i] - c[i]) + d[i] - a[i]))),
    )
  }
}

function throughTimes(rows, times) {
  const last = rows.length - 1
  const slopes = rows
    .slice(1)
    .map((point, k) => point.map((value, i) => (value - rows[k][i]) / (times[k + 1] - times[k])))
  const tangents = rows.map((_, k) =>
    k === 0
      ? slopes[0]
      : k === last
        ? slopes[last - 1]
        : slopes[k].map((after, i) => {
            const before = slopes[k - 1][i]
            return before * after > 0 ? (2 * before * after) / (before + after) : 0
          }),
  )
  return time => {
    const when = clamp(time, times[0], times[last])
    let index = 0
    while (index < last - 1 && times[index + 1] <= when) index++
    const span = times[index + 1] - times[index],
      t = (when - times[index]) / span
    return rows[index].map((first, i) => {
      const rise = rows[index + 1][i] - first,
        out = tangents[index][i] * span,
        into = tangents[index + 1][i] * span
      return first + t * (out + t * (3 * rise - 2 * out - into + t * (out + into - 2 * rise)))
    })
  }
}

function chain(parts) {
  const held = parts.reduce((sum, part) => sum + part.held, 0),
    share = parts.reduce((sum, part) => sum + part.share, 0)
  return {
    share,
    held,
    parts,
    table(when, length) {
      if (share > 0 && held >= length)
        fail(
          `the camera path holds still for ${held} frames of ${Math.floor(length) + 1}, which leaves no time to move`,
        )
      let total = zeros(),
        start = 0
      for (const part of parts) {
        const own = part.held + (part.share > 0 ? ((length - held) * part.share) / share : 0)
        if (own > 0) total = add(total, part.table(clamp((when * length - start) / own, 0, 1), own))
        start += own
      }
      return total
    },
  }
}

const together = parts => ({
  share: Math.max(...parts.map(part => part.share)),
  held: Math.max(0, ...parts.map(part => part.held)),
  parts,
  table: (when, length) => parts.map(part => part.table(when, length)).reduce(add),
})

// Text

const number = (word, text) => {
  const value = word.trim() === '' ? NaN : Number(word)
  return Number.isFinite(value) ? value : fail(`"${word}" in "${text}" of the camera path is not a number`)
}

/** Return the part of one move such as "pan right"; amount null takes the usual one. */
export function cameraMove(words, amount = null, easing = 'linear', share = 1, unit = '') {
  const [name, ...rest] = words.toLowerCase().split(/\s+/).filter(Boolean).map(alias)
  const direction = rest.join(' '),
    found = Object.hasOwn(MOVES, name) ? MOVES[name] : fail(`the camera move "${name}" is unknown`)
  const directions = Object.keys(found.directions)
  if (directions.length ? !directions.includes(direction) : direction) {
    const lack = direction ? `has no direction "${direction}"` : 'needs a direction'
    fail(`the camera move ${name} ${lack}; write ${directions.map(side => `${name} ${side}`).join(' or ') || name}`)
  }
  if (!(share > 0 && Number.isFinite(share))) fail(`the time share of ${name} must be above 0 (got ${share})`)
  const value = amount === null ? found.usual : inUnit(name, found, amount, unit)
  if (!(value >= found.low && value <= found.high))
    fail(`${name} must be ${found.low} to ${found.high} ${found.unit} (got ${value}); use about ${found.usual}`)
  if (name === 'handheld') return shake(value, share)
  const [parameter, sign] = found.directions[direction] ?? ['pan', 0]
  return move([[parameter, sign * found.convert(value)]], easing, share)
}

function inUnit(name, found, amount, unit) {
  if (unit === '%') return amount / 100
  if (unit === 'deg' && found.convert === angleOf) return FOCAL * Math.tan(radians(Math.min(amount, 89)))
  if (unit === 'deg' && found.unit !== 'degrees') fail(`${name} is measured in ${found.unit} (got ${amount} degrees)`)
  return amount
}

/** Return the path that `text` describes; throws an Error with the words that were not understood. */
export function parsePath(text) {
  const stretches = text
    .split(/\bthen\b|->|\n/)
    .map(part => part.trim())
    .filter(Boolean)
  if (!stretches.length) fail('the camera path is empty; write moves such as pan right 0.15, zoom in 1.2')
  const parts = stretches.map(stretch => {
    const moves = stretch
      .split(/,|\+|\band\b/)
      .map(part => part.trim())
      .filter(Boolean)
      .map(parseMove)
    if (!moves.length || (moves.length > 1 && moves.some(part => part.isHold)))
      fail(`"${stretch}" in the camera path is not a move`)
    return moves.length === 1 ? moves[0] : together(moves)
  })
  return parts.length === 1 && !parts[0].isHold ? parts[0] : chain(parts)
}

function parseMove(text) {
  let words = text.toLowerCase().replaceAll('\u00b0', 'deg').split(/\s+/).filter(Boolean)
  const name = alias(words[0]),
    place = words.indexOf('for')
  let share = 1,
    easing = 'linear'
  if (place >= 0) {
    share = number(words.slice(place + 1).join(' '), text)
    words = words.slice(0, place)
  }
  for (const word of words) if (Object.hasOwn(EASINGS, word)) easing = word
  words = words.filter(word => !Object.hasOwn(EASINGS, word))
  if (!words.length) fail(`"${text}" in the camera path has no move`)
  if (name === 'hold') {
    const frames = number(words.slice(1).join(' '), text)
    return Number.isInteger(frames) && frames >= 0
      ? { ...hold(frames), isHold: true }
      : fail(`"${text}" needs a whole number of frames`)
  }
  if (name === 'through') return parseThrough(words.slice(1).join(' '), easing, share, text)
  const direction = /^[a-z]/.test(words[1] ?? '') ? words[1] : '',
    rest = words.slice(direction ? 2 : 1)
  const [amount, unit] = rest.length ? parseAmount(rest.join(' '), text) : [null, '']
  return cameraMove(`${words[0]} ${direction}`, amount, easing, share, unit)
}

function parseAmount(words, text) {
  const match =
    /^([\d.]+(?:e-?\d+)?)\s*(deg|degrees|%|x|times)?$/.exec(words) ?? fail(`"${words}" in "${text}" is not understood`)
  return [number(match[1], text), { degrees: 'deg', x: '', times: '' }[match[2]] ?? match[2] ?? '']
}

function parseThrough(words, easing, share, text) {
  const points = [],
    times = []
  for (const point of words
    .split(';')
    .map(part => part.trim())
    .filter(Boolean)) {
    const [place, time] = point.split(' at ')
    const values = place.split(' ').map(word => number(word, text))
    if (values.length < 2 || values.length > 4)
      fail(`"${point}" of the camera path: write x y, x y zoom, or x y zoom roll`)
    const [x, y, zoom = 1, roll = 0] = values
    if (!(zoom > 0)) fail(`the zoom of "${point}" must be above 0`)
    points.push([
      ['pan', angleOf(x)],
      ['tilt', -angleOf(y)],
      ['zoom', Math.log(zoom)],
      ['roll', radians(roll)],
    ])
    times.push(time === undefined ? null : number(time.replace('%', ''), text) / (time.includes('%') ? 100 : 1))
  }
  if (points.length < 2) fail('a camera path through points needs at least 2')
  if (!(share > 0)) fail('the time share must be above 0')
  return { ...through(points, easing, share, evenTimes(times)), isThrough: true }
}

function evenTimes(times) {
  if (times.every(time => time === null)) return []
  const filled = [...times],
    last = times.length - 1
  filled[0] ??= 0
  filled[last] ??= 1
  for (let left = 0; left < last;) {
    let right = left + 1
    while (filled[right] === null) right++
    for (let k = left + 1; k < right; k++)
      filled[k] = filled[left] + ((filled[right] - filled[left]) * (k - left)) / (right - left)
    left = right
  }
  if (filled.some((time, k) => !(time >= 0 && time <= 1) || (k && time <= filled[k - 1])))
    fail('times of the camera path must rise from 0 to 100 %')
  return filled
}

/** Return parameters for every frame: [frames][11]. */
export function pathTable(part, frames) {
  if (frames === 1) return [zeros()]
  return Array.from({ length: frames }, (_, index) => part.table(index / (frames - 1), frames - 1))
}

// Geometry. Homographies map points of the picture, in picture widths from its centre, to points of a frame.

const multiply = (a, b) => a.map(r => b[0].map((_, j) => r[0] * b[0][j] + r[1] * b[1][j] + r[2] * b[2][j]))
function turn(pan, tilt) {
  const [cp, sp, ct, st] = [Math.cos(pan), Math.sin(pan), Math.cos(tilt), Math.sin(tilt)]
  return multiply(
    [
      [1, 0, 0],
      [0, ct, st],
      [0, -st, ct],
    ],
    [
      [cp, 0, -sp],
      [0, 1, 0],
      [sp, 0, cp],
    ],
  )
}

/** Return the homography of one row of parameters; for a camera that travels, of a flat board at depth 1. */
export function homography(parameters) {
  const p = Object.fromEntries(PARAMETERS.map((name, i) => [name, parameters[i]]))
  const away = turn(-(p.orbit_x + p.arc_x), -(p.orbit_y + p.arc_y))[2]
  const carried = turn(-(p.orbit_x + p.arc_x / 2), -(p.orbit_y + p.arc_y / 2))
  const step = [p.x, -p.y, p.z]
  const place = [0, 1, 2].map(
    j => (j === 2 ? 1 : 0) - away[j] + step[0] * carried[0][j] + step[1] * carried[1][j] + step[2] * carried[2][j],
  )
  const [c, s, z] = [Math.cos(p.roll), Math.sin(p.roll), Math.exp(p.zoom)]
  const rotation = multiply(
    multiply(
      [
        [c, s, 0],
        [-s, c, 0],
        [0, 0, 1],
      ],
      turn(p.pan, p.tilt),
    ),
    carried,
  )
  const moved = rotation.map((r, i) => [r[0], r[1], r[2] - (r[0] * place[0] + r[1] * place[1] + r[2] * place[2])])
  return [moved[0].map(v => v * z), moved[1].map(v => v * z), moved[2]]
}

export function invert(m) {
  const [[a, b, c], [d, e, f], [g, h, i]] = m
  const A = e * i - f * h,
    B = f * g - d * i,
    C = d * h - e * g,
    det = a * A + b * B + c * C
  return [
    [A, c * h - b * i, b * f - c * e],
    [B, a * i - c * g, c * d - a * f],
    [C, b * g - a * h, a * e - b * d],
  ].map(r => r.map(v => v / det))
}

/** Return the point (x, y) after a homography, or null behind the camera. */
export function project(m, x, y) {
  const w = m[2][0] * x + m[2][1] * y + m[2][2]
  return w > 1e-6 ? [(m[0][0] * x + m[0][1] * y + m[0][2]) / w, (m[1][0] * x + m[1][1] * y + m[1][2]) / w] : null
}

// Key frames: {x, y, zoom, roll, time}, what a drawn path consists of. x, y: centre of the view in picture widths right
// and down of the picture's centre. roll: degrees clockwise.

/** Return the key frames of a path if one "through" describes it all, else null. */
export function keysOf(part) {
  if (!part.isThrough) return null
  const { points, times } = part
  return points.map((point, k) => ({ ...viewOf(point), time: times.length ? times[k] : k / (points.length - 1) }))
}

/** Return the key frame that shows what a row of parameters shows; exact without travel. */
export function viewOf(parameters) {
  const m = invert(homography(parameters)),
    [x, y] = project(m, 0, 0) ?? [0, 0]
  const [tx, ty] = project(m, 0.01, 0) ?? [x + 0.01, y]
  const travels = parameters.slice(4).some(value => Math.abs(value) > 1e-9)
  const zoom = travels ? 0.01 / Math.hypot(tx - x, ty - y) : Math.exp(parameters[3])
  const roll = travels ? degrees(Math.atan2(ty - y, tx - x)) : degrees(parameters[2])
  return { x, y, zoom, roll }
}

/** Return a row of parameters whose frame has its centre, zoom and roll as the key frame says. */
export function parametersOf({ x, y, zoom, roll }) {
  return row([
    ['pan', Math.atan(x)],
    ['tilt', -Math.atan(y / Math.hypot(1, x))],
    ['zoom', Math.log(zoom)],
    ['roll', radians(roll)],
  ])
}

const short = (value, digits) => String(Number(value.toFixed(digits)) || 0)

/** Return the text of key frames in the order of their times; the first is the picture itself. */
export function formatKeys(keys, easing = 'linear') {
  const even = keys.every((key, k) => Math.abs(key.time - k / (keys.length - 1)) < 0.005)
  const bound = (time, k) => (k === 0 && time < 0.005) || (k === keys.length - 1 && time > 0.995)
  const points = keys.map(({ x, y, zoom, roll, time }, k) => {
    const words = [short(x, 3), short(y / Math.hypot(1, x), 3), short(zoom, 3), short(roll, 1)]
    while (words.length > 2 && words.at(-1) === (words.length === 4 ? '0' : '1')) words.pop()
    return words.join(' ') + (even || bound(time, k) ? '' : ` at ${short(100 * time, 0)}%`)
  })
  return `through ${points.join('; ')}${easing === 'linear' ? '' : ` ${easing}`}`
}
