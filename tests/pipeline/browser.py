"""A headless Chromium that opens one page and says what a person would notice; driven through a pipe.

The pipe carries DevTools messages, JSON ended by a zero byte: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-pipe", "about:blank",
)  # fmt: skip
PATIENCE = 60  # seconds for any answer
# The width of what is laid out, and what sticks out of it although no parent scrolls, as `tag.class left-right`.
MEASURE = """(() => {
  const wide = document.documentElement.clientWidth, out = [];
  for (const e of document.body.querySelectorAll('*')) {
    const box = e.getBoundingClientRect();
    if (box.right <= wide + 1 && box.left >= -1) continue;
    let scrolls = false;
    for (let p = e.parentElement; p; p = p.parentElement) scrolls ||= getComputedStyle(p).overflowX !== 'visible';
    if (!scrolls) out.push(`${e.tagName}.${e.getAttribute('class')} ${box.left}-${box.right}`);
  }
  return {page: document.documentElement.scrollWidth, window: wide, out: out.slice(0, 5)};
})()"""


@dataclass
class Seen:
    """What happened while a page was open: `requests` beyond the page itself, and `complaints` on the console."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Browser:
    """One tab; `seen` collects from the last `open` on."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer, self._buffer = reader, writer, b""
        self._count, self._session, self.seen = 0, None, Seen()
        self._page = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def open(self, path: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
        """Opens a file in a window `width` wide, waits until it is loaded, and returns what `MEASURE` finds."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.seen, self._page = Seen(), path.resolve().as_uri()
        self.send("Page.navigate", url=self._page)
        self._wait(lambda message: message.get("method") == "Page.loadEventFired")
        return self.run(MEASURE)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path: Path, top: int = 0, height: int | None = None) -> None:
        """Writes a PNG of the page, the whole of it or `height` pixels from `top` on."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        shot = self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda message: message.get("id") == self._count)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _wait(self, wanted: Any) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self._buffer:
                ready = select.select([self._reader], [], [], max(0, end - time.monotonic()))[0]
                chunk = os.read(self._reader, 1 << 20) if ready else b""
                assert chunk, "the browser does not answer"
                self._buffer += chunk
            line, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(line)
            self._note(message)
            if wanted(message):
                return message

    def _note(self, message: dict[str, Any]) -> None:
        about = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                url = about["request"]["url"]
                if url != self._page and not url.startswith("data:"):
                    self.seen.requests.append(url)
            case "Runtime.consoleAPICalled" if about["type"] in ("error", "warning", "assert"):
                self.seen.complaints.append(str(about["args"]))
            case "Runtime.exceptionThrown":
                self.seen.complaints.append(str(about["exceptionDetails"]))
            case "Log.entryAdded" if about["entry"]["level"] in ("error", "warning"):
                self.seen.complaints.append(about["entry"]["text"])


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Starts Chromium with a profile of its own, and ends it."""
    theirs_in, writer = os.pipe()
    reader, theirs_out = os.pipe()
    # Chromium reads commands from descriptor 3 and writes answers to 4.
    start = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", CHROMIUM, *OPTIONS]
    process = subprocess.Popen(
        [*start, f"--user-data-dir={profile}"], pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(reader, writer)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(reader)
        os.close(writer)
