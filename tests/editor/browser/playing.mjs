// Two clips compared in step by mouse, and a film whose codec the browser lacks, played from its small copy.
//
// node playing.mjs PORT classic|vue. Prints OK, or the first thing that is wrong.

import assert from 'node:assert/strict'
import { apart } from '../../../web/js/logic/playing.mjs'
import { add, draw, inEditor, link, run, valueOf } from './page.mjs'

await inEditor({ width: 1600, height: 1150 }, async ({ page, shot }) => {
  const compared = id =>
    page.evaluate(id => {
      const { videos, share, over, status } = app.graph.getNodeById(id).svdReelCompare
      return {
        share,
        times: videos.map(video => video.currentTime),
        duration: videos[0].duration,
        playing: videos.every(video => !video.paused && video.clientWidth > 0),
        widths: videos.map(video => video.clientWidth),
        over: over.textContent,
        status: status.textContent,
        size: [...app.graph.getNodeById(id).size],
      }
    }, id)

  const [cat, cup] = [
    await add(page, 'SVDReelSamplePicture', 80, 110, { widgets: { picture: 'cat' } }),
    await add(page, 'SVDReelSamplePicture', 80, 300, { widgets: { picture: 'product' } }),
  ]
  const clips = [
    await add(page, 'RepeatImageBatch', 370, 110, { widgets: { amount: 14 } }),
    await add(page, 'RepeatImageBatch', 370, 300, { widgets: { amount: 9 } }),
  ]
  const compare = await add(page, 'SVDReelCompare', 660, 110, { size: [460, 480] })
  const film = await add(page, 'SVDReelFinish', 1140, 110, {
    size: [400, 560],
    widgets: { codec: 'prores', size: '640x360', interpolate: 1, fps: 7 },
  })
  await link(page, cat, 'image', clips[0], 'image')
  await link(page, cup, 'image', clips[1], 'image')
  for (const k of [0, 1])
    await page.evaluate(
      ([from, to, slot]) => app.graph.getNodeById(from).connect(0, app.graph.getNodeById(to), slot),
      [clips[k], compare, k],
    )
  await page.evaluate(
    ([from, to]) => {
      const target = app.graph.getNodeById(to)
      app.graph.getNodeById(from).connect(
        0,
        target,
        target.inputs.findIndex(input => input.name === 'images'),
      )
    },
    [clips[0], film],
  )
  await page.waitForTimeout(500)
  const before = (await compared(compare)).size
  await run(page)
  await page.waitForFunction(
    id => app.graph.getNodeById(id).svdReelCompare.videos.every(video => video.currentTime > 0.2),
    compare,
    { timeout: 60000 },
  )
  await draw(page, page.locator('[data-testid=svd_compare] .svdr-stage').first(), [
    [0.5, 0.5],
    [0.25, 0.5],
  ])
  const slid = await compared(compare)
  await shot('compare')
  assert.ok(Math.abs(slid.share - 0.25) < 0.02, `the line is at ${slid.share}`)
  assert.ok(slid.playing && apart(...slid.times, slid.duration) < 0.16, JSON.stringify(slid))
  assert.match(slid.over, /^frame \d+ of 14$/)
  assert.match(slid.status, /^9 frames, PSNR \d+\.\d dB$/)
  assert.deepEqual(slid.size, before, 'the node keeps its size')
  await page.evaluate(id => {
    const view = app.graph.getNodeById(id).widgets.find(widget => widget.name === 'view')
    view.value = 'side by side'
    view.callback?.(view.value)
  }, compare)
  await page.locator('[data-testid=svd_compare]').getByText('\u203a', { exact: true }).click()
  await page.waitForTimeout(600)
  const beside = await compared(compare)
  assert.ok(!beside.playing && Math.abs(beside.times[0] - beside.times[1]) < 1e-3, JSON.stringify(beside))
  assert.ok(beside.widths[0] < 0.6 * slid.widths[0])
  assert.equal(await valueOf(page, compare, 'view'), 'side by side')

  const played = await page.evaluate(async id => {
    const { video, status } = app.graph.getNodeById(id).svdReelPlayer
    return {
      time: video.currentTime,
      paused: video.paused,
      wide: video.clientWidth,
      status: status.textContent,
      source: new URL(video.src).searchParams.get('filename'),
    }
  }, film)
  await shot('film')
  assert.match(played.source, /\.mp4$/, 'a small copy is played')
  assert.match(played.status, /\.mov$/, 'the path of the film is shown')
  assert.ok(!played.paused && played.time > 0 && played.wide > 0, JSON.stringify(played))
})
