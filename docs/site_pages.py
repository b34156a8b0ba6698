"""A hook of mkdocs: README.md and CONTRIBUTING.md, which stand at the root of the repository, as pages too."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for name, becomes in PAGES.items():
            text = text.replace(f"]({name}", f"]({becomes}")
        files.append(File.generated(config, page, content=re.sub(r"\]\(docs/", "](", text)))
    return files
