// What is drawn and written reads back as it was drawn.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatKeys, keysOf, parametersOf, parsePath, pathTable, viewOf } from '../../../web/js/logic/camera.mjs'
import { formatCurve, formatList, parseCurve } from '../../../web/js/logic/curve.mjs'
import { formatPaths, parsePaths } from '../../../web/js/logic/drag.mjs'
import { isLabelled, labelsBy } from '../../../web/js/logic/labels.mjs'
import { apart, frameAt, shareAt } from '../../../web/js/logic/playing.mjs'
import { formatObjects, parseObjects, simplified } from '../../../web/js/logic/strokes.mjs'
import { formatTable, parseTable } from '../../../web/js/logic/table.mjs'

let seed = 1
const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647
const near = (a, b, tolerance) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`)

test('drawn key frames read back as drawn, within what the text rounds', () => {
  for (let round = 0; round < 200; round++) {
    const count = 2 + Math.floor(3 * random())
    const keys = Array.from({ length: count }, (_, k) =>
      k === 0
        ? { x: 0, y: 0, zoom: 1, roll: 0, time: 0 }
        : {
            x: random() - 0.5,
            y: random() - 0.5,
            zoom: 0.5 + random(),
            roll: 60 * random() - 30,
            time: (k + (k < count - 1 ? random() / 2 : 0)) / (count - 1),
          },
    )
    const text = formatKeys(keys, 'ease'),
      found = keysOf(parsePath(text))
    found.forEach((key, k) => {
      for (const name of ['x', 'y', 'zoom']) near(key[name], keys[k][name], 0.0012)
      near(key.roll, keys[k].roll, 0.051)
      near(key.time, keys[k].time, 0.0051)
    })
    assert.equal(formatKeys(found, 'ease'), text)
  }
})

test('the view of parameters is the key frame that they were made of', () => {
  const key = { x: 0.3, y: -0.2, zoom: 1.4, roll: 12 }
  for (const [name, value] of Object.entries(viewOf(parametersOf(key)))) near(value, key[name], 1e-9)
})

test('a drawn path starts with the picture itself and ends at its last key frame', () => {
  const rows = pathTable(parsePath('through 0 0; 0.1 0.1 1.5 10'), 5)
  assert.ok(rows[0].every(value => value === 0))
  near(viewOf(rows[4]).zoom, 1.5, 1e-9)
})

test('drag paths, curves and lists read back', () => {
  const paths = [
    [
      [0.1, 0.2],
      [0.3, 0.4567],
    ],
    [
      [-0.5, 1.5],
      [0, 0],
      [1, 1],
    ],
  ]
  assert.deepEqual(parsePaths(formatPaths(paths)), paths)
  const points = [
    [0, 60],
    [0.25, 180.5],
    [1, 127],
  ]
  assert.deepEqual(parseCurve(formatCurve(points)), points)
  assert.deepEqual(
    parseCurve(formatList([1, 2.25, 3])).map(([, value]) => value),
    [1, 2.25, 3],
  )
})

test('lists of points of other packs are read in shares and in pixels', () => {
  assert.deepEqual(parsePaths('[{"x": 0.25, "y": 0.5}, {"x": 1, "y": 1}]'), [
    [
      [0.25, 0.5],
      [1, 1],
    ],
  ])
  assert.deepEqual(parsePaths('[[{"x": 10, "y": 20}, {"x": 30, "y": 20}]]', [100, 40]), [
    [
      [0.1, 0.5],
      [0.3, 0.5],
    ],
  ])
  assert.throws(() => parsePaths('[{"x": 10, "y": 20}, {"x": 30, "y": 20}]'), /pixels/)
})

test('painted strokes read back, and bad ones are refused', () => {
  const text = 'brush 0.05: 0.3,0.4 0.35,0.42; brush 0.02 60%: 0.5,0.5; erase 0.03: 0.3,0.4 | box: 0.1,0.1 0.4,0.5'
  assert.equal(formatObjects(parseObjects(text)), text)
  assert.equal(parseObjects(text)[0][1].level, 0.6)
  assert.deepEqual(parseObjects(' '), [])
  for (const bad of [
    'brush: 0,0',
    'brush 0.1',
    'spray 0.1: 0,0',
    'brush 0.1: 0',
    'brush 0.1: 9,0',
    'box: 0,0',
    'brush x: 0,0',
    'brush 0.1 200%: 0,0',
    'brush 0.1: 0,0: 1,1',
  ]) {
    assert.throws(() => parseObjects(bad), undefined, bad)
  }
})

test('a stroke is thinned without leaving its line', () => {
  const points = Array.from({ length: 101 }, (_, k) => [k / 100, 0.5])
  assert.deepEqual(simplified(points), [
    [0, 0.5],
    [1, 0.5],
  ])
  const bent = [
    [0, 0],
    [0.5, 0],
    [0.5, 0.5],
  ]
  assert.deepEqual(simplified(bent), bent)
})

test('tables read back with quotes, and rows without values are kept', () => {
  const rows = [
    { seconds: '2', move: 'pan right 0.1, zoom in', title: 'a "b"' },
    { seconds: '1', move: '', title: '' },
  ]
  assert.deepEqual(parseTable(formatTable(rows)), rows)
  assert.equal(parseTable(formatTable([{}, {}])).length, 2)
})

test('two clips that repeat are compared over their join, and places stay in the clip', () => {
  near(apart(0.1, 3.4, 3.5), 0.2, 1e-9)
  near(apart(1, 1.3, 3.5), 0.3, 1e-9)
  assert.equal(apart(1, 2, NaN), 0)
  assert.deepEqual(
    [0, 1 / 7, 0.999, 9].map(time => frameAt(time, 7, 7)),
    [0, 1, 6, 6],
  )
  assert.deepEqual(
    [0, 150, 900].map(x => shareAt(x, { left: 100, width: 100 })),
    [0, 0.5, 1],
  )
})

test('options have a label with what is stored behind it, or only what is stored', () => {
  const label = labelsBy({ crop: '\u88c1\u5207' })
  assert.equal(label('crop'), '\u88c1\u5207 (crop)')
  for (const value of ['karras', 'constructor', '__proto__', '']) assert.equal(label(value), value)
  assert.equal(label(8), '8')
  assert.equal(label(null), '')
  assert.ok(isLabelled({ crop: '' }, ['pad', 'crop']))
  assert.ok(!isLabelled({ crop: '' }, ['pad', 'constructor']) && !isLabelled({ crop: '' }, undefined))
})
