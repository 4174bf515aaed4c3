"""Archives that a stranger might upload: every one is refused, writes nothing, and stays small in memory (bar S5)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kaon.build.archive import extract, pack, read_manifest
from kaon.build.limits import ArtifactLimits
from kaon.errors import InvalidInput, TooLarge
from kaon.types.artifact import FileEntry, Manifest
from kaon.types.service import ServiceSpec

LIMITS = ArtifactLimits(
    packed_bytes=4 * 2**20, unpacked_bytes=96 * 2**20, file_bytes=80 * 2**20, files=500, ratio_from_bytes=2**20
)
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
HELLO = b"print('hello')\n"


def compress(data: bytes, header: bytes = GZIP_HEADER, crc: int | None = None, size: int | None = None) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    crc = zlib.crc32(data) if crc is None else crc
    size = len(data) if size is None else size
    return header + body + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def described(path: str, content: bytes = HELLO, **other: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"path": path, "size_bytes": len(content), "sha256": sha256, "executable": False, **other}


def manifest(*files: dict[str, Any], **other: Any) -> bytes:
    service = {"name": "evil", "entry": "evil:Evil"}
    members = {"format": 1, "kaon": "0", "python": "3.11", "service": service, "files": files, "lock": "", **other}
    return json.dumps(members).encode()


def plain(path: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = 0o644, 0
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def block(info: tarfile.TarInfo, content: bytes = b"", form: int = tarfile.USTAR_FORMAT) -> bytes:
    if info.isreg() and not info.size:
        info.size = len(content)
    return info.tobuf(form, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


def fixed(header: bytes, at: int, value: bytes) -> bytes:
    """A header with a field replaced and its check sum put right."""
    raw = bytearray(header)
    raw[at : at + len(value)] = value
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


def archive(*blocks: bytes, listing: bytes, end: bytes = bytes(1024)) -> bytes:
    return compress(block(plain("manifest.json"), listing) + b"".join(blocks) + end)


def of_path(path: str) -> bytes:
    """An archive whose manifest and header agree on a bad path."""
    head = block(plain("src/a.py"), HELLO)
    raw = path.encode("utf-8", "surrogatepass")
    if len(raw) <= 100:
        head = fixed(head, 0, raw.ljust(100, b"\0"))
    return archive(head, listing=manifest(described(path)))


def of_member(info: tarfile.TarInfo, content: bytes = HELLO, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive that names an honest file and holds something else in its place."""
    return archive(block(info, content, form), listing=manifest(described("src/a.py", content)))


def of_files(*paths: str) -> bytes:
    blocks = [block(plain(path), HELLO) for path in paths]
    return archive(*blocks, listing=manifest(*(described(path) for path in paths)))


def of_header(at: int, value: bytes) -> bytes:
    return archive(fixed(block(plain("src/a.py"), HELLO), at, value), listing=manifest(described("src/a.py")))


def good() -> bytes:
    return of_files("src/a.py")


def link(kind: bytes, to: str) -> tarfile.TarInfo:
    return plain("src/a.py", type=kind, linkname=to)


def zeros(size: int, declared: int | None = None) -> bytes:
    entry = {"path": "src/z", "size_bytes": size if declared is None else declared, "sha256": "0" * 64}
    head = block(plain("src/z", size=entry["size_bytes"], type=tarfile.REGTYPE))[:512]
    return archive(head, bytes(size), listing=manifest(entry))


def many_values() -> bytes:
    service = {"name": "evil", "entry": "e:E", "openapi": {"x": [{}] * 600_000}}
    return archive(listing=manifest(service=service))


def greedy_values() -> bytes:
    """As many values as the limits allow, each as dear as can be, and then one byte too many."""
    service = {"name": "evil", "entry": "e:E", "openapi": {"x": [{"a": n} for n in range(74_000)], "y": "z" * 500_000}}
    return archive(listing=manifest(service=service)) + b"x"


def deep_json() -> bytes:
    listing = manifest(service={"name": "evil", "entry": "e:E", "openapi": {"x": 0}})
    return archive(listing=listing.replace(b'{"x": 0}', b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


def pax(**headers: str) -> bytes:
    info = plain("src/a.py", size=len(HELLO), pax_headers=headers)
    return archive(block(info, HELLO, tarfile.PAX_FORMAT), listing=manifest(described("src/a.py")))


def pax_global() -> bytes:
    head = tarfile.TarInfo.create_pax_global_header({"path": "/etc/passwd"})
    return archive(head, block(plain("src/a.py"), HELLO), listing=manifest(described("src/a.py")))


def two_members() -> bytes:
    listing = manifest(described("src/a.py"))
    first = block(plain("manifest.json"), listing)
    return compress(first) + compress(block(plain("src/a.py"), HELLO) + bytes(1024))


LONG = "n" * 101
HOSTILE: dict[str, Callable[[], bytes]] = {
    # paths that lead out, or mean different things on different systems
    "absolute path": lambda: of_path("/etc/passwd"),
    "absolute path under src": lambda: of_path("src//etc/passwd"),
    "parent": lambda: of_path("../outside.txt"),
    "parent below src": lambda: of_path("src/../../outside.txt"),
    "parent at the end": lambda: of_path("src/.."),
    "current folder": lambda: of_path("src/./a.py"),
    "folder with a closing slash": lambda: of_path("src/a/"),
    "src itself": lambda: of_path("src"),
    "src with a slash": lambda: of_path("src/"),
    "empty path": lambda: of_path(""),
    "outside of src": lambda: of_path("other/a.py"),
    "beside src": lambda: of_path("srcs/a.py"),
    "beside the wheels": lambda: of_path("wheels/a.py"),
    "below the wheels": lambda: of_path("wheels/a/b.whl"),
    "out of the wheels": lambda: of_path("wheels/../../b.whl"),
    "manifest twice": lambda: of_path("manifest.json"),
    "home": lambda: of_path("~/a.py"),
    "backslash parent": lambda: of_path("src/..\\..\\outside.txt"),
    "drive letter": lambda: of_path("src/C:a.py"),
    "stream of a file": lambda: of_path("src/a.py:stream"),
    "NUL in the path": lambda: of_path("src/a\0.py"),
    "new line in the path": lambda: of_path("src/a\nb.py"),
    "escape in the path": lambda: of_path("src/\x1b[2J.py"),
    "delete character": lambda: of_path("src/a\x7f.py"),
    "C1 control character": lambda: of_path("src/a\x9b2J.py"),
    "right-to-left override": lambda: of_path("src/a\u202eyp.exe"),
    "zero-width space": lambda: of_path("src/a\u200b.py"),
    "line separator": lambda: of_path("src/a\u2028.py"),
    "lone surrogate": lambda: of_path("src/a\udc80.py"),
    "trailing dot": lambda: of_path("src/a.py."),
    "trailing space": lambda: of_path("src/a.py "),
    "three dots": lambda: of_path("src/.../a.py"),
    "pipe and wildcard": lambda: of_path("src/a|*.py"),
    "name too long": lambda: of_path(f"src/{LONG}"),
    "path too long": lambda: of_path("src/" + "/".join(["d" * 20] * 20)),
    "path of 5,000 bytes": lambda: of_path("src/" + "x/" * 2500 + "a"),
    "too deep": lambda: of_path("src/" + "x/" * 40 + "a"),
    # names that meet
    "duplicate": lambda: of_files("src/a.py", "src/a.py"),
    "out of order": lambda: of_files("src/b.py", "src/a.py"),
    "case clash": lambda: of_files("src/A.py", "src/a.py"),
    "case clash of folders": lambda: of_files("src/D/a.py", "src/d/b.py"),
    "sharp s": lambda: of_files("src/STRASSE.py", "src/stra\u00dfe.py"),
    "accent clash": lambda: of_files("src/e\u0301.py", "src/\u00e9.py"),
    "file as folder": lambda: of_files("src/a", "src/a/b.py"),
    # things that are no plain files
    "symbolic link": lambda: of_member(link(tarfile.SYMTYPE, "/etc/passwd"), b""),
    "symbolic link to the parent": lambda: of_member(link(tarfile.SYMTYPE, "../../.."), b""),
    "hard link": lambda: of_member(link(tarfile.LNKTYPE, "/etc/passwd"), b""),
    "link name on a plain file": lambda: of_header(157, b"/etc/passwd"),
    "character device": lambda: of_member(plain("src/a.py", type=tarfile.CHRTYPE, devmajor=1, devminor=5), b""),
    "block device": lambda: of_member(plain("src/a.py", type=tarfile.BLKTYPE, devmajor=8, devminor=0), b""),
    "pipe": lambda: of_member(plain("src/a.py", type=tarfile.FIFOTYPE), b""),
    "folder entry": lambda: of_member(plain("src/a.py", type=tarfile.DIRTYPE), b""),
    "contiguous file": lambda: of_header(156, b"7"),
    "old-style type": lambda: of_header(156, b"\0"),
    "GNU sparse file": lambda: of_header(156, b"S"),
    "GNU multi-volume": lambda: of_header(156, b"M"),
    "unknown type": lambda: of_header(156, b"Z"),
    # fields that say something else
    "GNU long name": lambda: of_member(plain(f"src/{LONG}"), form=tarfile.GNU_FORMAT),
    "GNU long link": lambda: of_member(link(tarfile.SYMTYPE, LONG), b"", tarfile.GNU_FORMAT),
    "GNU magic": lambda: of_header(257, b"ustar  \0"),
    "pax path": lambda: pax(path="../outside.txt"),
    "pax size": lambda: pax(size="99999999"),
    "pax link": lambda: pax(linkpath="/etc/passwd"),
    "pax sparse": lambda: pax(**{"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999999999"}),
    "pax comment": lambda: pax(comment="hello"),
    "pax global": pax_global,
    "set-user-id": lambda: of_header(100, b"0004755\0"),
    "world-writable": lambda: of_header(100, b"0000666\0"),
    "executable without saying so": lambda: of_header(100, b"0000755\0"),
    "owner": lambda: of_header(108, b"0001750\0"),
    "owner's name": lambda: of_header(265, b"root\0"),
    "time": lambda: of_header(136, b"14000000000\0"),
    "size in base 256": lambda: of_header(124, b"\x80" + bytes(10) + b"\x0f"),
    "negative size": lambda: of_header(124, b"\xff" * 12),
    "size with spaces": lambda: of_header(124, b"         17\0"),
    "size of another file": lambda: of_header(124, b"00000000020\0"),
    "prefix leads out": lambda: of_header(345, b"/etc\0"),
    "something after the prefix": lambda: of_header(500, b"x"),
    "wrong check sum": lambda: archive(
        block(plain("src/a.py"), HELLO)[:148] + b"000000\0 " + block(plain("src/a.py"), HELLO)[156:],
        listing=manifest(described("src/a.py")),
    ),
    "padding that is not zero": lambda: archive(
        block(plain("src/a.py"), HELLO)[:-1] + b"x", listing=manifest(described("src/a.py"))
    ),
    # contents that are not what was said
    "other content": lambda: archive(block(plain("src/a.py"), HELLO.upper()), listing=manifest(described("src/a.py"))),
    "file not named": lambda: archive(
        block(plain("src/a.py"), HELLO), block(plain("src/b.py"), HELLO), listing=manifest(described("src/a.py"))
    ),
    "file named but missing": lambda: archive(listing=manifest(described("src/a.py"))),
    "lock not named": lambda: of_files("requirements.lock"),
    "lock named but missing": lambda: archive(listing=manifest(lock="0" * 64)),
    "no manifest": lambda: compress(block(plain("src/a.py"), HELLO) + bytes(1024)),
    "manifest last": lambda: compress(
        block(plain("src/a.py"), HELLO) + block(plain("manifest.json"), manifest(described("src/a.py"))) + bytes(1024)
    ),
    "manifest is a link": lambda: compress(
        block(plain("manifest.json", type=tarfile.SYMTYPE, linkname="/x")) + bytes(1024)
    ),
    "manifest is not JSON": lambda: archive(listing=b"evil"),
    "manifest is not UTF-8": lambda: archive(listing=b'{"format": "\xff"}'),
    "manifest of another format": lambda: archive(listing=manifest(format=2)),
    "manifest with a negative size": lambda: archive(listing=manifest(described("src/a.py", size_bytes=-1))),
    "manifest with a float as size": lambda: archive(listing=manifest(described("src/a.py", size_bytes=1.5))),
    "manifest of 100,000 brackets": deep_json,
    "manifest of 600,000 values": many_values,
    "manifest of as many values as can be": greedy_values,
    "manifest too large": lambda: archive(listing=manifest(kaon="x" * (3 * 2**20))),
    # bombs
    "64 MB of zeros": lambda: zeros(64 * 2**20),
    "128 MB of zeros": lambda: zeros(128 * 2**20),
    "96 MB of zeros that say to be one byte": lambda: zeros(96 * 2**20, declared=1),
    "a terabyte, declared": lambda: zeros(0, declared=2**33 - 1),
    "more bytes than fit in the header": lambda: archive(
        listing=manifest({"path": "src/z", "size_bytes": 2**40, "sha256": "0" * 64})
    ),
    "10,000 files": lambda: of_files(*(f"src/{n:05}" for n in range(10_000))),
    "zeros after the end": lambda: archive(
        block(plain("src/a.py"), HELLO), listing=manifest(described("src/a.py")), end=bytes(64 * 2**20)
    ),
    "larger than allowed": lambda: GZIP_HEADER + os.urandom(6 * 2**20),
    "stored blocks without end": lambda: GZIP_HEADER + b"\x00\x00\x00\xff\xff" * 1_000_000,
    "gzip in gzip": lambda: compress(good()),
    # bytes that are no artifact, or no longer one
    "nothing": lambda: b"",
    "one byte": lambda: b"\x1f",
    "gzip header alone": lambda: GZIP_HEADER,
    "text": lambda: b"hello" * 1000,
    "zip": lambda: b"PK\x03\x04" + bytes(2000),
    "tar without gzip": lambda: block(plain("manifest.json"), manifest()) + bytes(1024),
    "gzip with a time": lambda: compress(b"", GZIP_HEADER[:4] + b"\x01\0\0\0" + GZIP_HEADER[8:]),
    "gzip with a name": lambda: GZIP_HEADER[:3] + b"\x08" + GZIP_HEADER[4:] + b"/etc/passwd\0" + good()[10:],
    "gzip as Python writes it": lambda: gzip.compress(zlib.decompress(good(), 31)),
    "half of it": lambda: good()[: len(good()) // 2],
    "all but the last byte": lambda: good()[:-1],
    "without its trailer": lambda: good()[:-8],
    "wrong gzip check sum": lambda: good()[:-8] + b"\0\0\0\0" + good()[-4:],
    "wrong gzip length": lambda: good()[:-4] + b"\0\0\0\0",
    "one bit flipped": lambda: good()[:60] + bytes([good()[60] ^ 4]) + good()[61:],
    "one byte more": lambda: good() + b"\0",
    "trailing text": lambda: good() + b"hello",
    "another artifact behind": lambda: good() + good(),
    "an empty gzip member behind": lambda: good() + compress(b""),
    "cut into two gzip members": two_members,
    "end marker cut short": lambda: archive(
        block(plain("src/a.py"), HELLO), listing=manifest(described("src/a.py")), end=bytes(512)
    ),
    "no end marker": lambda: archive(block(plain("src/a.py"), HELLO), listing=manifest(described("src/a.py")), end=b""),
    "end marker too long": lambda: archive(
        block(plain("src/a.py"), HELLO), listing=manifest(described("src/a.py")), end=bytes(10240)
    ),
    "something behind the end marker": lambda: archive(
        block(plain("src/a.py"), HELLO),
        listing=manifest(described("src/a.py")),
        end=bytes(1024) + block(plain("src/b.py"), HELLO) + bytes(1024),
    ),
}


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_the_forge_writes_the_same_bytes_as_pack() -> None:
    """Else every case below could be refused for a reason of its own making."""
    spec = Manifest.model_validate_json(manifest(described("src/a.py")))
    out = io.BytesIO()
    pack(spec, {"src/a.py": HELLO}, out)
    mine, theirs = zlib.decompress(good(), 31), zlib.decompress(out.getvalue(), 31)
    assert read_manifest(good()) == read_manifest(out.getvalue()) == spec
    assert mine[-1536 - 512 :] == theirs[-1536 - 512 :]


def test_there_are_at_least_as_many_as_promised() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_is_refused_and_writes_nothing(name: str, tmp_path: Path) -> None:
    jail = tmp_path / "jail"
    jail.mkdir()
    (tmp_path / "outside.txt").write_text("untouched")
    (tmp_path / "upload").write_bytes(HOSTILE[name]())
    before = tree(tmp_path)
    with pytest.raises((InvalidInput, TooLarge)):
        read_manifest(tmp_path / "upload", LIMITS)
    with pytest.raises((InvalidInput, TooLarge)):
        extract(tmp_path / "upload", jail / "target", LIMITS)
    assert tree(tmp_path) == before


def test_a_manifest_with_unknown_fields_is_refused_on_upload_and_read_afterwards(
    tmp_path: Path,
) -> None:
    """A server of a newer Kaon may have taken it for its agents, of which this is an older one."""
    (tmp_path / "upload").write_bytes(archive(listing=manifest(role="admin")))
    with pytest.raises(InvalidInput, match="role"):
        read_manifest(tmp_path / "upload", LIMITS)
    assert extract(tmp_path / "upload", tmp_path / "target", LIMITS).format == 1


MEASURE = """
import sys
from pathlib import Path
from kaon.errors import KaonError
from kaon.build.archive import extract, read_manifest


def peak_kb():  # of this process's own memory; getrusage would count what the parent had at the fork
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


uploads = sorted(Path(sys.argv[1]).iterdir())
try:
    read_manifest(uploads[0])
except KaonError:
    pass
before = peak_kb()
for upload in uploads:
    for attempt in (read_manifest, lambda path: extract(path, Path(sys.argv[2]) / "target")):
        try:
            attempt(upload)
        except KaonError:
            pass
print((peak_kb() - before) // 1024)
"""


def test_reading_any_of_them_takes_less_than_64_mb(tmp_path: Path) -> None:
    """With the limits that ship, one process, all archives one after the other."""
    uploads, target = tmp_path / "uploads", tmp_path / "target"
    uploads.mkdir()
    target.mkdir()
    for number, make in enumerate(HOSTILE.values()):
        (uploads / f"{number:03}").write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(uploads), str(target)], capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) <= 64, done.stdout


def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="digest"):
        extract(good(), tmp_path / "target", digest="sha256:" + "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_large_valid_manifest_is_accepted(tmp_path: Path) -> None:
    files = [FileEntry(**described(f"src/{n:04}.py")) for n in range(400)]
    spec = Manifest(kaon="0", python="3.11", service=ServiceSpec(name="fine", entry="a:A"), files=tuple(files))
    out = io.BytesIO()
    digest = pack(spec, {entry.path: HELLO for entry in files}, out, LIMITS)
    assert extract(out.getvalue(), tmp_path / "target", LIMITS, digest=digest) == spec
