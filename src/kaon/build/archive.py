"""An artifact's bytes: how they are written, and how untrusted bytes are read.

The format is a POSIX tar (ustar) in one gzip member, and only the narrow part of it that `pack` writes:
regular files, sorted by path, owner 0, time 0, mode 0644 or 0755; sizes from 8 GiB on in binary, as GNU tar has them.
That makes reading safe by construction. Large files that hardly shrink, such as weights, are stored uncompressed.

The manifest comes first and lists every file in order. The reader checks it (`kaon.build.limits`), *generates each
header itself* from the manifest, and refuses the archive when a single byte differs. Links, devices, sparse
files, pax overrides, odd numbers, odd checksums cannot be expressed, so none needs a rule of its own. Limits on sizes
and ratios apply to the decompressor's actual output as well as to the declared sizes.

`read_manifest` reads to the end and writes nothing, `extract` writes to a temporary folder and renames it into place;
both compare every file with the manifest. Memory is bounded by the manifest's limit for any input.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from kaon.build.limits import DEFAULT_LIMITS, LOCK, SOURCES, ArtifactLimits, check_files, split_path
from kaon.errors import BuildError, DiskFull, InvalidInput, TooLarge
from kaon.types.artifact import MANIFEST, Consent, FileEntry, Manifest
from kaon.types.model import canonical_json, from_request

_BLOCK = 512
_CHUNK = 64 * 1024
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no name, time zero, system unknown
_END = bytes(2 * _BLOCK)
_OCTAL_MAX = 8**11
_STORED_FROM_BYTES = 16 * 2**20
_STORED_RATIO = 0.8
"""A large file whose samples shrink to no less than this is not compressed: it would take minutes and save little."""
_SAMPLES, _LEVEL = 8, 6


def tar_header(path: str, size: int, executable: bool) -> bytes:
    """The only valid header of a file with this path, size and mode."""
    prefix, name = split_path(path)
    mode = b"0000755" if executable else b"0000644"
    length = b"%011o\0" % size if size < _OCTAL_MAX else b"\x80" + size.to_bytes(11, "big")
    head = name.ljust(100, b"\0") + mode + b"\0" + b"0000000\0" * 2 + length + b"00000000000\0"
    tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(80) + prefix.ljust(155, b"\0") + bytes(12)
    checksum = sum(head) + sum(tail) + 8 * ord(" ")
    return head + b"%06o\0 " % checksum + tail


# --- writing ---------------------------------------------------------------------------------------------------


def pack(
    manifest: Manifest, sources: Mapping[str, Path | bytes], out: BinaryIO, limits: ArtifactLimits = DEFAULT_LIMITS
) -> str:
    """Write an artifact of `manifest` to `out`, its files from `sources` by path; return its digest, 'sha256:...'.

    Equal contents give equal bytes (with the same version of zlib). Raises `BuildError` when a file differs from
    the manifest, and `InvalidInput` or `TooLarge` for anything that `read_manifest` would refuse.
    """
    check_files(manifest.files, limits)
    raw = canonical_json(manifest)
    gzip = _GzipWriter(out)
    gzip.write(tar_header(MANIFEST, len(raw), False) + raw + _padding(len(raw)))
    for entry in manifest.files:
        gzip.write(tar_header(entry.path, entry.size_bytes, entry.executable))
        _pack_file(entry, sources[entry.path], gzip)
    gzip.write(_END)
    gzip.finish()
    return f"sha256:{gzip.sha256.hexdigest()}"


def _pack_file(entry: FileEntry, source: Path | bytes, gzip: _GzipWriter) -> None:
    size, sha256 = 0, hashlib.sha256()
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        gzip.set_level(0 if _hardly_shrinks(file, entry.size_bytes) else _LEVEL)
        while chunk := file.read(_CHUNK):
            gzip.write(chunk)
            sha256.update(chunk)
            size += len(chunk)
    if (size, sha256.hexdigest()) != (entry.size_bytes, entry.sha256):
        raise BuildError(f"{entry.path} changed while the artifact was being built.", hint="Build again.")
    gzip.set_level(_LEVEL)
    gzip.write(_padding(size))


def packed_bytes(files: Iterable[Path]) -> int:
    """How many bytes the files have in an artifact, without its manifest."""
    with open(os.devnull, "wb") as nowhere:
        gzip = _GzipWriter(nowhere)
        for path in files:
            with path.open("rb") as file:
                gzip.set_level(0 if _hardly_shrinks(file, path.stat().st_size) else _LEVEL)
                while chunk := file.read(_CHUNK):
                    gzip.write(chunk)
        gzip.finish()
    return gzip.packed_bytes


def _hardly_shrinks(file: BinaryIO, size: int) -> bool:
    """Whether a file is large and samples of it cannot be compressed much. It is read from its start afterwards."""
    if size < _STORED_FROM_BYTES:
        return False
    packed = total = 0
    for n in range(_SAMPLES):
        file.seek(n * (size - _CHUNK) // (_SAMPLES - 1))
        sample = file.read(_CHUNK)
        total += len(sample)
        packed += len(zlib.compress(sample, 1))
    file.seek(0)
    return packed >= _STORED_RATIO * total


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


class _GzipWriter:
    """Writes one gzip member with a constant header; `sha256` is of the bytes written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._level = _LEVEL
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
        self._crc, self._size = 0, 0
        self.packed_bytes = 0
        self.sha256 = hashlib.sha256()
        self._emit(_GZIP_HEADER)

    def _emit(self, data: bytes) -> None:
        self._out.write(data)
        self.sha256.update(data)
        self.packed_bytes += len(data)

    def set_level(self, level: int) -> None:
        """Compress what follows by this level of zlib. What comes before ends at a byte and is not referred to."""
        if level != self._level:
            self._emit(self._deflate.flush(zlib.Z_FULL_FLUSH))
            self._level, self._deflate = level, zlib.compressobj(level, zlib.DEFLATED, -15)

    def write(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._emit(self._deflate.compress(data))

    def finish(self) -> None:
        trailer = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        self._emit(self._deflate.flush() + trailer)


# --- reading ---------------------------------------------------------------------------------------------------


def read_manifest(archive: Path | bytes, limits: ArtifactLimits = DEFAULT_LIMITS, *, digest: str = "") -> Manifest:
    """Check a whole artifact without writing anything, and return its manifest.

    Raises `InvalidInput` when it is not exactly what `pack` writes or its digest is not `digest`, `TooLarge` when
    it exceeds a limit.
    """
    with _opened(archive) as file:
        reader = _Reader(file, limits, as_request=True)
        for _, _, content in reader.files():
            for _ in content:
                pass
        return reader.finish(digest)


def read_head(head: bytes, limits: ArtifactLimits = DEFAULT_LIMITS) -> Manifest:
    """The manifest of an artifact that was checked before, from its first `head_bytes()` bytes.

    Raises `InvalidInput`, `TooLarge`.
    """
    with _opened(head) as file:
        return _Reader(file, limits).manifest()


def head_bytes(limits: ArtifactLimits = DEFAULT_LIMITS) -> int:
    """An upper bound for the number of an artifact's bytes that hold its manifest."""
    return limits.manifest_bytes + limits.manifest_bytes // 64 + _CHUNK


def extract(
    archive: Path | bytes, target: Path, limits: ArtifactLimits = DEFAULT_LIMITS, *, digest: str = ""
) -> Manifest:
    """Unpack an artifact to the new folder `target`, read-only, and return its manifest.

    `target` appears only when everything is checked; an existing target is complete and stays unchanged.
    Raises the same errors as `read_manifest`, and `DiskFull`.
    """
    if (target / MANIFEST).is_file():
        return Manifest.model_validate_json((target / MANIFEST).read_bytes())
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    try:
        with _opened(archive) as file:
            reader = _Reader(file, limits)
            _check_space(reader.manifest(), target.parent)
            for path, executable, content in reader.files():
                _write_new(temporary / path, content, executable)
            manifest = reader.finish(digest)
        _seal(temporary)
        _move(temporary, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk of {target.parent} is full.", hint="Make room: kaon gc") from None
        raise
    finally:
        remove(temporary)
    return manifest


def _check_space(manifest: Manifest, folder: Path) -> None:
    needed, free = sum(entry.size_bytes for entry in manifest.files), shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"The artifact unpacks to {needed:,} bytes, and the disk of {folder} has {free:,} free.",
            hint="Make room: kaon gc",
        )


def remove(folder: Path) -> None:
    """Delete an unpacked artifact, although it is read-only. Does nothing when it does not exist."""
    if not folder.is_dir():
        return
    folder.chmod(0o700)
    for directory, names, _ in os.walk(folder):
        for below in (Path(directory, name) for name in names):
            if not below.is_symlink():
                below.chmod(0o700)  # before it is listed
    shutil.rmtree(folder)


def _opened(archive: Path | bytes) -> BinaryIO:
    return io.BytesIO(archive) if isinstance(archive, bytes) else archive.open("rb")


def _write_new(path: Path, content: Iterator[bytes], executable: bool) -> None:
    """Write a file that must not exist yet; the folder is private and without links, so no path leads out of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for chunk in content:
            file.write(chunk)
        os.fchmod(file.fileno(), 0o555 if executable else 0o444)


def _seal(folder: Path) -> None:
    """Sync everything to disk and remove write permissions, children before their parents."""
    for directory, _, names in os.walk(folder, topdown=False):
        for path in [*(Path(directory) / name for name in names), Path(directory)]:
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        Path(directory).chmod(0o555)


def _move(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else another process unpacked the same bytes first
            raise


class BadManifest(InvalidInput):
    """A manifest with a field that is unknown, missing or out of bounds; `errors` lists them."""

    status = 422


def _bad_manifest(error: ValidationError) -> BadManifest:
    """The error for an invalid manifest: locations and reasons, without its values."""
    errors = [
        {"where": ".".join(str(part)[:80] for part in e["loc"])[:400], "message": e["msg"][:200]}
        for e in error.errors(include_input=False, include_url=False, include_context=False)[:20]
    ]
    return BadManifest(
        f"The artifact's manifest is not valid: {errors[0]['where']}: {errors[0]['message']}",
        hint="Correct the class and build it again: kaon build",
        errors=errors,
    )


class _Inflater:
    """Decompresses one gzip member, at most `_CHUNK` bytes at a time, within the limits."""

    def __init__(self, file: BinaryIO, limits: ArtifactLimits) -> None:
        self._file, self._limits = file, limits
        self._inflate = zlib.decompressobj(31)
        self._ready, self._rest = b"", b""
        self._packed, self._unpacked = 0, 0
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, at most `_CHUNK`. Raises `InvalidInput` when the archive ends before."""
        while len(self._ready) < size:
            more = self._more()
            if not more:
                raise InvalidInput("The artifact is cut short.")
            self._ready += more
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken

    def chunks(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self.read(min(size, _CHUNK))
            size -= len(chunk)
            yield chunk

    def end(self) -> None:
        """Check that no data follows, in the member or after it."""
        if self._ready or self._more() or self._inflate.unused_data or self._file.read(1):
            raise InvalidInput("The artifact has data after its end.")

    def _more(self) -> bytes:
        """The next bytes; empty at the end of the member, after its checksum was verified."""
        while not self._inflate.eof:
            if not self._rest and not self._refill():
                raise InvalidInput("The artifact is cut short.")
            try:
                out = self._inflate.decompress(self._rest, _CHUNK)
            except zlib.error:
                raise InvalidInput("The artifact is not a valid gzip file.") from None
            self._rest = self._inflate.unconsumed_tail
            self._count(len(out))
            if out:
                return out
        return b""

    def _refill(self) -> bool:
        first = self._packed == 0
        self._rest = self._file.read(_CHUNK)
        self._packed += len(self._rest)
        self.sha256.update(self._rest)
        if first and not self._rest.startswith(_GZIP_HEADER):
            raise InvalidInput("This is not an artifact.", hint="Make one with: kaon build FILE.py:CLASS")
        if self._packed > self._limits.packed_bytes:
            raise TooLarge(f"The artifact is larger than {self._limits.packed_bytes} bytes.")
        return bool(self._rest)

    def _count(self, size: int) -> None:
        self._unpacked += size
        if self._unpacked > self._limits.unpacked_bytes:
            raise TooLarge(f"The artifact unpacks to more than {self._limits.unpacked_bytes} bytes.")
        packed = self._packed - len(self._rest)
        if self._unpacked > self._limits.ratio_from_bytes and self._unpacked > self._limits.ratio * packed:
            raise TooLarge(f"The artifact unpacks to more than {self._limits.ratio} times its size.")


class _Reader:
    """Reads the manifest and then the files of an archive in order, each checked against the manifest."""

    def __init__(self, file: BinaryIO, limits: ArtifactLimits, *, as_request: bool = False) -> None:
        """With `as_request` the manifest is untrusted, and unknown fields are refused."""
        self._inflater, self._limits, self._as_request = _Inflater(file, limits), limits, as_request
        self._raw = b""
        self._manifest: Manifest | None = None

    def files(self) -> Iterator[tuple[str, bool, Iterator[bytes]]]:
        """(path, executable, content) of each file; read the content before the next file."""
        yield MANIFEST, False, iter([self._read_manifest()])
        assert self._manifest is not None
        for entry in self._manifest.files:
            if self._inflater.read(_BLOCK) != tar_header(entry.path, entry.size_bytes, entry.executable):
                raise InvalidInput(f"The artifact's header of {entry.path!r} does not match its manifest.")
            yield entry.path, entry.executable, self._checked(entry)
            self._pad(entry.size_bytes)

    def manifest(self) -> Manifest:
        """The manifest alone."""
        self._read_manifest()
        assert self._manifest is not None
        return self._manifest

    def finish(self, digest: str) -> Manifest:
        """Check the end and the digest; return the manifest."""
        if self._inflater.read(len(_END)) != _END:
            raise InvalidInput("The artifact holds files that its manifest does not list.")
        self._inflater.end()
        if digest and f"sha256:{self._inflater.sha256.hexdigest()}" != digest:
            raise InvalidInput("The artifact's bytes do not match its digest.")
        assert self._manifest is not None
        return self._manifest

    def _read_manifest(self) -> bytes:
        """The manifest's bytes; read and checked once."""
        if not self._raw:
            self._raw = self._read_raw()
        return self._raw

    def _read_raw(self) -> bytes:
        header = self._inflater.read(_BLOCK)
        size = header[124:135]
        if not size.isdigit() or set(size) > set(b"01234567") or header != tar_header(MANIFEST, int(size, 8), False):
            raise InvalidInput("The artifact does not start with its manifest.")
        if int(size, 8) > self._limits.manifest_bytes:
            raise TooLarge(f"The artifact's manifest is larger than {self._limits.manifest_bytes} bytes.")
        raw = b"".join(self._inflater.chunks(int(size, 8)))
        self._pad(len(raw))
        if sum(map(raw.count, (b",", b"[", b"{"))) > self._limits.manifest_values:
            raise TooLarge("The artifact's manifest holds too many values.")
        try:
            self._manifest = (
                from_request(Manifest, raw, is_json=True) if self._as_request else Manifest.model_validate_json(raw)
            )
        except ValidationError as error:
            raise _bad_manifest(error) from None
        self._check(self._manifest)
        return raw

    def _check(self, manifest: Manifest) -> None:
        if manifest.format != 1:
            raise InvalidInput(f"The artifact has format {manifest.format}; this Kaon reads format 1.")
        check_files(manifest.files, self._limits)
        locks = [entry.sha256 for entry in manifest.files if entry.path == LOCK]
        if locks != ([manifest.lock] if manifest.lock else []):
            raise InvalidInput("The artifact's requirements.lock does not match its manifest.")
        sources = {entry.path for entry in manifest.files} if manifest.pickles else set()
        if not all(SOURCES + path in sources for path in manifest.pickles):
            raise InvalidInput("The artifact's manifest lists a pickle that is not in the artifact.")
        if manifest.pickles and Consent.PICKLE not in manifest.allowed:
            raise InvalidInput("The artifact has pickles that its builder did not allow.")

    def _checked(self, entry: FileEntry) -> Iterator[bytes]:
        sha256 = hashlib.sha256()
        for chunk in self._inflater.chunks(entry.size_bytes):
            sha256.update(chunk)
            yield chunk
        if sha256.hexdigest() != entry.sha256:
            raise InvalidInput(f"The content of {entry.path!r} in the artifact does not match its manifest.")

    def _pad(self, size: int) -> None:
        if any(self._inflater.read(-size % _BLOCK)):
            raise InvalidInput("The artifact has data between its files.")
