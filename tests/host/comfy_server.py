"""A real ComfyUI as a test subject: started on the CPU with the pack linked in, driven over HTTP and its websocket.

Standard library only. COMFYUI_DIR is a checkout of ComfyUI, COMFYUI_PYTHON an interpreter that has its requirements.
"""

import base64
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]
FOLDERS = (
    "custom_nodes",
    "input",
    "output",
    "temp",
    "user",
    "models/checkpoints",
    "models/loras",
    "models/vae",
    "models/svd",
)
START_SECONDS, RUN_SECONDS = 300, 1800  # ends of waiting: the film takes ten minutes of two cores


class Server:
    """One ComfyUI process on a free port, with everything it writes under `base`; `pack` is the folder of the pack."""

    def __init__(self, base: Path, *arguments: str, pack: Path = PACK):
        self.base, self.arguments = base, arguments
        for folder in FOLDERS:
            (base / folder).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes" / "ComfyUI-SVD-Reel").symlink_to(pack)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None

    def start(self) -> "Server":
        """Start and wait until it answers; fails with the end of its log."""
        command = [os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", "--cpu", "--disable-auto-launch"]
        command += ["--base-directory", str(self.base), "--port", str(self.port), *self.arguments]
        command += ["--database-url", f"sqlite:///{self.base}/user/comfyui.db"]
        with (self.base / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=os.environ["COMFYUI_DIR"], stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                self.get("/system_stats")
                return self
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None:
                    break
                time.sleep(0.3)
        raise RuntimeError(f"ComfyUI did not start; the end of its log:\n{self.log()[-3000:]}")

    def stop(self) -> None:
        """End the process that `start` made."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def log(self) -> str:
        """What the server has written so far, without colours."""
        text = (self.base / "server.log").read_text(encoding="utf-8", errors="replace")
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def get(self, path: str):
        """Answer to a GET request, read as JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: dict):
        """Answer to a POST request: (status, JSON or None)."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        return status, json.loads(content) if content.strip() else None

    def run(self, graph: dict, *, on_message=None) -> "Run":
        """Queue a graph in API form and wait for its end."""
        client = uuid.uuid4().hex
        with Listener(self.port, client) as listener:
            status, answer = self.post("/prompt", {"prompt": graph, "client_id": client})
            if status != 200:
                raise AssertionError(f"ComfyUI refused the graph: {json.dumps(answer, indent=1)[:3000]}")
            result = Run(answer["prompt_id"])
            end = time.monotonic() + RUN_SECONDS
            while not result.ended:
                if time.monotonic() > end:
                    raise AssertionError(f"the run did not end in {RUN_SECONDS} s: {result.messages[-5:]}")
                message = listener.receive()
                result.take(message)
                if on_message is not None:
                    on_message(message)
        # The host announces the end before it writes the history.
        while result.id not in (history := self.get(f"/history/{result.id}")):
            time.sleep(0.05)
        result.outputs = history[result.id]["outputs"]
        return result

    def file(self, entry: dict) -> Path:
        """Path of a file that a node reported in its outputs."""
        return self.base / entry["type"] / entry.get("subfolder", "") / entry["filename"]


class Run:
    """The messages of a queued graph while it ran, and its outputs by node."""

    ENDS = ("execution_success", "execution_error", "execution_interrupted")

    def __init__(self, prompt_id: str):
        self.id, self.messages, self.previews = prompt_id, [], []
        self.outputs: dict = {}

    def take(self, message) -> None:
        """Sort one message of the websocket."""
        (self.previews if isinstance(message, bytes) else self.messages).append(message)

    @property
    def ended(self) -> str | None:
        """The message type with which the run ended; None while it is running."""
        for message in self.messages:
            if message["type"] in self.ENDS and message["data"].get("prompt_id") == self.id:
                return message["type"]
        return None

    def executed(self) -> set[str]:
        """Nodes that really ran."""
        nodes = {m["data"].get("node") for m in self.messages if m["type"] == "executing"}
        return {node for node in nodes if node is not None}

    def error(self) -> str:
        """Text of the error that ended the run."""
        return next((m["data"]["exception_message"] for m in self.messages if m["type"] == "execution_error"), "")

    def progress(self, node: str) -> list[int]:
        """Values that a node's progress bar showed."""
        return [m["data"]["value"] for m in self.messages if m["type"] == "progress" and str(m["data"]["node"]) == node]


class Listener:
    """A minimal websocket client for ComfyUI: text messages as JSON, binary ones as bytes."""

    def __init__(self, port: int, client: str):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=RUN_SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET /ws?clientId={client} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.stream.recv(65536)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head.split(b"\r\n")[0], head
        self.send({"type": "feature_flags", "data": {"supports_preview_metadata": True}})

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_) -> None:
        self.stream.close()

    def send(self, message: dict) -> None:
        """Send JSON as one masked text frame."""
        body, mask = json.dumps(message).encode(), os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))
        self.stream.sendall(struct.pack("!BBH", 0x81, 0x80 | 126, len(body)) + mask + masked)

    def receive(self):
        """The next message; pings are skipped."""
        content, kind = b"", 0
        while True:
            first, second = self._read(2)
            size = second & 0x7F
            if size > 125:
                size = struct.unpack("!H" if size == 126 else "!Q", self._read(2 if size == 126 else 8))[0]
            part, opcode = self._read(size), first & 0x0F
            if opcode == 8:
                raise ConnectionError("ComfyUI closed the websocket")
            if opcode > 8:
                continue
            content, kind = content + part, opcode or kind
            if first & 0x80:
                return json.loads(content) if kind == 1 else content

    def _read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            received = self.stream.recv(1 << 20)
            if not received:
                raise ConnectionError("ComfyUI closed the connection")
            self.buffer += received
        part, self.buffer = self.buffer[:size], self.buffer[size:]
        return part
