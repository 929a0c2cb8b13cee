// The Cut and Drag widget: objects are painted on the picture and dragged along drawn paths; a ghost shows where to.

import { button, make } from '../host.mjs'
import { formatPaths, parseNumbers, parsePaths, placeAt } from '../logic/drag.mjs'
import { formatObjects, parseObjects } from '../logic/strokes.mjs'
import { distance, drawHandle, drawLine } from './drawn_editor.mjs'
import { Pen, PictureEditor, replaced, tinted } from './picture_editor.mjs'

const COLOURS = ['#50aaff', '#ffbe28', '#78e678', '#f078f0'] // as nodes/shared/previews.py
const FRAMES = 25
const RATE = 7
const ARM = 38 // pixels from the end of a path to the knob for scale and turn
const MOST_OBJECTS = 16
const START = [
  [0.5, 0.5],
  [0.7, 0.5],
]

export class CutAndDragEditor extends PictureEditor {
  constructor(node) {
    super(node, {
      id: 'svd_cut_and_drag',
      label: 'Objects and their paths on the picture',
      height: 360,
      margin: 0.06,
      names: ['path', 'objects', 'easing', 'scale', 'rotation'],
    })
    this.selected = 0
    this.point = 1
    this.paths = [START]
    this.objects = []
    this.pen = new Pen(this)
    this.lines = button('path', 'Draw the path: click to add points, drag them, Delete removes one', () =>
      this.usePath(),
    )
    this.chips = make('span', 'svdr-bar')
    const clear = button('clear', 'Remove the selected object and its path', () => this.removeObject())
    this.bar.append(this.lines, ...this.pen.elements, make('span', 'svdr-space'), this.chips, clear)
    this.pen.use('brush')
    this.read()
  }

  toolChanged() {
    this.drawing = false
    this.lines?.classList.remove('svdr-on')
  }

  usePath() {
    this.drawing = true
    this.pen.leave()
    this.lines.classList.add('svdr-on')
  }

  read() {
    if (!this.picture) return
    const { width, height } = this.picture.canvas
    try {
      this.paths = parsePaths(String(this.value('path') ?? ''), [width, height]).filter(path => path.length)
      this.objects = parseObjects(String(this.value('objects') ?? ''))
    } catch (error) {
      return this.say(error.message, true)
    }
    this.scales = parseNumbers(String(this.value('scale') ?? ''))
    this.turns = parseNumbers(String(this.value('rotation') ?? ''))
    this.masked = replaced(this.node, ['mask', 'box', 'objects'])
    const count = Math.max(this.paths.length, this.masked ? 0 : this.objects.length, 1)
    this.selected = Math.min(this.selected, count - 1)
    this.point = Math.min(this.point, (this.paths[this.selected] ?? START).length - 1)
    this.cuts = this.masked ? [] : this.objects.map(strokes => this.cut(strokes))
    this.background = this.filled()
    this.showChips(count)
    if (this.masked) this.say(`The objects come from ${this.masked}; draw their paths.${this.hint()}`)
    else if (!this.cuts.some(Boolean)) this.say('Paint over the object to drag.' + this.hint())
    else this.say('Drag the end of the path; the knob there turns and scales the object.' + this.hint())
  }

  showChips(count) {
    const chips = Array.from({ length: count }, (_, k) => {
      const chip = button(String(k + 1), `Object ${k + 1}`, () => {
        this.selected = k
        this.showChips(count)
        this.ask()
      })
      chip.style.color = COLOURS[k % COLOURS.length]
      chip.classList.toggle('svdr-on', k === this.selected)
      return chip
    })
    const more = button('+', 'Another object', () => this.addObject())
    more.disabled = this.locked() || count >= MOST_OBJECTS
    this.chips.replaceChildren(...chips, more)
  }

  /** Return an object cut out of the picture, with its centre in shares; null if nothing is painted. */
  cut(strokes) {
    if (!strokes.length) return null
    const mask = this.maskOf(strokes)
    const { width, height } = mask
    const alpha = mask.getContext('2d').getImageData(0, 0, width, height).data
    let [sum, x, y] = [0, 0, 0]
    for (let place = 3, k = 0; place < alpha.length; place += 4, k++) {
      if (!alpha[place]) continue
      sum += alpha[place]
      x += alpha[place] * ((k % width) + 0.5)
      y += alpha[place] * (Math.floor(k / width) + 0.5)
    }
    if (!sum) return null
    const image = make('canvas', '', { width, height })
    const context = image.getContext('2d')
    context.drawImage(mask, 0, 0)
    context.globalCompositeOperation = 'source-in'
    context.drawImage(this.picture.canvas, 0, 0, width, height)
    return { image, mask, centre: [x / sum / width, y / sum / height] }
  }

  /** Return the picture with the places of the objects filled softly from around them. */
  filled() {
    const cuts = this.cuts.filter(Boolean)
    if (!cuts.length) return null
    const [width, height] = this.maskSize()
    const around = make('canvas', '', { width, height })
    let context = around.getContext('2d')
    context.drawImage(this.picture.canvas, 0, 0, width, height)
    context.globalCompositeOperation = 'destination-out'
    for (const { mask } of cuts) context.drawImage(mask, 0, 0)
    const filled = make('canvas', '', { width, height })
    context = filled.getContext('2d')
    // Ever less blurred layers: what is far inside a hole comes from far around it.
    for (const blur of [60, 30, 14, 6, 2, 0]) {
      context.filter = blur ? `blur(${blur}px)` : 'none'
      for (let layer = 0; layer < (blur ? 3 : 1); layer++) context.drawImage(around, 0, 0)
    }
    return filled
  }

  pathOf(index) {
    const path = this.paths[index] ?? this.paths[0] ?? START
    return path.length > 1 ? path : [path[0], path[0]]
  }

  addObject() {
    this.selected = Math.max(this.paths.length, this.objects.length)
    const paths = Array.from({ length: this.selected }, (_, k) => this.pathOf(k))
    const objects = Array.from({ length: this.selected }, (_, k) => this.objects[k] ?? [])
    this.write({
      path: formatPaths([...paths, START]),
      ...(this.masked ? {} : { objects: formatObjects([...objects, []]) }),
    })
    this.pen.use('brush')
  }

  removeObject() {
    if (this.locked()) return
    const without = list => list.filter((_, k) => k !== this.selected)
    const paths = without(this.paths)
    this.write({ path: formatPaths(paths.length ? paths : [START]), objects: formatObjects(without(this.objects)) })
  }

  knob() {
    const end = this.placeOf(this.pathOf(this.selected).at(-1))
    const [turn, scale] = [((this.turns.at(-1) ?? 0) * Math.PI) / 180, this.scales.at(-1) ?? 1]
    const length = ARM * Math.min(2.5, Math.max(0.5, scale))
    return { x: end.x + Math.sin(turn) * length, y: end.y - Math.cos(turn) * length }
  }

  grab(place) {
    if (!this.masked && !this.drawing) {
      const near = this.cuts[this.selected] && this.touched(place)
      if (near) return near
      this.stroke = this.pen.start(this.shareOf(place))
      return { kind: 'paint', always: true }
    }
    const touched = this.touched(place)
    if (touched) return touched
    const path = [...this.pathOf(this.selected), this.shareOf(place)]
    this.point = path.length - 1
    this.setPath(path)
    return { kind: 'point', always: true }
  }

  /** Return the knob or point under the pointer. */
  touched(place) {
    if (distance(place, this.knob()) < place.reach) return { kind: 'knob' }
    const path = this.pathOf(this.selected)
    for (let k = path.length - 1; k >= 0; k--) {
      if (distance(place, this.placeOf(path[k])) >= place.reach) continue
      this.point = k
      return { kind: k ? 'point' : 'all', before: path }
    }
    return null
  }

  setPath(path) {
    const count = Math.max(this.paths.length, this.selected + 1)
    this.paths = Array.from({ length: count }, (_, k) => (k === this.selected ? path : this.pathOf(k)))
  }

  drag(what, place) {
    const [u, v] = this.shareOf(place).map(value => Math.min(1.5, Math.max(-0.5, value)))
    if (what.kind === 'paint') this.pen.extend(this.stroke, [u, v])
    else if (what.kind === 'point')
      this.setPath(this.pathOf(this.selected).map((point, k) => (k === this.point ? [u, v] : point)))
    else if (what.kind === 'all') {
      const [du, dv] = [u - what.before[0][0], v - what.before[0][1]]
      this.setPath(what.before.map(([x, y]) => [x + du, y + dv]))
    } else this.turnAndScale(place)
  }

  turnAndScale(place) {
    const end = this.placeOf(this.pathOf(this.selected).at(-1))
    const turn = (Math.atan2(place.x - end.x, end.y - place.y) * 180) / Math.PI
    const scale = Math.min(2.5, Math.max(0.5, distance(place, end) / ARM))
    this.turns = [...this.turns.slice(0, -1), Math.abs(turn) < 4 ? 0 : turn]
    this.scales = [...this.scales.slice(0, -1), Math.abs(scale - 1) < 0.06 ? 1 : scale]
  }

  drop(what) {
    if (what.kind === 'knob') {
      const text = (values, plain, digits) =>
        values.every(value => value === plain) ? '' : values.map(v => String(Number(v.toFixed(digits)))).join(', ')
      return this.write({ scale: text(this.scales, 1, 2), rotation: text(this.turns, 0, 0) })
    }
    if (what.kind !== 'paint') return this.write({ path: formatPaths(this.paths) })
    const stroke = this.pen.end(this.stroke)
    this.stroke = null
    const count = Math.max(this.objects.length, this.selected + 1)
    const objects = Array.from({ length: count }, (_, k) => [
      ...(this.objects[k] ?? []),
      ...(k === this.selected ? [stroke] : []),
    ])
    // A path starts at the object, as soon as that has a place.
    const centre = this.cut(objects[this.selected])?.centre
    if (centre && !this.cuts[this.selected]) {
      const path = this.pathOf(this.selected)
      this.setPath(path.map(([x, y]) => [x - path[0][0] + centre[0], y - path[0][1] + centre[1]]))
    }
    this.write({ objects: formatObjects(objects), path: formatPaths(this.paths) })
  }

  key({ key }) {
    if (key !== 'Delete' && key !== 'Backspace') return false
    const path = this.pathOf(this.selected)
    if (path.length > 2) {
      this.setPath(path.filter((_, k) => k !== this.point))
      this.write({ path: formatPaths(this.paths) })
    }
    return true
  }

  hover(place) {
    this.under = place
    const touches =
      Boolean(this.cuts?.[this.selected] || this.drawing || this.masked) && distance(place, this.knob()) < place.reach
    this.canvas.style.cursor = this.locked() ? 'default' : touches ? 'grab' : 'crosshair'
  }

  animates() {
    return this.hovered && !this.dragged && Boolean(this.cuts?.some(Boolean))
  }

  draw(context) {
    const box = this.box()
    this.drawPicture(context)
    const moment = Math.floor((performance.now() / 1000) * RATE) % (FRAMES + 5)
    const when = this.animates() ? Math.min(1, moment / (FRAMES - 1)) : 1
    if (this.cuts?.some(Boolean)) this.drawGhost(context, box, when)
    if (this.stroke) {
      context.globalAlpha = 0.6
      context.drawImage(
        tinted(
          this.maskOf([...(this.objects[this.selected] ?? []), this.stroke]),
          COLOURS[this.selected % COLOURS.length],
        ),
        box.x,
        box.y,
        box.w,
        box.h,
      )
      context.globalAlpha = 1
    }
    this.paths.forEach((_, k) => this.drawPath(context, k))
    if (!this.locked() && (this.cuts?.[this.selected] || this.masked)) {
      const [end, knob] = [this.placeOf(this.pathOf(this.selected).at(-1)), this.knob()]
      drawLine(
        context,
        [
          [end.x, end.y],
          [knob.x, knob.y],
        ],
        '#fff',
        1,
      )
      drawHandle(context, knob.x, knob.y, 5, '#fff')
    }
    if (this.under && !this.drawing && !this.masked && this.pen.kind !== 'box' && !this.locked()) {
      context.beginPath()
      context.arc(this.under.x, this.under.y, Number(this.pen.width.value) * box.w, 0, 7)
      context.strokeStyle = '#fff'
      context.lineWidth = 1
      context.stroke()
    }
  }

  drawGhost(context, box, when) {
    context.drawImage(this.background, box.x, box.y, box.w, box.h)
    context.save()
    context.beginPath()
    context.rect(box.x, box.y, box.w, box.h)
    context.clip()
    this.cuts.forEach((cut, k) => {
      if (!cut) return
      const [x, y] = [box.x + cut.centre[0] * box.w, box.y + cut.centre[1] * box.h]
      const {
        x: dx,
        y: dy,
        scale,
        turn,
      } = placeAt(this.pathOf(k), this.scales, this.turns, String(this.value('easing')), when)
      const put = (alpha, shiftX, shiftY, size, angle, image) => {
        context.save()
        context.globalAlpha = alpha
        context.translate(x + shiftX * box.w, y + shiftY * box.h)
        context.rotate((angle * Math.PI) / 180)
        context.scale(size, size)
        context.drawImage(image, box.x - x, box.y - y, box.w, box.h)
        context.restore()
      }
      put(0.5, 0, 0, 1, 0, cut.image)
      put(0.25, 0, 0, 1, 0, tinted(cut.mask, COLOURS[k % COLOURS.length]))
      put(1, dx, dy, scale, turn, cut.image)
    })
    context.restore()
  }

  drawPath(context, index) {
    const path = this.pathOf(index)
    const colour = COLOURS[index % COLOURS.length]
    const places = path.map(point => this.placeOf(point))
    drawLine(
      context,
      places.map(({ x, y }) => [x, y]),
      colour,
      index === this.selected ? 2.5 : 1.5,
    )
    places.forEach(({ x, y }, k) => {
      const radius = k === places.length - 1 ? 6 : 4.5
      drawHandle(context, x, y, radius, k === 0 ? '#fff' : colour)
      if (index === this.selected && k === this.point) drawHandle(context, x, y, 2, '#000')
    })
  }
}
