// The picture that a node will receive, found before anything has run, as a canvas to draw on and with.

import { api, app, chain, fileUrl, guard, linkOf, locatorOf, nodeOfEvent, widgetOf } from '../host.mjs'

const MOST_LINKS = 12
const MOST_PIXELS = 1024 // of the longer side
const SOURCE_CHANGED = 'svd_reel.source' // of our own, when a loader shows another file
const sent = new Map() // what nodes received at their input when they ran: {origin, address} by locator

/** A node sends the picture that it runs with, for those that no file shows. */
api.addEventListener('svd_reel.picture', ({ detail }) =>
  guard(() => {
    const node = nodeOfEvent(detail)
    if (!node) return
    sent.set(locatorOf(node), { origin: originOf(node), address: `data:image/jpeg;base64,${detail.jpeg}` })
    node.svdReelEditor?.picture?.refresh()
  }),
)

/** The picture at an input of a node; calls `changed` when another one is there. */
export class UpstreamPicture {
  constructor(node, input, changed) {
    Object.assign(this, { node, input, changed, address: null, canvas: pattern(), real: false })
    this.refresh = () => guard(() => this.load(addressOf(node, input)))
    chain(node, 'onConnectionsChange', () => setTimeout(this.refresh))
    chain(node, 'onConfigure', () => setTimeout(this.refresh, 50))
    api.addEventListener('executed', this.refresh)
    api.addEventListener(SOURCE_CHANGED, this.refresh)
    setTimeout(this.refresh)
  }

  /** Width by height. */
  get ratio() {
    return this.canvas.width / this.canvas.height
  }

  load(address) {
    if (address === this.address) return
    this.address = address
    if (!address) return this.show(pattern(), false)
    const image = new Image()
    image.crossOrigin = 'anonymous'
    image.onload = () => {
      if (address === this.address) this.show(copied(image), true)
    }
    image.onerror = () => {
      if (address === this.address) this.show(pattern(), false)
    }
    image.src = address
  }

  show(canvas, real) {
    Object.assign(this, { canvas, real })
    guard(() => this.changed())
  }

  remove() {
    this.address = undefined
    api.removeEventListener('executed', this.refresh)
    api.removeEventListener(SOURCE_CHANGED, this.refresh)
  }
}

function copied(image) {
  const scale = Math.min(1, MOST_PIXELS / Math.max(image.naturalWidth, image.naturalHeight))
  const canvas = document.createElement('canvas')
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale))
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale))
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height)
  return canvas
}

let squares = null
function pattern() {
  if (squares) return squares
  squares = Object.assign(document.createElement('canvas'), { width: 512, height: 288 })
  const context = squares.getContext('2d')
  for (let x = 0; x < 16; x++)
    for (let y = 0; y < 9; y++) {
      context.fillStyle = `hsl(${200 + 12 * x} 22% ${((x + y) % 2 ? 30 : 24) + y}%)`
      context.fillRect(x * 32, y * 32, 32, 32)
    }
  return squares
}

/** Return the address of the picture at an input of a node, or null where it cannot be known yet. */
export function addressOf(node, input) {
  const found = upstream(node, input, MOST_LINKS)
  if (found) return found
  const received = sent.get(locatorOf(node))
  if (received && received.origin === originOf(node)) return received.address
  for (const link of (node.outputs ?? []).flatMap(output => output.links ?? [])) {
    const target = node.graph?.getNodeById(linkOf(node.graph, link)?.target_id)
    if (target?.inputs?.some(slot => slot.name === input)) return upstream(target, input, MOST_LINKS)
  }
  return null
}

/** Return the addresses of all pictures that come to an input, in the order of the batch, as far as they are known. */
export function picturesOf(node, input, links = MOST_LINKS) {
  const link = linkOf(node.graph, node.inputs?.find(slot => slot.name === input)?.link)
  const source = link && links ? node.graph.getNodeById(link.origin_id) : null
  if (!source) return []
  const own = ownPicture(source)
  const inner = source.inputs?.filter(slot => slot.link != null && slot.type === 'IMAGE') ?? []
  return own ? [own] : inner.flatMap(slot => picturesOf(source, slot.name, links - 1))
}

function upstream(node, input, links) {
  const slot = node.inputs?.find(one => one.name === input)
  if (links === 0 || slot?.link == null) return null
  const link = linkOf(node.graph, slot.link)
  if (!link) return null
  const source = node.graph.getNodeById(link.origin_id)
  if (!source) {
    // the picture comes into a subgraph: go on at its outside
    const outside = (app.rootGraph ?? app.graph)?.nodes?.find(one => one.subgraph === node.graph)
    return outside ? upstream(outside, outside.inputs[link.origin_slot]?.name, links - 1) : null
  }
  return (
    ownPicture(source) ??
    source.inputs
      ?.filter(one => one.link != null && ['IMAGE', '*'].includes(one.type))
      .map(one => upstream(source, one.name, links - 1))
      .find(Boolean) ??
    null
  )
}

function ownPicture(source) {
  const sample = source.comfyClass === 'SVDReelSamplePicture' && widgetOf(source, 'picture')?.value
  if (sample) return new URL(`../../pictures/${encodeURIComponent(sample)}.jpg`, import.meta.url).href
  watch(source)
  const name = widgetOf(source, 'image')?.value
  if (typeof name === 'string' && name) return inputAddress(name)
  const output = app.nodeOutputs?.[locatorOf(source)]?.images?.[0]
  if (output && /\.(png|jpe?g|webp|gif|avif)$/i.test(output.filename)) return fileUrl(output)
  return source.imgs?.[0]?.src ?? null
}

/** Return where the picture of a node comes from, as "node:output", so that one sent earlier is known to be outdated. */
function originOf(node) {
  const link = linkOf(node.graph, node.inputs?.find(slot => slot.name === 'image')?.link)
  return link ? `${link.origin_id}:${link.origin_slot}` : ''
}

/** "folder/a.png [output]" as the host writes names of pictures. */
function inputAddress(value) {
  const [, path, type = 'input'] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(value)
  const place = path.lastIndexOf('/')
  return fileUrl({ filename: path.slice(place + 1), subfolder: path.slice(0, Math.max(place, 0)), type })
}

const watched = new WeakSet()

/** Tell all pictures when a loader shows another file. */
function watch(source) {
  for (const name of ['image', 'picture']) {
    const widget = widgetOf(source, name)
    if (!widget || watched.has(widget)) continue
    watched.add(widget)
    chain(widget, 'callback', () =>
      setTimeout(() => api.dispatchEvent(new CustomEvent(SOURCE_CHANGED))),
    )
  }
}
