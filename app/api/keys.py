"""API keys: which ones are good, and whose request it is."""

import hashlib
import hmac
import logging
from collections.abc import Iterable
from pathlib import Path

from longleaf.errors import LongleafError

__all__ = ["ApiKeys", "read_key_file", "split_keys"]

logger = logging.getLogger(__name__)

MIN_KEY_CHARS = 16
"""A shorter key can be guessed."""


class ApiKeys:
    """The keys that let a request in. They are kept as hashes, which have one length.

        keys = ApiKeys(["4f7c…"])
        keys.owner("Bearer 4f7c…")  # "key 9b1d0a7e"

    Args:
        keys: The keys; blanks around them don't count.

    Raises:
        LongleafError: A key is short enough to be guessed.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        given = [key.strip() for key in keys if key.strip()]
        if any(len(key) < MIN_KEY_CHARS for key in given):
            raise LongleafError(
                f"an API key has fewer than {MIN_KEY_CHARS} characters, and could be guessed; a good one: "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        self._hashes = [_hash(key) for key in given]

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def owner(self, authorization: str) -> str | None:
        """Whose key a request brings, as a name that does not give the key away; None for none or a wrong one.

        All keys are compared, each in the same time whether or not it fits.
        """
        scheme, _, key = authorization.partition(" ")
        given = _hash(key.strip())
        fits = [hmac.compare_digest(given, known) for known in self._hashes]
        return f"key {given.hex()[:8]}" if any(fits) and scheme.lower() == "bearer" else None


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def split_keys(text: str) -> list[str]:
    """The keys of LONGLEAF_API_KEYS, which commas part."""
    return [key.strip() for key in text.split(",") if key.strip()]


def read_key_file(path: Path) -> list[str]:
    """The keys of a file, one a line; empty lines and those that begin with # are passed over.

    Raises:
        LongleafError: It can't be read, or has no key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror or exc if isinstance(exc, OSError) else "not a text file"
        raise LongleafError(f"{path}: the API keys can't be read: {reason}") from exc
    if mode & 0o077:
        logger.warning("%s: others on this machine may read the API keys; chmod 600 %s", path, path)
    keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not keys:
        raise LongleafError(f"{path}: it has no API key; write one a line")
    return keys
