"""Loading from a hub: find out soon that it cannot be reached, and say every failure in one sentence.

`huggingface_hub` tries each file six times with growing pauses, timm and transformers ask for several files,
so that a machine without a network would wait for 45 to 90 seconds. Here the hub is asked once for a sign of
life; if none comes, the libraries are run in offline mode, where what lies in the cache loads at once and
the rest fails.
"""

from __future__ import annotations

import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch

from seelike.errors import SeelikeError

PROBE_SECONDS = 10.0
"""Longest wait for a sign of life, the limit that `huggingface_hub` itself sets for one request."""
PROBE_ATTEMPTS = 2
PAUSE_SECONDS = 1.0

_alive: set[str] = set()
"""Servers that have answered in this process."""


@contextmanager
def loading(spec: str, ways_out: str, *, url: str | None = None, hub: bool = False) -> Iterator[None]:
    """Run a library's loading code; whatever it raises becomes one `SeelikeError` about `spec`.

    `hub`: the code may ask the Hugging Face hub. `url`: it may download this file into torch's cache.
    `ways_out` ends the sentence when the network is to blame.
    """
    from huggingface_hub import constants

    reason = None
    if hub and not constants.HF_HUB_OFFLINE:
        reason = _silence(constants.ENDPOINT, _ask_hub)
    elif url is not None and not _cached_download(url).exists():
        reason = _silence(url, _ask_url)
        if reason is not None:
            raise SeelikeError(_unreachable(spec, urlparse(url).netloc, reason, ways_out))
    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or reason is not None
    try:
        yield
    except (SeelikeError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        server = urlparse(url).netloc if url is not None else urlparse(constants.ENDPOINT).netloc
        raise SeelikeError(_explain(error, spec, server, reason, ways_out)) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _reason(error: BaseException) -> str:
    """Return why a server did not answer, without what urllib wraps around it."""
    inner = getattr(error, "reason", None)
    return first_line(inner if isinstance(inner, BaseException) else error)


def _cached_download(url: str) -> Path:
    """Where torch keeps a downloaded checkpoint."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _silence(server: str, ask: Callable[[str], None]) -> str | None:
    """Return None when `server` gives a sign of life, else why it does not."""
    if server in _alive:
        return None
    reason = ""
    for attempt in range(PROBE_ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        try:
            ask(server)
        except Exception as error:
            reason = _reason(error)
        else:
            _alive.add(server)
            return None
    return reason


def _ask_hub(endpoint: str) -> None:
    """Send one request through the hub's own client (its proxies and certificates); any answer will do."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    get_session().head(endpoint, timeout=PROBE_SECONDS)


def _ask_url(url: str) -> None:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return  # an answer; what it means is for the library to say


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_network(error: BaseException) -> bool:
    """Whether `error` says that a server did not answer."""
    if isinstance(error, urllib.error.HTTPError):
        return False
    library = type(error).__module__.split(".")[0]
    if type(error).__name__ in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        return True
    if library in ("httpx", "httpx2", "requests") and "Status" not in type(error).__name__:
        return type(error).__name__ != "HTTPError"
    network = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError, urllib.error.URLError)
    return isinstance(error, network)


def _unreachable(spec: str, server: str, reason: str, ways_out: str) -> str:
    return f"{spec} is not in the local cache and {server} cannot be reached ({reason}); {ways_out}"


def _explain(error: Exception, spec: str, server: str, reason: str | None, ways_out: str) -> str:
    """Word what a library raised."""
    chain = list(_chain(error))
    names = {type(e).__name__ for e in chain}
    if names & {"GatedRepoError", "RepositoryNotFoundError"}:
        return (
            f"{spec}: {server} has no such repository, or keeps it private or gated (then log in with "
            f"`hf auth login` or set HF_TOKEN)"
        )
    if reason is not None and any(_is_network(e) or isinstance(e, OSError) for e in chain):
        return _unreachable(spec, server, reason, ways_out)
    if "OfflineModeIsEnabled" in names or ("LocalEntryNotFoundError" in names and _offline()):
        return _unreachable(spec, server, "offline mode is set by HF_HUB_OFFLINE", ways_out)
    network = [e for e in chain if _is_network(e)]
    if network:
        return _unreachable(spec, server, _reason(network[-1]), ways_out)
    return f"{spec} cannot be loaded: {type(error).__name__}: {first_line(error)}"


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
