"""Secrets at rest: AES-256-GCM, each value bound to its workspace and name.

A ciphertext cannot be decrypted as that of another secret: the names are authenticated with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from pathlib import Path

from kaon.errors import ConfigError
from kaon.settings import Settings
from kaon.types.secret import SecretSpec

KEY_BYTES = 32
_NONCE_BYTES = 12  # 96 random bits, as GCM wants: 2^32 values under one key are safe


class Vault:
    """Encrypts and decrypts secrets with one key of 32 bytes. Raises `ConfigError` for a key of another length."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 30 ms and 8 MB, for the server only

        if len(key) != KEY_BYTES:
            raise ConfigError(f"The key that encrypts secrets has {len(key)} bytes, not {KEY_BYTES}.", hint=_HOW)
        self._cipher = AESGCM(key)
        self.key_id = hashlib.sha256(key).hexdigest()[:8]

    def seal(self, workspace: str, name: str, text: str) -> SecretSpec:
        """`text`, encrypted for the secret of that name."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), f"{workspace}/{name}".encode())
        return SecretSpec(ciphertext=base64.b64encode(sealed).decode(), key_id=self.key_id)

    def open(self, workspace: str, name: str, spec: SecretSpec) -> str:
        """The text of a secret. Raises `ConfigError` when it was encrypted with another key, or changed."""
        from cryptography.exceptions import InvalidTag

        if spec.key_id != self.key_id:
            raise ConfigError(
                f"Secret '{name}' was encrypted with key {spec.key_id}, but the current key is {self.key_id}.",
                hint=f"Restore the old key (KAON_SECRET_KEY or secret.key), or set the secret '{name}' again.",
            )
        try:
            sealed = base64.b64decode(spec.ciphertext, validate=True)
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, rest, f"{workspace}/{name}".encode()).decode()
        except (InvalidTag, ValueError):
            raise ConfigError(
                f"Secret '{name}' cannot be decrypted: it was changed after it was encrypted.",
                hint=f"Set the secret '{name}' again.",
            ) from None


_HOW = 'Make one: python -c "import base64, os; print(base64.b64encode(os.urandom(32)).decode())"'


def load_key(settings: Settings) -> bytes:
    """The key that encrypts secrets: KAON_SECRET_KEY, else `secret.key` under the home, created at first use.

    Raises `ConfigError` when it is invalid, or when the file is readable for others than its owner.
    """
    if settings.secret_key is not None:
        return _decode(settings.secret_key.get_secret_value(), "KAON_SECRET_KEY")
    path = settings.home / "secret.key"
    if not path.exists():
        _make(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ConfigError(f"{path} is readable for other users.", hint=f"Run: chmod 600 {path}")
        return _decode(file.read().decode(errors="replace"), str(path))


def _decode(text: str, source: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{source} is not {KEY_BYTES} bytes in base64.", hint=_HOW)
    return key


def _make(path: Path) -> None:
    """Write a new key beside `path` and link it there: of two processes at the same time one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".secret.key.{secrets.token_hex(4)}")
    try:
        with open(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
    finally:
        beside.unlink(missing_ok=True)
