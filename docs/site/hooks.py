"""What mkdocs calls while it builds the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import config_pages
import notebook_pages

sys.path.pop(0)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from conf/."""
    conf = Path(config.config_file_path).parent / "conf"
    made = {"index": config_pages.index(conf)}
    made |= {group: config_pages.page(conf, group) for group in config_pages.GROUPS}
    for name, text in made.items():
        files.append(File.generated(config, f"reference/config/{name}.md", content=text))
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        text, pictures = notebook_pages.page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    stages = config_pages.stages(conf)
    files.append(File.generated(config, "reference/stages.md", content=stages))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make each word of the glossary a heading: search then finds its meaning first."""
    if page.file.src_uri != "glossary.md":
        return markdown
    page.meta["search"] = {"boost": 4}
    table = re.compile(r"^\| word \| meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", re.M)
    row = re.compile(r"^\| (.+?) \| (.+) \|$", re.M)
    word = r'<div class="word" markdown>\n\n### \1\n\n\2\n\n</div>\n'
    return table.sub(lambda found: row.sub(word, found[1]), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings may hold reStructuredText's roles and ``::``; names of fields may break at their dots."""
    if not page.file.src_uri.startswith("reference/"):
        return html
    html = re.sub(
        r":(?:func|class|mod|meth|attr|data):<code>[~.]?([^<]*)</code>", r"<code>\1</code>", html
    )
    html = html.replace("::</p>", ":</p>")
    return re.sub(
        r"<td><code>([\w.]+\.\w+)</code></td>",
        lambda m: f"<td><code>{m[1].replace('.', '.<wbr>')}</code></td>",
        html,
    )
