"""Chromium without a window, driven over its DevTools pipe: clicks, touch, sizes, pictures."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
PHONE, DESKTOP = (360, 740), (1280, 900)


class Browser:
    """One page; a context that ends the browser."""

    def __init__(self, profile: Path) -> None:
        back_read, self._write = os.pipe()
        self._read, back_write = os.pipe()
        # Chromium has the pipe's ends as 3 and 4; bash can move files beyond 9, too.
        move = f'exec 3<&{back_read} 4>&{back_write}; exec "$@"'
        command = ["bash", "-c", move, "bash", str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            command, pass_fds=(back_read, back_write), stderr=subprocess.DEVNULL
        )
        os.close(back_read)
        os.close(back_write)
        self._held = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        self.complaints: list[str] = []
        """Errors of the page's script and refusals of its security policy."""
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._write)  # the browser ends with its pipe
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def call(self, method: str, **params: Any) -> Any:
        """A DevTools command's result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            data = os.read(self._read, 1 << 20)
            assert data, "chromium has ended"
            self._held += data
        line, _, self._held = self._held.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        method, params = answer.get("method"), answer.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        return answer

    def open(self, url: str, size: tuple[int, int] = DESKTOP, **media: str) -> None:
        """Load a page at a size (PHONE: with touch); ``media``: ``prefers_color_scheme="dark"``."""
        width, height = size
        phone = size == PHONE
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "mobile": phone, "deviceScaleFactor": 1 + phone},
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        features = [{"name": k.replace("_", "-"), "value": v} for k, v in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.complaints.clear()
        self.call("Page.navigate", url="about:blank")  # a fragment alone would not load anew
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && document.querySelector('h1')")

    def js(self, expression: str) -> Any:
        """The value of an expression of the page, awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 20) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def at(self, selector: str) -> tuple[float, float]:
        """Where the first element of a selector lies, scrolled into the middle of the screen."""
        x, y = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        return x, y

    def move(self, selector: str) -> None:
        """Bring the mouse over an element."""
        x, y = self.at(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click an element with the mouse."""
        x, y = self.at(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def tap(self, selector: str) -> None:
        """Touch an element."""
        x, y = self.at(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, name: str, code: int) -> None:
        """Press a key, e.g. ``key("Tab", 9)``."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code)

    def picture(self, path: Path, *, whole: bool = False) -> Path:
        """A screenshot as PNG, of the screen or of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path
