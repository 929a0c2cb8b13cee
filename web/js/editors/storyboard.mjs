// The Storyboard widget: the table of panels with thumbnails; CSV in the text stays the stored form.

import {
  addElement,
  api,
  button,
  chain,
  fileUrl,
  guard,
  isLinked,
  make,
  rememberStep,
  setWidget,
  widgetOf,
} from '../host.mjs'
import { formatTable, parseTable } from '../logic/table.mjs'
import { picturesOf } from './picture.mjs'

const MOVES = [
  'zoom in 1.1',
  'zoom out 1.1',
  'pan right 0.1',
  'pan left 0.1',
  'tilt up 0.1',
  'tilt down 0.1',
  'roll cw 4',
  'dolly in 0.1',
  'orbit right 8',
  'handheld',
  'static',
]
const TRANSITIONS = ['', 'cut', 'cross-fade']
const PIXELS_PER_SECOND = 24 // of dragging

export class StoryboardEditor {
  constructor(node) {
    this.node = node
    this.text = widgetOf(node, 'panels')
    this.moves = make(
      'datalist',
      '',
      { id: `svdr-moves-${Math.random().toString(36).slice(2)}` },
      ...MOVES.map(value => make('option', '', { value })),
    )
    this.body = make('tbody')
    const heading = ['', 'image', 'seconds', 'move', 'transition', 'title', ''].map(textContent =>
      make('th', '', { textContent }),
    )
    const table = make('table', 'svdr-table', {}, make('thead', '', {}, make('tr', '', {}, ...heading)), this.body)
    const adds = button('+ panel', 'Add a panel', () => this.save([...this.rows, {}]))
    this.status = make('div', 'svdr-status')
    this.element = make(
      'div',
      'svdr-editor',
      {},
      make('div', 'svdr-scroll', {}, table),
      make('div', 'svdr-bar', {}, adds),
      this.status,
      this.moves,
    )
    this.element.dataset.testid = 'svd_storyboard'
    addElement(node, 'svd_storyboard', this.element, 230)
    // The host must neither drag the node nor delete it while a cell is edited.
    for (const name of ['pointerdown', 'keydown', 'wheel'])
      this.element.addEventListener(name, event => event.stopPropagation())
    const read = () => guard(() => this.read())
    chain(this.text, 'callback', read)
    chain(node, 'onConfigure', read)
    chain(node, 'onConnectionsChange', () => setTimeout(read))
    this.element.addEventListener('pointerenter', read)
    api.addEventListener('executed', read)
    chain(node, 'onRemoved', () => api.removeEventListener('executed', read))
    node.svdReelEditor = this
    this.read()
  }

  read() {
    const images = picturesOf(this.node, 'images')
    const state = JSON.stringify([this.text.value, images, isLinked(this.node, 'panels')])
    if (state === this.state) return
    this.state = state
    this.images = images
    try {
      this.rows = parseTable(String(this.text.value ?? ''))
    } catch (error) {
      this.rows = []
      this.body.replaceChildren()
      this.status.classList.add('svdr-wrong')
      return (this.status.textContent = error.message)
    }
    this.status.classList.remove('svdr-wrong')
    this.show()
  }

  show() {
    const locked = isLinked(this.node, 'panels')
    this.body.replaceChildren(...this.rows.map((row, k) => this.rowOf(row, k, locked)))
    const usual = Number(widgetOf(this.node, 'seconds')?.value) || 0
    const total = this.rows.reduce((sum, row) => sum + (Number(row.seconds) || usual), 0)
    const open = usual ? 0 : this.rows.filter(row => !Number(row.seconds)).length
    const panels = this.rows.length || this.images.length
    const length = total ? `, ${total.toFixed(1)} s${open ? ' and the auto ones' : ''}` : ''
    const origin = this.rows.length ? '' : ', one for each image'
    const words = `${panels} panel${panels === 1 ? '' : 's'}${length}${origin}`
    this.status.textContent = locked ? 'The table comes from a link.' : words
  }

  rowOf(row, index, locked) {
    const cell = (...children) => make('td', '', {}, ...children)
    const input = (name, properties) => {
      const made = make('input', '', { value: row[name] ?? '', disabled: locked, title: name, ...properties })
      made.addEventListener('change', () => guard(() => this.change(index, name, made.value.trim())))
      return made
    }
    const seconds = input('seconds', {
      type: 'text',
      inputMode: 'decimal',
      placeholder: 'auto',
      title: 'Seconds; drag sideways to change',
    })
    if (!locked) this.dragSeconds(seconds, row, index)
    const transition = make(
      'select',
      '',
      { disabled: locked || index === 0 },
      ...TRANSITIONS.map(value => make('option', '', { value, textContent: value || 'as below' })),
    )
    transition.value = TRANSITIONS.includes(row.transition ?? '') ? (row.transition ?? '') : ''
    transition.addEventListener('change', () => guard(() => this.change(index, 'transition', transition.value)))
    const address = this.thumbnail(row, index)
    const thumb = address ? make('img', '', { src: address, alt: '' }) : make('div', 'svdr-thumb')
    const move = input('move', { placeholder: 'free' })
    move.setAttribute('list', this.moves.id)
    const up = button('\u2191', 'Move the panel up', () => this.swap(index))
    const out = button('\u00d7', 'Remove the panel', () => this.save(this.rows.filter((_, k) => k !== index)))
    up.disabled = locked || index === 0
    out.disabled = locked
    return make(
      'tr',
      '',
      {},
      cell(thumb),
      cell(input('image', { placeholder: String(index + 1) })),
      cell(seconds),
      cell(move),
      cell(transition),
      cell(input('title', {})),
      cell(make('span', 'svdr-bar', {}, up, out)),
    )
  }

  thumbnail(row, index) {
    const name = row.image ?? ''
    if (name && !/^\d+$/.test(name))
      return fileUrl({
        filename: name.split('/').at(-1),
        subfolder: name.split('/').slice(0, -1).join('/'),
        type: 'input',
      })
    return this.images[Number(name || index + 1) - 1] ?? null
  }

  dragSeconds(input, row, index) {
    input.style.cursor = 'ew-resize'
    input.addEventListener('pointerdown', event => {
      if (event.button || document.activeElement === input) return
      const [start, before] = [event.clientX, Number(row.seconds) || 2]
      const scale = input.getBoundingClientRect().width / input.offsetWidth || 1
      input.setPointerCapture(event.pointerId)
      const follow = moved => {
        const value = before + (moved.clientX - start) / scale / PIXELS_PER_SECOND
        input.value = String(Math.max(0.1, Math.round(value * 10) / 10))
      }
      const end = () => {
        input.removeEventListener('pointermove', follow)
        if (Math.abs(Number(input.value) - before) >= 0.1) this.change(index, 'seconds', input.value)
      }
      input.addEventListener('pointermove', follow)
      input.addEventListener('pointerup', end, { once: true })
    })
  }

  change(index, name, value) {
    this.save(this.rows.map((row, k) => (k === index ? { ...row, [name]: value } : row)))
  }

  swap(index) {
    const rows = [...this.rows]
    ;[rows[index - 1], rows[index]] = [rows[index], rows[index - 1]]
    this.save(rows)
  }

  save(rows) {
    if (isLinked(this.node, 'panels')) return
    // A table that starts from a batch has a row for each of its images.
    const started =
      this.rows.length || rows.length !== 1
        ? rows
        : Array.from({ length: Math.max(1, this.images.length) }, () => ({ seconds: '2' }))
    setWidget(this.node, this.text, formatTable(started))
    this.read()
    rememberStep()
  }
}
