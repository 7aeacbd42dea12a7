"""Requests that nobody sends who means well, made at random from what such requests are made of."""

from __future__ import annotations

import json
import random
from typing import Any

MARKUP = "<img src=x onerror=alert(1)>\"'</script>"
TEXTS = [
    *("", "/", "..", "../../etc/passwd", "/etc/passwd", "C:\\windows\\x", "\x00", "a\nb", MARKUP),
    *(
        "file:///etc/passwd",
        "http://127.0.0.1:1/x",
        "s3://x/y",
        "_target_",
        "os.system",
        "x" * 20_000,
    ),
    *(
        "${oc.env:HOME}",
        "${env}",
        "memory",
        "door_key,size=6",
        "memory,size=999999999",
        "é\u202e😀",
    ),
    *("memory,_target_=os.system", "memory,size=7,size=9", "memory,size=", "dynamic_obstacles"),
    *("memory,max_steps=-1", "memory,backend=envpool", "memory,id=../x", "gymnasium", "minigrid"),
    *(
        "door_key",
        "door_key,size=1",
        "door_key,size=5000",
        "memory,max_steps=99999999",
        "__class__",
    ),
    *(
        "seed:0",
        "seed:-1",
        "seed:999999999",
        "seed:1e9",
        "key/left",
        "ball/right",
        "key/left/../..",
    ),
    *(
        "agent:",
        "agent:..",
        "planted",
        "demo",
        "planted@1",
        "@",
        "@@",
        "*",
        "?",
        "store",
        "done.json",
    ),
    *("left", "forward", "lrfpdtn" * 400, "ffff", "zzzz", "R5", "NaN", "1e999", "null", "\u0000"),
]
NUMBERS = [0, 1, -1, 2, 5, 0.5, -0.0, 1e308, -1e308, 10**30, 2**63, 1e-320, 999999999, True, None]
OPERATIONS = [
    "set_type",
    "set_rtg",
    "remove",
    "add",
    "move",
    "swap",
    "obs_set",
    "set_action",
    "turn",
]
FIELDS = [
    *("models", "env", "world", "actions", "reward_to_go", "tokens", "edits", "cursor", "contrast"),
    *("panels", "shown", "unknown", "version", "_target_", "path", "__proto__"),
]
PANELS = [
    *("policy", "attention", "lens", "rtg_scan", "patching", "path_patching", "policy_field"),
    *("attribution", "ablation", "steering", "../server", "", MARKUP),
]
PATHS = [
    *("/", "/index.html", "/main.js", "/style.css", "/panels/attention.js", "/panels/attention.py"),
    *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/panels/../server.py", "//etc/passwd"),
    *("/panels/%2e%2e%2fserver.py", "/panels/..%5cserver.py", "/%00", "/page/index.html", "/store"),
    *("/done.json", "/./main.js", "/main.js/", "/MAIN.JS", "/main.js%00.html", "/" + "a" * 8000),
    *(
        "/?frame=x",
        "/about",
        "/ask",
        "/long",
        "/text",
        "/save",
        "/%ff%fe",
        "/favicon.ico",
        "/;x",
        "/*",
    ),
]


class Maker:
    """Makes them by a seed.

    Args:
        seed: Of the choice.
        models: Names of models that there are.
    """

    def __init__(self, seed: int, models: list[str]):
        self.random, self.models = random.Random(seed), models

    def value(self, depth: int = 3) -> Any:
        """Anything that JSON can say."""
        kind = self.random.randrange(6 if depth else 3)
        if kind == 0:
            return self.random.choice(TEXTS)
        if kind in (1, 2):
            return self.random.choice(NUMBERS)
        if kind == 3:
            return [self.value(depth - 1) for _ in range(self.random.randrange(5))]
        if kind == 4:
            return {self.random.choice(TEXTS)[:50]: self.value(depth - 1) for _ in range(3)}
        return {"_target_": "os.system", "_args_": ["touch /tmp/dtx-was-here"], "_recursive_": True}

    def scene(self) -> Any:
        """A scene of which some parts are what they should not be."""
        r = self.random
        actions = "".join(r.choice("lrfpdtn") for _ in range(r.randrange(9)))
        scene: dict[str, Any] = {
            "version": 1,
            "models": r.sample(self.models, 1),
            "actions": actions,
        }
        scene["panels"] = [{"name": r.choice(PANELS), "parameters": {}}]
        if r.random() < 0.5:
            scene["edits"] = [self.edit() for _ in range(r.randrange(4))]
        for _ in range(r.randrange(4)):
            scene[r.choice(FIELDS)] = self.value()
        return self.value() if r.random() < 0.05 else scene

    def edit(self) -> dict[str, Any]:
        """An operation of a pairs file, more or less."""
        r = self.random
        fields = [
            "at",
            "to",
            "select",
            "value",
            "scope",
            "step",
            "frame",
            "cell",
            "index",
            "a",
            "b",
        ]
        edit: dict[str, Any] = {"op": r.choice(OPERATIONS)}
        for name in r.sample(fields, r.randrange(5)):
            ways = [[1, 3], {"role": "instruction"}, {"ball": "key"}, "last", self.value(2)]
            edit[name] = r.choice(ways)
        return edit

    def body(self) -> tuple[str, bytes]:
        """Path and body of a POST."""
        r = self.random
        paths = {"/ask": 60, "/long": 20, "/text": 20, "/about": 20, "/save": 1}  # it takes seconds
        (path,) = r.choices(list(paths), list(paths.values()))
        panel = {"name": r.choice(PANELS), "parameters": r.choice([{}, {}, self.value(2)])}
        asked: Any = {
            "/ask": {"scene": self.scene(), "panels": [panel]},
            "/long": {"scene": self.scene(), "panel": panel},
            "/text": {"scene": self.scene(), "what": r.choice(["yaml", "command", "link", MARKUP])},
            "/save": {"scene": self.scene()},
            "/about": {},
        }[path]
        if r.random() < 0.1:
            asked = self.value()
        data = json.dumps(asked).encode()
        if r.random() < 0.2:
            data = self._broken(data)
        return path, data

    def _broken(self, data: bytes) -> bytes:
        r = self.random
        at = r.randrange(len(data) + 1)
        return r.choice(
            [
                b"[" * 60_000,
                b'{"scene":' * 100_000,
                data[:at],
                data[:at] + bytes(r.randrange(256) for _ in range(8)) + data[at:],
                data.replace(b"1", b"NaN", 1),
                data.replace(b"1", b"1e999", 1),
                data.replace(b'"scene"', b'"scene": 1, "scene"', 1),
                data.replace(b'"version"', b'"\\ud800"', 1),
                data + b" " * 70_000,
                b'{"scene": "' + b"x" * 70_000 + b'"}',
                b"",
                data + data,
            ]
        )

    def request(self, port: int) -> bytes:
        """All bytes of one request."""
        r = self.random
        host = f"127.0.0.1:{port}"
        headers = [("Host", host), ("Content-Type", "application/json"), ("Connection", "close")]
        if r.random() < 0.25:
            path = r.choice(PATHS)
            method, body = (
                r.choice(["GET", "GET", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "X"]),
                b"",
            )
        else:
            (path, body), method = self.body(), "POST"
        kind = r.random()
        if kind < 0.05:
            headers[0] = (
                "Host",
                r.choice(["evil.example", "", "127.0.0.1.evil.example", MARKUP[:5]]),
            )
        elif kind < 0.1:
            headers.append(
                ("Origin", r.choice(["http://evil.example", "null", f"http://{host}1", ""]))
            )
        elif kind < 0.13:
            headers[1] = (
                "Content-Type",
                r.choice(["text/plain", "multipart/form-data", "", "\x01"]),
            )
        elif kind < 0.16:
            headers.append((r.choice(["Host", "Content-Length", "Content-Type", "Cookie"]), "7"))
        elif kind < 0.18:
            return bytes(r.randrange(256) for _ in range(r.randrange(1, 2000))) + b"\r\n\r\n"
        lines = f"{method} {path} HTTP/1.1\r\n".encode()
        if body and kind > 0.9:
            headers.append(("Transfer-Encoding", "chunked"))
            size = r.choice([f"{len(body):x}", "-1", "zz", "ffffffffffffffff"])
            body = f"{size}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        elif method == "POST":
            headers.append(("Content-Length", str(len(body))))
        return lines + b"".join(f"{n}: {v}\r\n".encode() for n, v in headers) + b"\r\n" + body
