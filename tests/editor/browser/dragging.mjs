// By mouse: the sun of a drawing is painted over and dragged; in the last frame of the clip it is where it was dropped.
//
// node dragging.mjs PORT classic|vue WORKFLOW. Prints OK, or what is wrong.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { draw, fit, frameOf, inEditor, inPicture, run, valueOf } from './page.mjs'

const NEAR = 0.05 // of the picture's sides, between the place where the object was dropped and the one where it is

await inEditor({ width: 2400, height: 1300 }, async ({ page, shot, more: [workflow] }) => {
  const graph = JSON.parse(fs.readFileSync(workflow, 'utf8'))
  await page.evaluate(async graph => app.loadGraphData(graph, true, true, 'dragging'), graph)
  await page.waitForTimeout(1500)
  await fit(page)
  const [drag, decode] = await page.evaluate(() => {
    const find = type => app.graph.nodes.find(node => node.type === type)
    const node = find('SVDReelCutAndDrag')
    for (const name of ['objects', 'path']) {
      const widget = node.widgets.find(widget => widget.name === name)
      widget.value = ''
      widget.callback?.('')
    }
    find('SVDReelSampler').widgets.find(widget => widget.name === 'seed').value = Date.now() % 1000
    return [node.id, find('SVDReelDecode').id]
  })
  await page.waitForTimeout(800)
  const stage = page.locator('[data-testid=svd_cut_and_drag] canvas').first()
  const sun = [
    [0.845, 0.15],
    [0.89, 0.16],
    [0.885, 0.21],
    [0.845, 0.2],
  ]
  await draw(page, stage, await inPicture(page, drag, sun), 10)
  const ends = async () => (await valueOf(page, drag, 'path')).split('; ').map(point => point.split(',').map(Number))
  const dropped = [0.45, 0.2]
  await draw(page, stage, await inPicture(page, drag, [(await ends()).at(-1), dropped]), 10)
  const drawn = (await ends()).at(-1)
  assert.ok(Math.hypot(drawn[0] - dropped[0], drawn[1] - dropped[1]) < 0.03, `the path ends at ${drawn}`)
  await shot('drag_before')
  await run(page, 540000)
  const { width, height, data } = await frameOf(page, decode, 1)
  await shot('drag_after')
  // The sun is the only yellow thing of the drawing.
  let [sum, across, down] = [0, 0, 0]
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const [r, g, b] = data.slice(4 * (y * width + x), 4 * (y * width + x) + 3)
      const weight = Math.max(0, Math.min(r, g) - b - 40)
      sum += weight
      across += weight * (x + 0.5)
      down += weight * (y + 0.5)
    }
  const ratio = await page.evaluate(id => app.graph.getNodeById(id).svdReelEditor.picture.ratio, drag)
  // The clip shows the middle of the picture, cut to its own shape.
  const shown = [Math.min(1, width / height / ratio), Math.min(1, (ratio * height) / width)]
  const found = [across / sum / width, down / sum / height].map((value, k) => (value - 0.5) * shown[k] + 0.5)
  const apart = Math.hypot(found[0] - drawn[0], found[1] - drawn[1])
  console.error(JSON.stringify({ drawn, found, apart, sum }))
  assert.ok(sum > 500, 'the sun is not in the last frame')
  assert.ok(apart < NEAR, `dropped at ${drawn}, in the last frame at ${found}`)
})
