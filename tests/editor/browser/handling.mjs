// What people do with nodes, by mouse and keys: copy and paste, undo, resize, link a widget, and draw in a subgraph.
//
// node handling.mjs PORT classic|vue. Prints OK, or the first thing that is wrong.

import assert from 'node:assert/strict'
import { add, draw, inEditor, link, place, valueOf } from './page.mjs'

await inEditor({ width: 1700, height: 1150 }, async ({ page, vue, shot }) => {
  const EMPTY = [90, 1080]

  const sizeOf = id => page.evaluate(id => [...app.graph.getNodeById(id).size], id)
  const cameras = () =>
    page.evaluate(() => app.graph.nodes.filter(node => node.type === 'SVDReelCameraPath').map(node => node.id))
  /** Drag the orange frame of the `index`-th camera on the screen by shares of the drawing. */
  async function film(id, [u, v]) {
    const [x, y] = await page.evaluate(id => {
      const graph = app.canvas.graph
      const { middle } = graph.getNodeById(id).svdReelEditor.handles()
      const { size } = graph.getNodeById(id).svdReelEditor
      return [middle[0] / size[0], middle[1] / size[1]]
    }, id)
    const index = await page.evaluate(
      id => {
        const { element } = app.canvas.graph.getNodeById(id).svdReelEditor
        return [...document.querySelectorAll('[data-testid=svd_camera_path]')].indexOf(element)
      },
      id,
    )
    const stage = page.locator('[data-testid=svd_camera_path]').nth(index).locator('canvas').first()
    await draw(page, stage, [
      [x, y],
      [x + u, y + v],
    ])
  }

  const picture = await add(page, 'SVDReelSamplePicture', 80, 110)
  const camera = await add(page, 'SVDReelCameraPath', 420, 110, { size: [420, 600] })
  await link(page, picture, 'image', camera, 'image')
  await page.mouse.click(...EMPTY)
  await page.waitForTimeout(1200)
  await film(camera, [0.06, -0.04])
  const drawn = await valueOf(page, camera, 'path')
  assert.match(drawn, /^through /)

  // Copy and paste: the copy has the same path, and a drawing of its own.
  await page.mouse.click(...(await place(page, 600, 95)))
  await page.keyboard.press('Control+c')
  await page.mouse.move(...(await place(page, 1050, 200)))
  await page.keyboard.press('Control+v')
  await page.waitForTimeout(1200)
  const copy = (await cameras()).find(id => id !== camera)
  assert.ok(copy !== undefined, 'nothing was pasted')
  assert.equal(await valueOf(page, copy, 'path'), drawn)
  await page.evaluate(id => {
    const node = app.graph.getNodeById(id)
    node.pos = [920, 110]
    app.canvas.setDirty(true, true)
  }, copy)
  await page.mouse.click(...EMPTY)
  await page.waitForTimeout(800)
  await film(copy, [-0.08, 0.02])
  assert.notEqual(await valueOf(page, copy, 'path'), drawn)
  assert.equal(await valueOf(page, camera, 'path'), drawn)
  await shot('copied')

  // Undo: one stroke is one step.
  await page.mouse.click(...EMPTY)
  await page.keyboard.press('Control+z')
  await page.waitForTimeout(1200)
  assert.equal(await valueOf(page, copy, 'path'), drawn)

  // Resize by the corner: the drawing grows with the node.
  const before = await sizeOf(camera)
  const high = await page.evaluate(id => app.graph.getNodeById(id).svdReelEditor.stage.clientHeight, camera)
  const corner = await place(page, 420 + before[0] - (vue ? 4 : 5), 110 + before[1] - (vue ? 4 : 5))
  await page.mouse.move(...corner)
  await page.mouse.down()
  await page.mouse.move(corner[0] + 40, corner[1] + 150, { steps: 6 })
  await page.mouse.up()
  await page.waitForTimeout(800)
  const after = await sizeOf(camera)
  const higher = await page.evaluate(id => app.graph.getNodeById(id).svdReelEditor.stage.clientHeight, camera)
  await shot('resized')
  assert.ok(after[0] > before[0] + 20 && after[1] > before[1] + 80, `${before} became ${after}`)
  assert.ok(higher > high + 60, `the drawing has ${higher} pixels in place of ${high}`)
  assert.equal(await valueOf(page, camera, 'path'), drawn)

  // A linked widget: the drawing is dimmed and does not change.
  const words = await add(page, 'PrimitiveString', 80, 500, { widgets: { value: 'zoom in 1.2' } })
  await page.evaluate(
    ([from, to]) => {
      const target = app.graph.getNodeById(to)
      app.graph.getNodeById(from).connect(0, target, target.inputs.findIndex(input => input.name === 'path'))
    },
    [words, camera],
  )
  await page.waitForTimeout(1000)
  const locked = await page.evaluate(id => {
    const { element } = app.graph.getNodeById(id).svdReelEditor
    return element.classList.contains('svdr-off')
  }, camera)
  assert.ok(locked, 'the drawing is not dimmed')
  await film(camera, [0.1, 0.1]).catch(() => {})
  assert.equal(await valueOf(page, camera, 'path'), drawn)
  await shot('linked')
  const { output } = await page.evaluate(() => app.graphToPrompt())
  assert.deepEqual(output[camera].inputs.path, [String(words), 0])
  await page.evaluate(
    id => {
      const target = app.graph.getNodeById(id)
      target.disconnectInput(target.inputs.findIndex(input => input.name === 'path'))
    },
    camera,
  )

  // Inside a subgraph: it is drawn there, and the prompt follows.
  const outer = await page.evaluate(id => {
    const made = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]))
    return made.node.id
  }, copy)
  await page.waitForTimeout(800)
  await page.evaluate(id => app.canvas.openSubgraph(app.graph.getNodeById(id).subgraph, app.graph.getNodeById(id)), outer)
  await page.waitForTimeout(1500)
  await page.evaluate(() => {
    const node = app.canvas.graph.nodes[0]
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [420 - node.pos[0], 150 - node.pos[1]]
    app.canvas.setDirty(true, true)
  })
  await page.waitForTimeout(1200)
  const inner = await page.evaluate(() => app.canvas.graph.nodes[0].id)
  await film(inner, [0.02, 0.1])
  const inside = await page.evaluate(
    id => app.canvas.graph.getNodeById(id).widgets.find(widget => widget.name === 'path').value,
    inner,
  )
  await shot('subgraph')
  assert.match(inside, /^through /)
  assert.notEqual(inside, drawn)
  const nested = (await page.evaluate(() => app.graphToPrompt())).output
  const [found] = Object.entries(nested).filter(([id]) => id.startsWith(`${outer}:`))
  assert.equal(found[1].inputs.path, inside)
})
