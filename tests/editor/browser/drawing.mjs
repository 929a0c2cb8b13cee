// By mouse: a camera move, an object and its path, a mask, a guidance curve, three panels; then a run with nano.
//
// node drawing.mjs PORT classic|vue. Prints OK, or the first thing that is wrong.

import assert from 'node:assert/strict'
import { add, draw, inEditor, inPicture, link, run, valueOf } from './page.mjs'

await inEditor({ width: 1600, height: 1250 }, async ({ page, shot }) => {
  const editor = (id, what) =>
    page.evaluate(([id, what]) => window[`svd_${what}`](app.graph.getNodeById(id).svdReelEditor), [id, what])
  const shares = ({ x, y }, [w, h]) => [x / w, y / h]
  const undo = async () => {
    await page.mouse.click(80, 1150)
    await page.keyboard.press('Control+z')
    await page.waitForTimeout(900)
  }

  await page.evaluate(() => {
    window.svd_camera = e => ({ ...e.handles(), size: e.size })
    window.svd_point = e => ({ ...e.placeOf(e.points.at(-1)), size: e.size })
  })
  const stage = name => page.locator(`[data-testid=${name}] canvas`).first()

  const picture = await add(page, 'SVDReelSamplePicture', 80, 110)
  const camera = await add(page, 'SVDReelCameraPath', 420, 110, { size: [520, 700] })
  await page.mouse.click(80, 1150)
  await link(page, picture, 'image', camera, 'image')
  await page.waitForTimeout(1200)
  await page.mouse.click(80, 1150) // an undo step of what is there so far
  const before = await page.evaluate(id => [...app.graph.getNodeById(id).size], camera)
  const { middle, size } = await editor(camera, 'camera')
  const from = shares({ x: middle[0], y: middle[1] }, size)
  await draw(page, stage('svd_camera_path'), [from, [from[0] + 0.06, from[1] - 0.06]])
  assert.match(await valueOf(page, camera, 'path'), /^through 0 0; 0\.\d+ -0\.\d+$/)
  assert.equal(
    await page.evaluate(id => app.graph.getNodeById(id).widgets.find(w => w.name === 'move').disabled, camera),
    true,
  )
  assert.deepEqual(await page.evaluate(id => [...app.graph.getNodeById(id).size], camera), before)
  const drawn = await valueOf(page, camera, 'path')
  await shot('camera')
  await undo()
  assert.equal(await valueOf(page, camera, 'path'), '')
  await page.keyboard.press('Control+y')
  await page.waitForTimeout(900)
  assert.equal(await valueOf(page, camera, 'path'), drawn)

  // A run of another workflow must not be shown here, although a node has the same number.
  await page.evaluate(async id => {
    const { api } = await import('/scripts/api.js')
    const detail = { node: String(id), workflow: 'another', frames: [], step: 1, steps: 2, fps: 7, each: 1, count: 0 }
    api.dispatchEvent(new CustomEvent('svd_reel.preview', { detail }))
  }, camera)
  assert.equal(await page.evaluate(id => 'svdReelPlayer' in app.graph.getNodeById(id), camera), false)

  await page.evaluate(() => app.graph.clear())
  const [again, drag, mask] = [
    await add(page, 'SVDReelSamplePicture', 80, 110, { widgets: { picture: 'drawing' } }),
    await add(page, 'SVDReelCutAndDrag', 420, 110, { size: [520, 900] }),
    await add(page, 'SVDReelMotionMask', 980, 110, { size: [520, 900] }),
  ]
  await page.mouse.click(80, 1150)
  await link(page, again, 'image', drag, 'image')
  await link(page, again, 'image', mask, 'image')
  await page.waitForTimeout(1200)
  await draw(
    page,
    stage('svd_cut_and_drag'),
    await inPicture(page, drag, [
      [0.85, 0.15],
      [0.89, 0.2],
      [0.85, 0.22],
    ]),
  )
  const [start] = (await valueOf(page, drag, 'path')).split('; ').map(point => point.split(',').map(Number))
  assert.ok(Math.hypot(start[0] - 0.865, start[1] - 0.18) < 0.04, `the path starts at the object, not at ${start}`)
  const end = (await valueOf(page, drag, 'path')).split('; ')[1].split(',').map(Number)
  await draw(page, stage('svd_cut_and_drag'), await inPicture(page, drag, [end, [0.5, 0.15]]))
  const reached = (await valueOf(page, drag, 'path')).split('; ')[1].split(',').map(Number)
  assert.ok(Math.hypot(reached[0] - 0.5, reached[1] - 0.15) < 0.05, `the path ends at ${reached}`)
  await draw(
    page,
    stage('svd_motion_mask'),
    await inPicture(page, mask, [
      [0.65, 0.3],
      [0.75, 0.45],
      [0.7, 0.5],
    ]),
  )
  assert.match(await valueOf(page, mask, 'painted'), /^brush 0\.04: 0\.\d+,0\.\d+ /)
  await shot('objects_and_mask')
  const saved = await page.evaluate(() => JSON.stringify(app.graph.serialize()))
  assert.ok(
    !/null/.test(JSON.stringify(JSON.parse(saved).nodes.map(node => node.widgets_values))),
    'a widget leaves a hole in the file',
  )
  await page.evaluate(async text => app.loadGraphData(JSON.parse(text)), saved)
  await page.waitForTimeout(1200)
  assert.deepEqual(
    await page.evaluate(() => app.graph.serialize().nodes.map(n => n.widgets_values)),
    JSON.parse(saved).nodes.map(n => n.widgets_values),
  )

  await page.evaluate(() => app.graph.clear())
  const guidance = await add(page, 'SVDReelGuidance', 420, 110, { size: [480, 480] })
  const board = await add(page, 'SVDReelStoryboard', 920, 110, { size: [600, 1000] })
  await page.waitForTimeout(1000)
  await page.mouse.click(80, 1150)
  const last = await editor(guidance, 'point')
  const at = shares(last, last.size)
  await draw(page, stage('svd_curve'), [at, [at[0], at[1] - 0.2]])
  assert.equal(await valueOf(page, guidance, 'shape'), 'custom')
  assert.ok(Number((await valueOf(page, guidance, 'points')).split(', ').at(-1)) > 3)
  const table = page.locator('[data-testid=svd_storyboard]').first()
  for (let panel = 0; panel < 3; panel++) await table.getByText('+ panel').click()
  await table.locator('input[list]').nth(1).fill('pan right 0.1')
  await table.locator('input[list]').nth(1).press('Tab')
  await page.waitForTimeout(300)
  assert.equal((await valueOf(page, board, 'panels')).split('\n').length, 4)
  assert.match(await valueOf(page, board, 'panels'), /pan right 0\.1/)
  await shot('curve_and_panels')

  await page.evaluate(() => app.graph.clear())
  const [model, photo, animate, save] = [
    await add(page, 'SVDReelLoadModel', 80, 400),
    await add(page, 'SVDReelSamplePicture', 80, 110),
    await add(page, 'SVDReelAnimate', 440, 110, { size: [460, 760], widgets: { steps: 4, seed: Date.now() } }),
    await add(page, 'PreviewImage', 980, 110),
  ]
  await link(page, model, 'model', animate, 'model')
  await link(page, photo, 'image', animate, 'image')
  await link(page, animate, 'frames', save, 'images')
  await page.evaluate(id => {
    const player = app.graph.getNodeById(id).svdReelPlayer
    const show = player.preview.bind(player)
    window.svd_previews = []
    player.preview = detail => (window.svd_previews.push(detail.frames.length), show(detail))
  }, animate)
  await run(page)
  const plays = id => {
    const { video } = app.graph.getNodeById(id).svdReelPlayer
    return !video.paused && video.currentTime > 0 && video.clientWidth > 0
  }
  await page.waitForFunction(plays, animate, { timeout: 120000 })
  const shown = await page.evaluate(
    id => ({ taken: app.graph.getNodeById(id).svdReelPlayer.status.textContent, previews: window.svd_previews }),
    animate,
  )
  await shot('clip')
  assert.ok(shown.previews.length > 0 && shown.previews.every(count => count > 1), 'no moving preview came')
  assert.match(shown.taken, /^128x128, \d+ frames, 4 steps, .*s$/)
  // The last step's frames may still be read when the node says what the run took.
  const late = await page.evaluate(async id => {
    const player = app.graph.getNodeById(id).svdReelPlayer
    const canvas = new OffscreenCanvas(8, 8)
    canvas.getContext('2d').fillRect(0, 0, 8, 8)
    const jpeg = await canvas.convertToBlob({ type: 'image/jpeg' })
    const frame = btoa(String.fromCharCode(...new Uint8Array(await jpeg.arrayBuffer())))
    const reading = player.preview({ frames: [frame], step: 4, steps: 4, left: 0, fps: 7, each: 1, count: 1 })
    player.executed({ svd_taken: ['what it took'] })
    await reading
    return player.status.textContent
  }, animate)
  assert.equal(late, 'what it took')
})
