"""A secret: a value that only replicas can read."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model


class SecretSpec(Model):
    """A secret as it is stored: encrypted with AES-256-GCM, bound to its workspace and name."""

    ciphertext: str = Field(description="Base64 of nonce, ciphertext and tag.")
    key_id: str = Field(description="First 8 hex digits of sha256 of the key that encrypts it.")


class SecretStatus(Model):
    """Secrets have no status."""
