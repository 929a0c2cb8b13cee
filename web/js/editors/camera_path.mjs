// The Camera Path widget: the frame at the end of the clip is dragged, turned and scaled on the picture itself.

import { button, choice, make, widgetOf } from '../host.mjs'
import {
  EASINGS,
  cameraMove,
  formatKeys,
  homography,
  invert,
  keysOf,
  parsePath,
  pathTable,
  project,
  viewOf,
} from '../logic/camera.mjs'
import { COLOURS, DrawnEditor, colourAt, distance, drawHandle, drawLine } from './drawn_editor.mjs'
import { UpstreamPicture } from './picture.mjs'
import { drawWarped } from './warp.mjs'

const FRAMES = 25 // of a usual clip, without holds
const RATE = 7 // frames per second of the ghost
const BAR = 26 // height of the time bar
const GHOST = 0.4 // of the width
const PICTURE = 0.62 // of the map's sides, because views reach beyond the picture
const LIMITS = { place: 1, zoomLow: 0.3, zoomHigh: 4 }
const PRESETS = [
  ['\u2190', 'pan left'],
  ['\u2192', 'pan right'],
  ['\u2191', 'tilt up'],
  ['\u2193', 'tilt down'],
  ['zoom in', 'zoom in'],
  ['zoom out', 'zoom out'],
  ['\u21bb', 'roll cw'],
  ['\u21ba', 'roll ccw'],
  ['dolly', 'dolly in'],
  ['truck', 'truck right'],
  ['orbit \u2190', 'orbit left'],
  ['orbit \u2192', 'orbit right'],
  ['arc', 'arc right'],
  ['handheld', 'handheld'],
  ['still', 'static'],
]
const WORDS = ['move', 'amount', 'easing', 'hold_start', 'hold_end'] // what `path` replaces
const START = { x: 0, y: 0, zoom: 1, roll: 0, time: 0 }

export class CameraPathEditor extends DrawnEditor {
  constructor(node) {
    super(node, { id: 'svd_camera_path', label: 'Camera path on the picture', height: 360, names: ['path', ...WORDS] })
    this.keys = [START, { ...START, time: 1 }]
    this.selected = 1
    this.frame = FRAMES - 1
    this.playing = false
    this.buildBar()
    this.picture = new UpstreamPicture(node, 'image', () => this.ask())
    this.read()
  }

  buildBar() {
    const presets = PRESETS.map(([label, move]) =>
      button(label, `${move}: sets move and clears the drawn path`, () => this.preset(move)),
    )
    presets.forEach((made, k) => {
      made.dataset.move = PRESETS[k][1]
    })
    this.easing = choice('Speed of the drawn path over time', Object.keys(EASINGS), value => {
      this.pathEasing = value
      this.commit()
    })
    this.play = button('\u25b6', 'Play all the time', () => {
      this.playing = !this.playing
      this.play.classList.toggle('svdr-on', this.playing)
      this.ask()
    })
    this.adds = button('+ key', 'Add a key frame at the marked time (or double-click the time bar)', () =>
      this.addKey(this.frame / (this.frames - 1)),
    )
    this.removes = button('\u2212 key', 'Remove the selected key frame (Delete)', () => this.removeKey())
    this.bar.append(...presets, make('span', 'svdr-space'), this.easing, this.adds, this.removes, this.play)
  }

  preset(move) {
    if (this.locked()) return
    this.write({ path: '', move, amount: 0 })
  }

  read() {
    const text = String(this.value('path') ?? '').trim()
    for (const name of WORDS) this.disable(name, Boolean(text))
    try {
      this.part = text ? parsePath(text) : this.partOfWords()
      const drawn = text && keysOf(this.part)
      this.frames = FRAMES + this.part.held
      this.keys = drawn || [START, { ...viewOf(pathTable(this.part, this.frames).at(-1)), time: 1 }]
      if (drawn) this.pathEasing = this.part.easing
      this.drawn = Boolean(drawn)
      this.refresh()
    } catch (error) {
      this.say(error.message, true)
    }
  }

  partOfWords() {
    const amount = Number(this.value('amount')),
      move = String(this.value('move') ?? 'pan right')
    const own = cameraMove(move, amount || null, String(this.value('easing') ?? 'linear'))
    const [start, end] = ['hold_start', 'hold_end'].map(name => Number(this.value(name)) || 0)
    if (!start && !end) return own
    return parsePath(
      ['hold ' + start, `${move}${amount ? ' ' + amount : ''} ${this.value('easing') ?? ''}`, 'hold ' + end].join(
        ' then ',
      ),
    )
  }

  remove() {
    super.remove()
    // Nodes 2.0 keeps this by the node's number, which the next workflow gives to another node.
    for (const name of WORDS) this.disable(name, false)
  }

  disable(name, disabled) {
    const widget = widgetOf(this.node, name)
    if (widget) widget.disabled = disabled
  }

  /** Follow changed key frames or words: the table of all frames and the sentence below. */
  refresh() {
    this.table = pathTable(this.part, this.frames)
    this.planes = this.table.map(homography)
    this.selected = Math.min(Math.max(1, this.selected), this.keys.length - 1)
    this.frame = Math.min(this.frame, this.frames - 1)
    this.easing.value = this.pathEasing ?? 'linear'
    this.easing.disabled = this.adds.disabled = !this.drawn
    this.removes.disabled = !this.drawn || this.keys.length < 3
    const { x, y, zoom, roll } = viewOf(this.table.at(-1)),
      words = []
    const near = value => Math.abs(value).toFixed(2)
    if (Math.abs(x) >= 0.005) words.push(`${near(x)} ${x < 0 ? 'left' : 'right'}`)
    if (Math.abs(y) >= 0.005) words.push(`${near(y)} ${y < 0 ? 'up' : 'down'}`)
    if (Math.abs(zoom - 1) >= 0.005) words.push(`zoom ${zoom.toFixed(2)}`)
    if (Math.abs(roll) >= 0.5) words.push(`roll ${roll.toFixed(0)}\u00b0`)
    const linked = this.locked() ? 'The path comes from a link. ' : ''
    const hint = this.drawn ? '' : ' Drag the orange frame to draw a path of your own.'
    this.say(
      `${linked}Ends ${words.join(', ') || 'where it starts'}.${linked ? '' : hint}${this.picture?.real === false ? ' Connect an image to see it here.' : ''}`,
    )
  }

  // Places: of the picture, in widths from its centre, and of the drawing in pixels.

  layout() {
    const [w, h] = this.size,
      ghost = Math.round(w * GHOST),
      map = { w: w - ghost, h: h - BAR }
    const ratio = this.picture.ratio,
      wide = Math.min(map.w * PICTURE, map.h * PICTURE * ratio)
    const ghostWide = Math.min(ghost - 12, (h - BAR - 30) * ratio)
    return {
      wide,
      high: wide / ratio,
      x: map.w / 2,
      y: map.h / 2,
      map,
      ghost: {
        x: map.w + (ghost - ghostWide) / 2,
        y: (h - BAR - ghostWide / ratio) / 2 - 6,
        w: ghostWide,
        h: ghostWide / ratio,
      },
      bar: { x: 16, y: h - BAR / 2, w: w - 32 },
    }
  }

  outline(plane) {
    const { x, y, wide } = this.layout(),
      back = invert(plane),
      half = 0.5 / this.picture.ratio
    const corners = [
      [-0.5, -half],
      [0.5, -half],
      [0.5, half],
      [-0.5, half],
      [0, -half],
      [0, 0],
    ].map(([u, v]) => project(back, u, v))
    return corners.every(Boolean) ? corners.map(([u, v]) => [x + u * wide, y + v * wide]) : null
  }

  planeOf(key) {
    return this.planes[Math.round(key.time * (this.frames - 1))]
  }

  /** Return the corners, the knob and the middle of the selected key frame. */
  handles() {
    const outline = this.outline(homography(this.tableOf(this.keys[this.selected])))
    if (!outline) return null
    const [top, middle] = outline.slice(4),
      length = Math.hypot(top[0] - middle[0], top[1] - middle[1]) || 1
    const knob = [top[0] + (18 * (top[0] - middle[0])) / length, top[1] + (18 * (top[1] - middle[1])) / length]
    return { corners: outline.slice(0, 4), knob, middle, top }
  }

  tableOf(key) {
    return this.part.table(key.time, this.frames - 1)
  }

  grab(place) {
    if (!this.part) return null
    const { bar } = this.layout(),
      near = ([x, y]) => distance(place, { x, y }) < place.reach
    if (place.y > bar.y - BAR / 2) {
      const key = this.keys.findIndex(({ time }) => near([bar.x + time * bar.w, bar.y]))
      if (key > 0) this.selected = key
      this.frame = this.frameAt(place)
      return key > 0 && key < this.keys.length - 1 ? { kind: 'time', key } : { kind: 'scrub' }
    }
    const handles = this.handles()
    if (!handles) return null
    if (near(handles.knob)) return { kind: 'turn' }
    if (handles.corners.some(near)) return { kind: 'scale' }
    for (const [key, frame] of this.keys.entries()) {
      const middle = this.outline(homography(this.tableOf(frame)))?.[5]
      if (key > 0 && middle && near(middle)) {
        this.selected = key
        return { kind: 'move' }
      }
    }
    return inside(place, handles.corners) ? { kind: 'move' } : null
  }

  frameAt(place) {
    const { bar } = this.layout()
    return Math.round(Math.min(1, Math.max(0, (place.x - bar.x) / bar.w)) * (this.frames - 1))
  }

  drag(what, place, event) {
    const { x, y, wide, bar } = this.layout()
    if (what.kind === 'scrub') {
      this.frame = this.frameAt(place)
      return
    }
    what.before ??= { ...this.keys[this.selected] }
    const before = what.before,
      key = { ...before }
    const middle = { x: x + before.x * wide, y: y + before.y * wide }
    if (what.kind === 'move') {
      key.x = clamp(before.x + (place.x - this.start.x) / wide, LIMITS.place)
      key.y = clamp(before.y + (place.y - this.start.y) / wide, LIMITS.place)
      if (event.shiftKey)
        key[Math.abs(key.x - before.x) > Math.abs(key.y - before.y) ? 'y' : 'x'] =
          before[Math.abs(key.x - before.x) > Math.abs(key.y - before.y) ? 'y' : 'x']
    } else if (what.kind === 'scale') {
      const factor = distance(this.start, middle) / Math.max(1, distance(place, middle))
      key.zoom = Math.min(LIMITS.zoomHigh, Math.max(LIMITS.zoomLow, before.zoom * factor))
    } else if (what.kind === 'turn') {
      const turned =
        Math.atan2(place.y - middle.y, place.x - middle.x) -
        Math.atan2(this.start.y - middle.y, this.start.x - middle.x)
      key.roll = before.roll + Math.atan2(Math.sin(turned), Math.cos(turned)) * (180 / Math.PI)
      if (event.shiftKey) key.roll = Math.round(key.roll / 15) * 15
    } else if (what.kind === 'time') {
      const [low, high] = [this.keys[what.key - 1].time + 0.02, this.keys[what.key + 1].time - 0.02]
      key.time = Math.min(high, Math.max(low, (place.x - bar.x) / bar.w))
    }
    this.setKey(this.selected, key)
  }

  setKey(index, key) {
    if (!this.drawn) this.pathEasing = 'linear'
    this.drawn = true
    this.keys = this.keys.map((one, k) => (k === index ? key : one))
    this.part = parsePath(formatKeys(this.keys, this.pathEasing))
    this.frames = FRAMES
    this.frame = Math.round(key.time * (FRAMES - 1))
    this.refresh()
  }

  drop(what) {
    if (what.kind !== 'scrub') this.commit()
  }

  commit() {
    this.write({ path: formatKeys(this.keys, this.pathEasing ?? 'linear') })
  }

  open(place) {
    const { bar } = this.layout()
    if (place.y > bar.y - BAR / 2) this.addKey(Math.min(1, Math.max(0, (place.x - bar.x) / bar.w)))
  }

  addKey(time) {
    if (this.locked()) return
    const index = this.keys.findIndex(key => key.time > time + 0.02)
    if (index < 1 || time < 0.02 || this.keys[index - 1].time > time - 0.02)
      return this.say('Mark a time between two key frames first.')
    const key = { ...viewOf(this.tableOf({ time })), time }
    this.keys = [...this.keys.slice(0, index), key, ...this.keys.slice(index)]
    this.selected = index
    this.commit()
  }

  removeKey() {
    if (this.locked() || !this.drawn || this.keys.length < 3) return
    this.keys = this.keys.filter((_, k) => k !== this.selected)
    this.keys[this.keys.length - 1] = { ...this.keys.at(-1), time: 1 }
    this.commit()
  }

  key({ key, shiftKey }) {
    if (!this.part) return false
    if (key === 'Delete' || key === 'Backspace') {
      this.removeKey()
      return true
    }
    const step = shiftKey ? 0.05 : 0.01,
      now = this.keys[this.selected]
    const change = {
      ArrowLeft: { x: now.x - step },
      ArrowRight: { x: now.x + step },
      ArrowUp: { y: now.y - step },
      ArrowDown: { y: now.y + step },
      '+': { zoom: now.zoom * (1 + step) },
      '-': { zoom: now.zoom / (1 + step) },
      ',': { roll: now.roll - 100 * step },
      '.': { roll: now.roll + 100 * step },
    }[key]
    if (!change) return false
    this.setKey(this.selected, { ...now, ...change })
    this.commit()
    return true
  }

  hover(place) {
    const handles = this.part && this.handles(),
      near = ([x, y]) => distance(place, { x, y }) < place.reach
    const { bar } = this.layout()
    this.canvas.style.cursor =
      !handles || this.locked()
        ? 'default'
        : place.y > bar.y - BAR / 2
          ? 'ew-resize'
          : near(handles.knob)
            ? 'grab'
            : handles.corners.some(near)
              ? 'nwse-resize'
              : inside(place, handles.corners)
                ? 'move'
                : 'default'
  }

  animates() {
    return Boolean(this.part) && !this.dragged && (this.playing || this.hovered)
  }

  draw(context, w, h) {
    const layout = this.layout(),
      { x, y, wide, high, map, ghost, bar } = layout
    context.fillStyle = COLOURS.hole
    context.fillRect(map.w, 0, w - map.w, h - BAR)
    context.drawImage(this.picture.canvas, x - wide / 2, y - high / 2, wide, high)
    if (!this.part || !this.planes) return
    const last = this.frames - 1,
      moment = Math.floor((performance.now() / 1000) * RATE) % (this.frames + 4)
    const shown = this.dragged || !this.animates() ? this.frame : Math.min(moment, last)
    for (const share of [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]) {
      const outline = this.outline(this.planes[Math.round(share * last)])
      if (outline) drawLine(context, outline.slice(0, 4), colourAt(share), 1, true)
    }
    const centres = this.planes.map(plane => this.outline(plane)?.[5]).filter(Boolean)
    drawLine(context, centres, COLOURS.mark, 1.5)
    centres.forEach(([cx, cy], k) => {
      context.fillStyle = colourAt(k / last)
      context.beginPath()
      context.arc(cx, cy, 2.2, 0, 7)
      context.fill()
    })
    drawLine(context, this.outline(this.planes[0]).slice(0, 4), COLOURS.first, 2, true, [6, 4])
    for (const [k, key] of this.keys.entries()) {
      const outline = k && this.outline(homography(this.tableOf(key)))
      if (!outline) continue
      drawLine(context, outline.slice(0, 4), colourAt(key.time), k === this.selected ? 2.5 : 1.5, true)
      drawHandle(context, ...outline[5], 5, colourAt(key.time))
    }
    const handles = !this.locked() && this.handles()
    if (handles) {
      drawLine(context, [handles.top, handles.knob], COLOURS.mark, 1)
      drawHandle(context, ...handles.knob, 5, COLOURS.mark)
      for (const corner of handles.corners) drawHandle(context, ...corner, 4.5, COLOURS.mark)
    }
    this.drawGhost(context, ghost, shown)
    this.drawBar(context, bar, shown / last)
  }

  drawGhost(context, { x, y, w, h }, frame) {
    context.fillStyle = '#24262c'
    context.fillRect(x, y, w, h)
    drawWarped(context, this.picture.canvas, this.planes[frame], x, y, w, h)
    context.strokeStyle = colourAt(frame / (this.frames - 1))
    context.lineWidth = 2
    context.strokeRect(x, y, w, h)
    context.fillStyle = COLOURS.dim
    context.font = '12px system-ui, sans-serif'
    context.textAlign = 'center'
    context.fillText(`frame ${frame + 1} of ${this.frames}`, x + w / 2, y + h + 16)
  }

  drawBar(context, { x, y, w }, share) {
    context.fillStyle = '#202228'
    context.fillRect(0, y - BAR / 2, w + 2 * x, BAR)
    drawLine(
      context,
      [
        [x, y],
        [x + w, y],
      ],
      '#5a606c',
      2,
    )
    drawLine(
      context,
      [
        [x + share * w, y - 9],
        [x + share * w, y + 9],
      ],
      COLOURS.mark,
      1.5,
    )
    for (const [k, { time }] of this.keys.entries()) {
      context.save()
      context.translate(x + time * w, y)
      context.rotate(Math.PI / 4)
      context.fillStyle = colourAt(time)
      context.strokeStyle = k === this.selected ? '#fff' : 'rgba(0,0,0,.7)'
      context.lineWidth = k === this.selected ? 2 : 1
      context.fillRect(-5, -5, 10, 10)
      context.strokeRect(-5, -5, 10, 10)
      context.restore()
    }
  }
}

const clamp = (value, limit) => Math.min(limit, Math.max(-limit, value))

/** Return whether a point lies in a polygon. */
function inside({ x, y }, corners) {
  let within = false
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [[ax, ay], [bx, by]] = [corners[i], corners[j]]
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within
  }
  return within
}
