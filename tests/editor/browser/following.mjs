// By mouse: a mask is painted, a guidance curve drawn, a film of three panels set up; the clips of nano follow.
//
// node following.mjs PORT classic|vue. Prints OK, or the first thing that is wrong.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { add, draw, frameOf, inEditor, inPicture, link, run, valueOf } from './page.mjs'

const STEPS = 6
const SMALL = [32, 32] // pixels of frames that are compared
const PICTURES = ['product', 'cat', 'night']

/** Return the mean difference of two frames in levels of 255, over the pixels where `counts(x, y)` in shares. */
function difference(a, b, counts = () => true) {
  let [sum, pixels] = [0, 0]
  for (let k = 0; k < a.width * a.height; k++) {
    if (!counts(((k % a.width) + 0.5) / a.width, (Math.floor(k / a.width) + 0.5) / a.height)) continue
    for (let c = 0; c < 3; c++) sum += Math.abs(a.data[4 * k + c] - b.data[4 * k + c])
    pixels += 3
  }
  return sum / pixels
}

/** Build the chain from a picture to a clip; `steer` adds nodes between and returns [node, output, the sampler's input]. */
async function chain(page, picture, steer) {
  const model = await add(page, 'SVDReelLoadModel', 80, 320)
  const photo = await add(page, 'SVDReelSamplePicture', 80, 110, { widgets: { picture } })
  const motion = await add(page, 'SVDReelMotion', 80, 620, { widgets: { motion_bucket_id: 220 } })
  const condition = await add(page, 'SVDReelCondition', 400, 110)
  const steps = await add(page, 'SVDReelSchedule', 400, 560, { widgets: { steps: STEPS } })
  const sampler = await add(page, 'SVDReelSampler', 1300, 110, { size: [300, 460], widgets: { seed: 7 } })
  const decode = await add(page, 'SVDReelDecode', 1300, 720, { size: [300, 440] })
  const frames = await add(page, 'PreviewImage', 1640, 110)
  await page.evaluate(() => {
    for (const { widgets } of app.graph.nodes)
      for (const widget of widgets ?? []) if (widget.name === 'control_after_generate') widget.value = 'fixed'
  })
  const links = [
    [model, 'model', condition, 'model'],
    [photo, 'image', condition, 'image'],
    [motion, 'motion', condition, 'motion'],
    [model, 'model', sampler, 'model'],
    [condition, 'positive', sampler, 'positive'],
    [condition, 'negative', sampler, 'negative'],
    [condition, 'latent', sampler, 'latent'],
    [steps, 'sigmas', sampler, 'sigmas'],
    [model, 'vae', decode, 'vae'],
    [sampler, 'latent', decode, 'latent'],
    [decode, 'frames', frames, 'images'],
  ]
  for (const one of links) await link(page, ...one)
  await steer({ model, photo, condition, sampler })
  await page.mouse.click(80, 1180)
  await page.waitForTimeout(1200)
  return { sampler, decode }
}

const clipOf = async (page, id, size) => {
  const frames = []
  for (const share of [0, 0.25, 0.5, 0.75, 1]) frames.push(await frameOf(page, id, share, size))
  return frames
}

/** Only the painted half of the picture moves. */
async function mask(page, shot) {
  let brush = null
  const { decode } = await chain(page, 'product', async ({ model, photo, condition, sampler }) => {
    brush = await add(page, 'SVDReelMotionMask', 740, 110, { size: [520, 900], widgets: { moving_bucket: 255 } })
    await link(page, model, 'model', brush, 'model')
    await link(page, photo, 'image', brush, 'image')
    await link(page, condition, 'latent', brush, 'latent')
    await link(page, brush, 'control', sampler, 'control')
  })
  await page.locator('[data-testid=svd_motion_mask]').getByText('box', { exact: true }).click()
  const stage = page.locator('[data-testid=svd_motion_mask] canvas').first()
  const corners = [
    [0.02, 0.02],
    [0.98, 0.5],
  ]
  await draw(page, stage, await inPicture(page, brush, corners))
  assert.match(await valueOf(page, brush, 'painted'), /^box: /)
  await run(page)
  const frames = await clipOf(page, decode)
  await shot('mask_followed')
  const moved = counts => Math.max(...frames.slice(1).map(frame => difference(frames[0], frame, counts)))
  const [painted, still] = [moved((x, y) => y < 0.4), moved((x, y) => y > 0.6)]
  console.error(`painted ${painted.toFixed(2)}, still ${still.toFixed(2)}`)
  assert.ok(painted > 3 * still, `the painted half changes by ${painted} levels, the other by ${still}`)
}

/** A drawn curve changes the clip most where it differs from the usual one: at the end. */
async function guidance(page, shot) {
  let curve = null
  const { decode } = await chain(page, 'product', async ({ sampler }) => {
    curve = await add(page, 'SVDReelGuidance', 740, 110, { size: [480, 520] })
    await link(page, curve, 'guidance', sampler, 'guidance')
  })
  await run(page)
  const before = await clipOf(page, decode)
  const at = await page.evaluate(id => {
    const editor = app.graph.getNodeById(id).svdReelEditor
    const { x, y } = editor.placeOf(editor.points.at(-1))
    return [x / editor.size[0], y / editor.size[1]]
  }, curve)
  const drawing = page.locator('[data-testid=svd_curve]').filter({ hasText: 'guidance' }).locator('canvas').first()
  await draw(page, drawing, [at, [at[0], at[1] - 0.15]])
  assert.equal(await valueOf(page, curve, 'shape'), 'custom')
  const points = (await valueOf(page, curve, 'points')).split(', ').map(Number)
  await run(page)
  const after = await clipOf(page, decode)
  await shot('curve_followed')
  const changes = after.map((frame, k) => difference(frame, before[k]))
  console.error(`guidance ${points}, changes ${changes.map(value => value.toFixed(2))}`)
  assert.ok(changes.at(-1) > 1 && changes.at(-1) > 2 * changes[0], `the frames change by ${changes} levels`)
}

/** A film of three panels shows three pictures, each for as long as was dragged. */
async function storyboard(page, shot) {
  const model = await add(page, 'SVDReelLoadModel', 80, 700)
  const photos = []
  for (const [k, picture] of PICTURES.entries())
    photos.push(await add(page, 'SVDReelSamplePicture', 80, 110 + 190 * k, { widgets: { picture } }))
  const joins = [await add(page, 'ImageBatch', 420, 110), await add(page, 'ImageBatch', 420, 300)]
  const board = await add(page, 'SVDReelStoryboard', 740, 110, {
    size: [640, 1050],
    widgets: { steps: STEPS, width: 128, height: 128 },
  })
  const links = [
    [photos[0], 'image', joins[0], 'image1'],
    [photos[1], 'image', joins[0], 'image2'],
    [joins[0], 'IMAGE', joins[1], 'image1'],
    [photos[2], 'image', joins[1], 'image2'],
    [joins[1], 'IMAGE', board, 'images'],
    [model, 'model', board, 'model'],
  ]
  for (const one of links) await link(page, ...one)
  const sheet = await add(page, 'PreviewImage', 1410, 110)
  await link(page, board, 'sheet', sheet, 'images')
  await page.mouse.click(80, 1180)
  await page.waitForTimeout(1000)
  const table = page.locator('[data-testid=svd_storyboard]').first()
  while ((await table.locator('tbody tr').count()) < PICTURES.length) {
    await table.getByText('+ panel').click()
    await page.waitForTimeout(300)
  }
  for (let panel = 0; panel < PICTURES.length; panel++) {
    const box = await table.locator('tbody tr').nth(panel).locator('input').nth(1).boundingBox()
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2]
    await page.mouse.move(x, y)
    await page.mouse.down()
    await page.mouse.move(x - 24, y, { steps: 6 }) // a second less than the two at the start
    await page.mouse.up()
    await page.waitForTimeout(300)
  }
  const panels = await valueOf(page, board, 'panels')
  const [heading, ...rows] = panels.split('\n').map(row => row.split(','))
  const seconds = rows.map(row => Number(row[heading.indexOf('seconds')]))
  assert.ok(seconds.length === 3 && seconds.every(value => Math.abs(value - 1) < 0.15), panels)
  await run(page)
  const total = seconds.reduce((sum, value) => sum + value)
  const middles = seconds.map((value, k) => (seconds.slice(0, k).reduce((sum, one) => sum + one, 0) + value / 2) / total)
  const pictures = await Promise.all(PICTURES.map(name => still(page, name)))
  for (const [k, share] of middles.entries()) {
    const frame = await frameOf(page, board, share, SMALL)
    const apart = pictures.map(picture => difference(frame, picture))
    console.error(`panel ${k + 1}: ${apart.map(value => value.toFixed(1))}`)
    assert.equal(apart.indexOf(Math.min(...apart)), k, `panel ${k + 1} is ${apart} levels from the pictures`)
  }
  await shot('storyboard_followed')
  const taken = await page.evaluate(id => app.graph.getNodeById(id).svdReelPlayer.status.textContent, board)
  assert.ok(taken.includes(` ${Math.round(total * 7)} frames`), `${total} s became ${taken}`)
}

/** Return a sample picture as clips show it: its middle square, small. */
function still(page, name) {
  const file = fs.readFileSync(new URL(`../../../web/pictures/${name}.jpg`, import.meta.url)).toString('base64')
  return page.evaluate(
    async ([file, [width, height]]) => {
      const image = await createImageBitmap(await (await fetch(`data:image/jpeg;base64,${file}`)).blob())
      const side = Math.min(image.width, image.height)
      const context = new OffscreenCanvas(width, height).getContext('2d')
      context.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, width, height)
      return { width, height, data: [...context.getImageData(0, 0, width, height).data] }
    },
    [file, SMALL],
  )
}

await inEditor({ width: 1900, height: 1250 }, async ({ page, shot }) => {
  for (const scene of [mask, guidance, storyboard]) {
    await scene(page, shot)
    await page.evaluate(() => app.graph.clear())
  }
})
