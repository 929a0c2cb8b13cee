"""The client on the page about HTTP, run against a real ComfyUI with the shipped API form."""

import re
import runpy

from PIL import Image

from tests.helpers.nodes_pack import ROOT


def test_the_client_makes_a_clip_of_a_photograph(server, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "http_api.md").read_text(encoding="utf-8"), re.DOTALL)
    Image.effect_noise((160, 120), 60).convert("RGB").save(server.base / "input" / "photo.png")
    script = tmp_path / "client.py"
    script.write_text(code.replace("127.0.0.1:8188", f"127.0.0.1:{server.port}"), encoding="utf-8")
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(script))
    (name,) = re.findall(r"'filename': '([^']+\.mp4)'", capsys.readouterr().out)
    assert (server.base / "output" / "video" / name).stat().st_size > 1000
