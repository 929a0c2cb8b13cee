// A headless Chromium at a running ComfyUI, and what tests do with it by mouse.
//
// Scripts are run as `node SCRIPT PORT classic|vue MORE...`; they print OK, or what is wrong. PLAYWRIGHT_DIR: a folder
// with node_modules/playwright-core. CHROMIUM: the browser's program. SHOTS: a folder for screenshots, if wanted.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'

const { chromium } = createRequire(path.join(process.env.PLAYWRIGHT_DIR, 'index.js'))('playwright-core')
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/**
 * Run `test` in the editor of the script's command line, and print OK, what it returns as wrong, or what it throws.
 *
 * It gets the page, whether it is drawn by Nodes 2.0, `shot` for screenshots, `reload`, and the rest of the command
 * line.
 */
export async function inEditor(size, test) {
  const [port, renderer, ...more] = process.argv.slice(2)
  const { page, load, close } = await open(Number(port), { vue: renderer === 'vue', ...size })
  const folder = process.env.SHOTS
  const shot = async name => folder && page.screenshot({ path: path.join(folder, `${renderer}_${name}.png`) })
  try {
    const wrong = (await test({ page, vue: renderer === 'vue', shot, reload: load, more })) ?? []
    const texts = new Set([...wrong, ...page.faults])
    console.log(texts.size ? [...texts].join('\n') : 'OK')
    process.exitCode = texts.size ? 1 : 0
  } catch (error) {
    await shot('wrong')
    console.log(String(error.stack ?? error))
    process.exitCode = 1
  } finally {
    await close()
  }
}

/** Open the editor in the classic renderer or in Nodes 2.0 (`vue`); page.faults collects errors that name the pack. */
async function open(port, { vue, width, height }) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'svd-editor-'))
  await fetch(`http://127.0.0.1:${port}/api/settings`, {
    method: 'POST',
    body: JSON.stringify({ 'Comfy.TutorialCompleted': true, 'Comfy.VueNodes.Enabled': vue }),
  })
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    viewport: { width, height },
    args: FLAGS,
  })
  const page = context.pages()[0] ?? (await context.newPage())
  page.faults = []
  const ours = text => /svd_reel|SVD Reel|ComfyUI-SVD-Reel/i.test(text)
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type()) && ours(message.text() + message.location().url))
      page.faults.push(`${message.type()}: ${message.text()} ${message.location().url}`)
  })
  page.on('pageerror', error => {
    if (ours(String(error.stack ?? error))) page.faults.push(String(error.stack ?? error))
  })
  const load = async () => {
    await page.goto(`http://127.0.0.1:${port}/`, { waitUntil: 'domcontentloaded' })
    await ready(page)
  }
  await load()
  return {
    page,
    load,
    close: async () => {
      await context.close()
      fs.rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Wait until the editor can be used, and empty it. */
async function ready(page) {
  await page.waitForFunction(
    () =>
      window.app?.graph &&
      window.app?.canvas &&
      window.app?.extensionManager &&
      window.LiteGraph?.registered_node_types?.SVDReelCameraPath,
    null,
    { timeout: 180000 },
  )
  await page.waitForTimeout(2500)
  await page.evaluate(() => {
    app.graph.clear()
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [0, 0]
  })
  await page.waitForTimeout(500)
}

/** Add a node; widgets by name, size [w, h]. */
export const add = (page, type, x, y, { widgets = {}, size = null } = {}) =>
  page.evaluate(
    ([type, x, y, widgets, size]) => {
      const node = LiteGraph.createNode(type)
      node.pos = [x, y]
      app.graph.add(node)
      for (const [name, value] of Object.entries(widgets)) {
        const w = node.widgets.find(w => w.name === name)
        w.value = value
        w.callback?.(value)
      }
      if (size) node.setSize(size)
      return node.id
    },
    [type, x, y, widgets, size],
  )

/** Link an output of one node to an input of another, both by name. */
export const link = (page, from, output, to, input) =>
  page.evaluate(
    ([from, output, to, input]) => {
      const [a, b] = [app.graph.getNodeById(from), app.graph.getNodeById(to)]
      a.connect(
        a.outputs.findIndex(o => o.name === output || o.localized_name === output),
        b,
        b.inputs.findIndex(i => i.name === input),
      )
    },
    [from, output, to, input],
  )

export const valueOf = (page, id, name) =>
  page.evaluate(([id, name]) => app.graph.getNodeById(id).widgets.find(w => w.name === name).value, [id, name])

/** Press at the first of `points` (shares of the element's box), move to the others, and release. */
export async function draw(page, element, points, steps = 6) {
  const box = await element.boundingBox()
  const places = points.map(([u, v]) => [box.x + u * box.width, box.y + v * box.height])
  await page.mouse.move(...places[0])
  await page.mouse.down()
  for (const place of places.slice(1)) await page.mouse.move(...place, { steps })
  await page.mouse.up()
  await page.waitForTimeout(250)
}

/** Return shares of the drawing in a node for `points`, shares of the picture in it. */
export const inPicture = (page, id, points) =>
  page.evaluate(
    ([id, points]) => {
      const editor = app.graph.getNodeById(id).svdReelEditor
      const { x, y, w, h } = editor.box()
      const [wide, high] = editor.size
      return points.map(([u, v]) => [(x + u * w) / wide, (y + v * h) / high])
    },
    [id, points],
  )

/** Return the place on the screen of a point in the graph. */
export const place = (page, x, y) =>
  page.evaluate(
    ([x, y]) => {
      const { scale, offset } = app.canvas.ds
      const box = app.canvas.canvas.getBoundingClientRect()
      return [box.left + (x + offset[0]) * scale, box.top + (y + offset[1]) * scale]
    },
    [x, y],
  )

/** Queue the workflow and wait until nothing runs. */
export async function run(page, timeout = 240000) {
  const busy = () =>
    page.evaluate(async () => {
      const { queue_running, queue_pending } = await (await fetch('/api/queue')).json()
      return queue_running.length + queue_pending.length > 0
    })
  const end = Date.now() + timeout
  await page.evaluate(() => app.queuePrompt(0, 1))
  // Between waiting and running, a job is in neither list for a moment.
  for (let idle = 0; idle < 4; idle = (await busy()) ? 0 : idle + 1) {
    if (Date.now() > end) throw new Error(`the run took more than ${timeout} ms`)
    await page.waitForTimeout(250)
  }
  await page.waitForTimeout(1500)
}

/** Stop the player of a node at a share of its clip; return the pixels there, scaled to `size` [w, h] where given. */
export async function frameOf(page, id, share, size = null) {
  await page.waitForFunction(id => app.graph.getNodeById(id).svdReelPlayer?.video.readyState >= 2, id)
  return page.evaluate(
    async ([id, share, size]) => {
      const { video } = app.graph.getNodeById(id).svdReelPlayer
      video.pause()
      await new Promise(done => {
        video.addEventListener('seeked', done, { once: true })
        video.currentTime = share * (video.duration - 0.05)
      })
      const [width, height] = size ?? [video.videoWidth, video.videoHeight]
      const context = new OffscreenCanvas(width, height).getContext('2d')
      context.drawImage(video, 0, 0, width, height)
      return { width, height, data: [...context.getImageData(0, 0, width, height).data] }
    },
    [id, share, size],
  )
}

/** Return nodes over each other or over their group's edge, by boxes in the graph and, in Nodes 2.0, on the screen. */
export const covered = page =>
  page.evaluate(() => {
    const { scale, offset } = app.canvas.ds
    const left = app.canvas.canvas.getBoundingClientRect()
    const boxes = app.graph.nodes.map(node => {
      const [x, y] = node.pos
      const [w, h] = node.size
      const box = [x, y - 30, x + w, y + h]
      const drawn = window.LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`)
      if (drawn) {
        const seen = drawn.getBoundingClientRect()
        if (seen.width > 0) {
          box[2] = Math.max(box[2], (seen.right - left.left) / scale - offset[0])
          box[3] = Math.max(box[3], (seen.bottom - left.top) / scale - offset[1])
        }
      }
      return { title: node.title, box }
    })
    const found = []
    boxes.forEach((a, i) =>
      boxes.slice(i + 1).forEach(b => {
        const wide = Math.min(a.box[2], b.box[2]) - Math.max(a.box[0], b.box[0])
        const high = Math.min(a.box[3], b.box[3]) - Math.max(a.box[1], b.box[1])
        if (wide > 1 && high > 1) found.push(`${a.title} and ${b.title} overlap by ${wide.toFixed(0)}x${high.toFixed(0)}`)
      }),
    )
    for (const { title, pos, size } of app.graph.groups) {
      const [left, top, right, bottom] = [...pos, pos[0] + size[0], pos[1] + size[1]]
      for (const { title: name, box } of boxes) {
        const over = Math.max(box[2] - right, box[3] - bottom)
        const starts = box[0] >= left && box[0] < right && box[1] >= top && box[1] < bottom
        if (starts && over > 1) found.push(`${name} reaches ${over.toFixed(0)} out of ${title}`)
      }
    }
    return found
  })

/** Show the whole graph. */
export const fit = page =>
  page.evaluate(() => {
    const { ds, canvas } = app.canvas
    const boxes = app.graph.nodes.map(({ pos: [x, y], size: [w, h] }) => [x, y - 30, x + w, y + h])
    const [left, top] = [0, 1].map(k => Math.min(...boxes.map(box => box[k])) - 20)
    const [right, bottom] = [2, 3].map(k => Math.max(...boxes.map(box => box[k])) + 20)
    const { width, height } = canvas.getBoundingClientRect()
    ds.scale = Math.min(1, (width - 80) / (right - left), (height - 140) / (bottom - top))
    ds.offset = [80 / ds.scale - left, 100 / ds.scale - top]
    app.canvas.setDirty(true, true)
  })
