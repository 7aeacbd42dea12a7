"""A page read by the standard library's parser: what stands in it, and what is wrong with it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "img", "input", "br", "hr", "link", "line", "rect"}


class Page(HTMLParser):
    """A page's elements.

    Attributes:
        text: Without scripts and styles. scripts: Text of each script. problems: In words; none if sound.
        links: Addresses of links and sources that are no data. ids: Of elements. anchors: Linked ids.
        pictures: Attributes of each picture.
    """

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.text, self.scripts = "", []
        self.problems: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.pictures: list[dict[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.problems += [f"{tag} is not closed" for tag in self._open]
        self.problems += [f"id {i} twice" for i in set(self.ids) if self.ids.count(i) > 1]
        self.problems += [f"no element #{a}" for a in self.anchors if a not in self.ids]

    @classmethod
    def of(cls, path: Path) -> Page:
        return cls(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        known = {name: value or "" for name, value in attrs}
        if tag not in _VOID:
            self._open.append(tag)
        if "id" in known:
            self.ids.append(known["id"])
        for name in ("href", "src"):
            if name in known and known[name].startswith("#"):
                self.anchors.append(known[name][1:])
            elif name in known and not known[name].startswith("data:"):
                self.links.append(known[name])
        self.problems += [f"{tag} {name}" for name in known if name.startswith("on")]
        if tag == "script":
            self.scripts.append("")
        if tag == "img":
            self.pictures.append(known)
            if not all(known.get(name, "").isdigit() for name in ("width", "height")):
                self.problems.append(f"a picture without a size: {known.get('alt')}")
            if not known.get("alt"):
                self.problems.append("a picture without words")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if tag in _VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes another element")

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif not self._open or self._open[-1] != "style":
            self.text += data

    @property
    def external(self) -> list[str]:
        """Addresses outside the store."""
        return [link for link in self.links if ":" in link or link.startswith("/")]
