// The editor's side of SVD Reel: drawn widgets for nodes whose values would otherwise be typed, and players.

import { CameraPathEditor } from './editors/camera_path.mjs'
import { addColourButton } from './editors/colour.mjs'
import { CurveEditor } from './editors/curve.mjs'
import { CutAndDragEditor } from './editors/cut_and_drag.mjs'
import { MotionMaskEditor } from './editors/motion_mask.mjs'
import { StoryboardEditor } from './editors/storyboard.mjs'
import { app, guard, widgetOf } from './host.mjs'
import { labelOptions, readLabels } from './option_labels.mjs'
import { ClipPlayer } from './players/clip_player.mjs'
import { ComparePlayer } from './players/compare_player.mjs'

const EDITORS = {
  SVDReelCameraPath: CameraPathEditor,
  SVDReelCutAndDrag: CutAndDragEditor,
  SVDReelGuidance: CurveEditor,
  SVDReelMotionAmount: CurveEditor,
  SVDReelMotionMask: MotionMaskEditor,
  SVDReelSchedule: CurveEditor,
  SVDReelStoryboard: StoryboardEditor,
}
const PLAYERS = {
  SVDReelAnimate: {},
  SVDReelDecode: {},
  SVDReelExtend: {},
  SVDReelFinish: { late: true },
  SVDReelInbetween: {},
  SVDReelLoop: {},
  SVDReelSampler: {},
  SVDReelStoryboard: {},
  SVDReelSweep: { cells: true },
}

app.registerExtension({
  name: 'svd_reel.editor',
  init: () => readLabels(),
  nodeCreated(node) {
    const Editor = EDITORS[node.comfyClass]
    const player = PLAYERS[node.comfyClass]
    if (node.comfyClass?.startsWith('SVDReel')) guard(() => labelOptions(node))
    if (Editor) guard(() => new Editor(node))
    if (node.comfyClass?.startsWith('SVDReel') && widgetOf(node, 'background'))
      guard(() => addColourButton(node, 'background'))
    if (player) guard(() => new ClipPlayer(node, player))
    if (node.comfyClass === 'SVDReelCompare') guard(() => new ComparePlayer(node))
  },
})
