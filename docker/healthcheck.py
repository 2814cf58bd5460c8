"""Exits with 0 when one of the addresses answers 200: the container's HEALTHCHECK. Knows nothing of Longleaf itself.

python3 healthcheck.py http://127.0.0.1:8501/_stcore/health http://127.0.0.1:8000/health
"""

import sys
import urllib.request

# A proxy of the environment is for other machines, never for this one.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _problem(url: str) -> str | None:
    """Why the address does not count as healthy; None where it does."""
    try:
        with _DIRECT.open(url, timeout=2) as response:
            return None if response.status == 200 else f"{url}: {response.status}"
    except OSError as exc:  # URLError and HTTPError are such
        return f"{url}: {exc}"


def main() -> None:
    """Asks one address after the other; says on standard output what each had to say if none is healthy."""
    problems = []
    for url in sys.argv[1:]:
        problem = _problem(url)
        if problem is None:
            return
        problems.append(problem)
    sys.exit("; ".join(problems) or "no address given")


if __name__ == "__main__":
    main()
