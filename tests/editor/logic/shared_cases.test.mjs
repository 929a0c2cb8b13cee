// What JavaScript reads out of the widgets' texts is what Python reads: tests/data/editor_cases.json.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { homography, parsePath, pathTable, project } from '../../../web/js/logic/camera.mjs'
import { guidanceAt, parseCurve, valueAt } from '../../../web/js/logic/curve.mjs'
import { parseNumbers, parsePaths, placeAt } from '../../../web/js/logic/drag.mjs'
import { parseTable } from '../../../web/js/logic/table.mjs'

const cases = JSON.parse(readFileSync(new URL('../../data/editor_cases.json', import.meta.url), 'utf8'))
const moments = Array.from({ length: cases.frames }, (_, k) => k / (cases.frames - 1))

function near(found, wanted, tolerance, what) {
  assert.equal(found.length, wanted.length, what)
  found.forEach((value, k) =>
    Array.isArray(value)
      ? near(value, wanted[k], tolerance, what)
      : assert.ok(Math.abs(value - wanted[k]) <= tolerance, `${what}: ${value} is not ${wanted[k]}`),
  )
}

test('camera paths have the parameters and views of Python', () => {
  for (const { text, table, shown } of cases.camera) {
    const rows = pathTable(parsePath(text), cases.frames),
      plane = homography(rows.at(-1))
    near(rows, table, 2e-9, text)
    near(
      [
        [0, 0],
        [0.1, 0],
        [0, 0.1],
        [-0.2, 0.1],
        [0.3, -0.2],
      ].map(([x, y]) => project(plane, x, y)),
      shown,
      2e-9,
      text,
    )
  }
})

test('camera paths that Python refuses are refused', () => {
  for (const text of cases.camera_refused) assert.throws(() => parsePath(text), undefined, text)
})

test('drag paths have the places of Python', () => {
  for (const { points, scales, turns, easing, places } of cases.drags) {
    const found = parsePaths(points).map(path =>
      moments.map(when => Object.values(placeAt(path, parseNumbers(scales), parseNumbers(turns), easing, when))),
    )
    found.forEach((path, k) => near(path, places[k], 1e-6, points))
  }
  for (const text of cases.drags_refused) assert.throws(() => parsePaths(text), undefined, text)
})

test('curves have the points and values of Python', () => {
  for (const { text, points, values } of cases.curves) {
    near(parseCurve(text), points, 1e-9, text)
    near(
      moments.map(when => valueAt(parseCurve(text), when)),
      values,
      1e-5,
      text,
    )
  }
  for (const text of cases.curves_refused) assert.throws(() => parseCurve(text), undefined, text)
  // The ramps of a trapezoid end between frames in Python, so it may be one frame off.
  for (const [name, values] of Object.entries(cases.guidance))
    near(
      values.map((_, k) => guidanceAt(name, 1, 3, k / 100)),
      values,
      name === 'trapezoid' ? 0.23 : 1e-6,
      name,
    )
})

test('storyboard tables have the rows of Python', () => {
  for (const { text, rows } of cases.tables) {
    const found = parseTable(text).map(row => Object.fromEntries(Object.entries(row).filter(([, value]) => value)))
    const texts = rows.map(row => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, String(value)])))
    const numbers = row =>
      Object.fromEntries(
        Object.entries(row).map(([name, value]) => [
          name,
          ['seconds', 'bucket', 'fade'].includes(name) ? String(Number(value)) : value,
        ]),
      )
    assert.deepEqual(found.map(numbers), texts.map(numbers), text)
  }
})
