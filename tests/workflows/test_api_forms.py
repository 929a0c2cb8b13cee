"""The API forms of the main workflows, and the client on their page, against a server that answers like ComfyUI."""

import json
import re
import runpy
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.workflows.api_forms import API_FOLDER, MAIN, build_api_forms
from tools.workflows.library import host_nodes, host_versions, own_nodes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http_api.md").read_text(encoding="utf-8")


def client() -> str:
    """The Python code of the page."""
    (code,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    return code


class Answers(BaseHTTPRequestHandler):
    """Accepts a prompt and reports it as finished at the second request for its history."""

    asked: list = []

    def do_POST(self) -> None:
        """Answer /prompt."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body))
        self._answer({"prompt_id": "1234"})

    def do_GET(self) -> None:
        """Answer /history."""
        self.asked.append((self.path, None))
        done = sum(path.startswith("/history") for path, _ in self.asked) > 1
        self._answer({"1234": {"outputs": {"5": {"images": [{"filename": "clip.mp4"}]}}}} if done else {})

    def log_message(self, *_) -> None:
        """Print nothing."""

    def _answer(self, content: dict) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())


def test_the_files_match_the_workflows() -> None:
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in API_FOLDER.iterdir()}
    assert files == build_api_forms(), "run `python -m tools.workflows`"


@pytest.mark.parametrize("version", host_versions())
@pytest.mark.parametrize("name", MAIN)
def test_every_required_input_has_a_value_or_a_link_to_an_output_of_its_type(name: str, version: str) -> None:
    prompt, known = build_api_forms()[name], {**host_nodes(version), **own_nodes()}
    for number, call in prompt.items():
        declared = known[call["class_type"]]
        assert set(call) == {"class_type", "inputs", "_meta"} and call["_meta"]["title"]
        assert set(call["inputs"]) <= set(declared.inputs)
        for entry in declared.inputs.values():
            value = call["inputs"].get(entry.name)
            if isinstance(value, list):
                origin, slot = value
                assert known[prompt[origin]["class_type"]].outputs[slot][1] == entry.type, (number, entry.name)
            assert entry.optional or value is not None, (number, entry.name)


def test_the_client_has_ten_lines_and_prints_the_files_of_the_clip(monkeypatch, capsys, tmp_path) -> None:
    code = client()
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    monkeypatch.setattr(Answers, "asked", [])
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.chdir(API_FOLDER.parents[1])
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        script = tmp_path / "client.py"
        script.write_text(code.replace("127.0.0.1:8188", f"127.0.0.1:{server.server_port}"), encoding="utf-8")
        runpy.run_path(str(script))
        server.shutdown()
    (path, body), *history = Answers.asked
    assert path == "/prompt" and len(history) == 2
    sent = {call["class_type"]: call["inputs"] for call in body["prompt"].values()}
    assert sent["LoadImage"]["image"] == "photo.png" and "SVDReelSamplePicture" not in sent
    assert "clip.mp4" in capsys.readouterr().out
