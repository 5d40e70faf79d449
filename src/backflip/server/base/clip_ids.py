"""Addresses of clips that tell raters nothing.

A clip is often called after the policy that made it. Its name is encrypted by AES-SIV (RFC 5297),
which is deterministic: the same clip always has the same address, nothing has to be stored, and no
address can be made up. Names are padded, so that their lengths tell nothing either.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

BLOCK = 128
"""Bytes that a name is padded to a multiple of."""


class ClipIds:
    """Addresses of clips and names behind addresses, under one secret."""

    def __init__(self, secret: str) -> None:
        key = HKDF(SHA512(), 64, salt=None, info=b"clips").derive(secret.encode())
        self._cipher, self._padding = AESSIV(key), PKCS7(8 * BLOCK)

    def sealed(self, name: str, project: str) -> str:
        """The name as letters that are safe in an address."""
        padder = self._padding.padder()
        padded = padder.update(name.encode()) + padder.finalize()
        held = self._cipher.encrypt(padded, [project.encode()])
        return base64.urlsafe_b64encode(held).decode().rstrip("=")

    def unsealed(self, given: str, project: str) -> str | None:
        """The name behind them; none where they are not from us, or for another project."""
        try:
            held = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4))
            padded = self._cipher.decrypt(held, [project.encode()])
        except (ValueError, InvalidTag):
            return None
        unpadder = self._padding.unpadder()
        return (unpadder.update(padded) + unpadder.finalize()).decode()
