// Curves over the clip or the steps, drawn and dragged, with their numbers beside the points.

import { button, make } from '../host.mjs'
import { formatCurve, formatList, guidanceAt, parseCurve, valueAt } from '../logic/curve.mjs'
import { replaced } from './picture_editor.mjs'
import { COLOURS, DrawnEditor, distance, drawHandle, drawLine } from './drawn_editor.mjs'

const EDGE = { left: 42, right: 22, top: 20, bottom: 24 }
const MOST_POINTS = 64

/** What each node draws. free: points have positions of their own; else they are spread evenly over the width. */
const CURVES = {
  SVDReelMotionAmount: [
    { name: 'bucket_curve', label: 'motion bucket', low: 0, high: 255, usual: 127, digits: 0, free: true, socket: 'bucket_from' },
    { name: 'fps_curve', label: 'frames per second', low: 1, high: 30, usual: 7, digits: 1, free: true, socket: 'fps_from' },
  ],
  SVDReelGuidance: [
    { name: 'points', label: 'guidance', low: 0, high: 6, usual: 2.5, digits: 2, kind: 'shape', shape: guidanceShape, socket: 'curve' },
  ],
  SVDReelSchedule: [
    { name: 'sigmas', label: 'noise', low: 0.002, high: 700, usual: 10, digits: 3, kind: 'kind', logarithmic: true, socket: 'curve' },
  ],
}
const FOLLOWED = {
  SVDReelMotionAmount: ['preset'],
  SVDReelGuidance: ['shape', 'low', 'high'],
  SVDReelSchedule: ['kind'],
}

/** Return the curve of a named shape; ends that only the model knows are drawn at 1 and 3. */
function guidanceShape(editor) {
  const [low, high] = ['low', 'high'].map((name, k) =>
    editor.value(name) < 0 ? [1, 3][k] : Number(editor.value(name)),
  )
  return when => guidanceAt(String(editor.value('shape')), low, high, when)
}

export class CurveEditor extends DrawnEditor {
  constructor(node) {
    const curves = CURVES[node.comfyClass]
    const names = [...curves.map(curve => curve.name), ...FOLLOWED[node.comfyClass]]
    super(node, {
      id: 'svd_curve',
      label: `Curve of ${curves.map(curve => curve.label).join(' and ')}`,
      height: 230,
      names,
    })
    this.curves = curves
    this.curve = curves[0]
    this.point = 0
    this.points = []
    this.tabs = curves.map(curve =>
      button(curve.label, `Draw the ${curve.label}`, () => {
        this.curve = curve
        this.sync(true)
      }),
    )
    const removes = button('\u2212 point', 'Remove the selected point (Delete)', () => this.removePoint())
    const clear = button('clear', 'Remove the curve', () => this.save([]))
    this.bar.append(...this.tabs, make('span', 'svdr-space'), removes, ...(curves[0].free ? [clear] : []))
    this.read()
  }

  locked() {
    return Boolean(this.curve && replaced(this.node, [this.curve.socket, this.curve.name]))
  }

  read() {
    if (!this.curves) return
    this.tabs.forEach((tab, k) => tab.classList.toggle('svdr-on', this.curves[k] === this.curve))
    const { name, kind, shape, label } = this.curve
    try {
      this.points = parseCurve(String(this.value(name) ?? ''))
    } catch (error) {
      return this.say(error.message, true)
    }
    this.other = kind && this.value(kind) !== 'custom' ? String(this.value(kind)) : ''
    if (this.other && shape) this.points = [0, 0.25, 0.5, 0.75, 1].map(when => [when, shape(this)(when)])
    this.point = Math.min(this.point, Math.max(0, this.points.length - 1))
    const preset = this.value('preset')
    if (replaced(this.node, [this.curve.socket])) this.say('The connected curve is used instead.')
    else if (preset && preset !== 'from the widgets') this.say(`The preset ${preset} replaces this curve.`)
    else if (this.other) this.say(`${this.other} makes the ${label}; drag a point to draw your own.`)
    else
      this.say(
        this.points.length ? 'Click to add a point, drag to change it.' : `Click to draw the ${label} over the clip.`,
      )
  }

  // Places

  area() {
    const [w, h] = this.size
    return { x: EDGE.left, y: EDGE.top, w: w - EDGE.left - EDGE.right, h: h - EDGE.top - EDGE.bottom }
  }

  range() {
    const values = this.points.map(([, value]) => value)
    const { low, high } = this.curve
    return [this.curve.logarithmic ? low : Math.min(low, ...values), Math.max(high, ...values)]
  }

  placeOf([position, value]) {
    const { x, y, w, h } = this.area()
    const [low, high] = this.range()
    const height = this.curve.logarithmic
      ? Math.log(Math.max(value, low) / low) / Math.log(high / low)
      : (value - low) / (high - low)
    return { x: x + position * w, y: y + (1 - height) * h }
  }

  pointAt(place) {
    const { x, y, w, h } = this.area()
    const [low, high] = this.held ?? this.range()
    const [across, up] = [(place.x - x) / w, 1 - (place.y - y) / h].map(value => Math.min(1, Math.max(0, value)))
    return [across, this.curve.logarithmic ? low * (high / low) ** up : low + up * (high - low)]
  }

  grab(place) {
    const near = this.points.findIndex(point => distance(place, this.placeOf(point)) < place.reach)
    this.held = this.range()
    if (near >= 0) {
      this.point = near
      return {}
    }
    if (this.points.length >= MOST_POINTS) return null
    const point = this.pointAt(place)
    if (!this.points.length) {
      const [, value] = point
      this.points = this.curve.free
        ? [
            [0, value],
            [1, value],
          ]
        : [[0, value]]
      this.point = point[0] < 0.5 ? 0 : this.points.length - 1
      return { always: true }
    }
    const after = this.points.findIndex(([position]) => position > point[0])
    this.point = after < 0 ? this.points.length : after
    this.points = [...this.points.slice(0, this.point), point, ...this.points.slice(this.point)]
    this.spread()
    return { always: true }
  }

  /** Put the points of a list at even distances. */
  spread() {
    if (this.curve.free) return
    this.points = this.points.map(([, value], k) => [k / Math.max(this.points.length - 1, 1), value])
  }

  drag(what, place) {
    const [position, value] = this.pointAt(place)
    const last = this.points.length - 1
    const before = this.points[this.point - 1]?.[0] ?? -0.01
    const after = this.points[this.point + 1]?.[0] ?? 1.01
    const now = this.points[this.point][0]
    const bound = (now === 0 && this.point === 0) || (now === 1 && this.point === last) // ends stay ends
    const across = this.curve.free && !bound ? Math.min(after - 0.01, Math.max(before + 0.01, position)) : now
    if (this.curve.logarithmic && this.point === last && this.points[last][1] === 0) return // the last sigma stays 0
    const neighbours = this.curve.logarithmic
      ? [this.points[this.point + 1]?.[1] ?? 0, this.points[this.point - 1]?.[1] ?? Infinity]
      : [-Infinity, Infinity]
    const kept = Math.min(neighbours[1] * 0.999, Math.max(neighbours[0] * 1.001, value))
    this.points = this.points.map((point, k) => (k === this.point ? [across, kept] : point))
    this.say(`${(100 * across).toFixed(0)} % of the clip: ${kept.toFixed(this.curve.digits)}`)
  }

  drop() {
    this.held = null
    this.save(this.points)
  }

  save(points) {
    if (this.locked()) return
    const { name, free, kind, digits } = this.curve
    const text = free
      ? formatCurve(points, digits)
      : formatList(
          points.map(([, value]) => value),
          digits,
        )
    this.write({ ...(kind ? { [kind]: 'custom' } : {}), [name]: text })
  }

  removePoint() {
    const rest = this.points.filter((_, k) => k !== this.point)
    if (rest.length || this.curve.free) {
      this.points = rest
      this.spread()
      this.save(this.points)
    }
  }

  key({ key }) {
    if (key !== 'Delete' && key !== 'Backspace') return false
    this.removePoint()
    return true
  }

  hover() {
    this.canvas.style.cursor = this.locked() ? 'default' : 'crosshair'
  }

  draw(context) {
    const { x, y, w, h } = this.area()
    const [low, high] = this.range()
    context.font = '11px system-ui, sans-serif'
    context.fillStyle = COLOURS.dim
    context.strokeStyle = '#2c2f37'
    context.lineWidth = 1
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      context.strokeRect(x, y + share * h, w, 0)
      const value = this.curve.logarithmic ? low * (high / low) ** (1 - share) : high - share * (high - low)
      context.textAlign = 'right'
      context.fillText(Number(value.toPrecision(2)), x - 6, y + share * h + 4)
    }
    context.textAlign = 'left'
    context.fillText(this.curve.logarithmic ? 'first step' : 'first frame', x, y + h + 17)
    context.textAlign = 'right'
    context.fillText(this.curve.logarithmic ? 'last step' : 'last frame', x + w, y + h + 17)
    if (!this.points.length) {
      const place = this.placeOf([0, this.curve.usual])
      return drawLine(
        context,
        [
          [x, place.y],
          [x + w, place.y],
        ],
        COLOURS.dim,
        1.5,
        false,
        [5, 5],
      )
    }
    const shape = this.other && this.curve.shape?.(this)
    const steps = Array.from({ length: 101 }, (_, k) => k / 100)
    const line = this.curve.logarithmic
      ? this.points
      : steps.map(when => [when, shape && !this.dragged ? shape(when) : valueAt(this.points, when)])
    const places = line.map(point => this.placeOf(point))
    drawLine(
      context,
      places.map(place => [place.x, place.y]),
      this.other ? COLOURS.dim : COLOURS.last,
      2.5,
    )
    this.points.forEach((point, k) => {
      const place = this.placeOf(point)
      drawHandle(context, place.x, place.y, k === this.point ? 6 : 4.5, k === this.point ? '#fff' : COLOURS.last)
      context.fillStyle = '#e6e6e6'
      context.textAlign = k === 0 ? 'left' : k === this.points.length - 1 ? 'right' : 'center'
      context.fillText(String(Number(point[1].toFixed(this.curve.digits))), place.x, Math.max(12, place.y - 10))
    })
  }
}
