"""What the HTTP server allows: who may ask, how much, and for how long."""

import ipaddress
from dataclasses import dataclass

from longleaf.errors import LongleafError

__all__ = ["ApiOptions", "check_address", "is_loopback"]


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Limits of one server.

    Attributes:
        keys: API keys, one of which each request must bring; none lets everybody on this machine in.
        max_waiting: Requests that may wait for the reader; as many again for the embedder, and files.
        timeout_s: Seconds that one request may take, waiting included.
        grace_s: Seconds that what runs may go on when the server is told to end.
        max_body_bytes: Largest body of a request, but of a document.
        max_upload_bytes: Largest body with a document.
        max_tokens: Most tokens of one answer.
        default_tokens: Most tokens of an answer where the request does not say; never above `max_tokens`.
        open_metrics: Whether /metrics may be read without a key.
    """

    keys: tuple[str, ...] = ()
    max_waiting: int = 64
    timeout_s: float = 600.0
    grace_s: float = 30.0
    max_body_bytes: int = 8_000_000
    max_upload_bytes: int = 500_000_000
    max_tokens: int = 4096
    default_tokens: int = 1024
    open_metrics: bool = False

    def __post_init__(self) -> None:
        for name in ("max_waiting", "timeout_s", "max_body_bytes", "max_upload_bytes", "max_tokens", "default_tokens"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.grace_s < 0:
            raise ValueError(f"grace_s must be at least 0, got {self.grace_s}")


def is_loopback(host: str) -> bool:
    """Whether a name or address can be nothing but this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(host: str, options: ApiOptions) -> None:
    """Makes sure that nobody else gets in where no key is asked for.

    Raises:
        LongleafError: The address is not this machine's alone, and there is no key.
    """
    if not options.keys and not is_loopback(host):
        raise LongleafError(
            f"--host {host} lets other machines in, and without an API key anybody there could read the documents of "
            "this library: set LONGLEAF_API_KEYS or give --api-key-file, or leave the host at 127.0.0.1"
        )
