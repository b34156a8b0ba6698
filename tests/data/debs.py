"""Small .deb files as dpkg-deb writes them: an ar archive of `debian-binary`, control.tar.* and data.tar.*."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_deb(
    folder: Path, name: str, version: str, files: Mapping[str, bytes | str], compression: str = "xz", link: str = ""
) -> Path:
    """FOLDER/NAME_VERSION_all.deb with `files` by path; `link`: the target of a symbolic link as its doc folder."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nDescription: a test\n of a package\n"
    data = _tar(files, compression, {f"usr/share/doc/{name}": link} if link else {})
    members = [
        ("debian-binary", b"2.0\n"),
        (f"control.tar.{compression}", _tar({"control": control}, compression, {})),
        (f"data.tar.{compression}", data),
    ]
    content = b"!<arch>\n"
    for member, body in members:
        header = f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n"
        content += header.encode() + body + b"\n" * (len(body) % 2)
    path = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _tar(files: Mapping[str, bytes | str], compression: str, links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for path, body in files.items():
            content = body.encode() if isinstance(body, str) else body
            entry = tarfile.TarInfo(f"./{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for path, target in links.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()
