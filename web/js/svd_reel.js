// The editor's side of SVD Reel: drawn widgets for nodes whose values would otherwise be typed.

import { app, guard } from './host.mjs'
import { CameraPathEditor } from './editors/camera_path.mjs'

const EDITORS = { SVDReelCameraPath: CameraPathEditor }

app.registerExtension({
  name: 'svd_reel.editor',
  nodeCreated(node) {
    const Editor = EDITORS[node.comfyClass]
    if (Editor) guard(() => new Editor(node))
  },
})
