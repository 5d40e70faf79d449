"""Names of clips that tell raters nothing: a clip is often called after the policy that made it.

A name is encrypted under its own keyed hash (SIV: Rogaway and Shrimpton, 2006), so that the same
clip always has the same address, nothing has to be stored, and no address can be made up. Names
are padded, so that their lengths tell nothing either.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

TAG = 16
"""Bytes of the hash."""
BLOCK = 128
"""Bytes that a name is padded to a multiple of."""


def sealed(name: str, project: str, key: bytes) -> str:
    """The name as letters that are safe in an address."""
    plain = name.encode()
    plain += bytes(-len(plain) % BLOCK)
    tag = _tag(plain, project, key)
    return base64.urlsafe_b64encode(tag + _mixed(plain, tag, key)).decode().rstrip("=")


def unsealed(given: str, project: str, key: bytes) -> str | None:
    """The name behind them; none where they are not from us, or for another project."""
    try:
        held = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4))
    except ValueError:
        return None
    tag, plain = held[:TAG], _mixed(held[TAG:], held[:TAG], key)
    ours = hmac.compare_digest(tag, _tag(plain, project, key))
    return plain.rstrip(b"\0").decode() if ours else None


def _tag(plain: bytes, project: str, key: bytes) -> bytes:
    return hmac.digest(key, project.encode() + b"\0" + plain, "sha256")[:TAG]


def _mixed(text: bytes, tag: bytes, key: bytes) -> bytes:
    """The text and a stream of the key and the tag, letter by letter; twice gives the text."""
    stream = hashlib.shake_256(tag + key).digest(len(text))
    return bytes(a ^ b for a, b in zip(text, stream, strict=True))
