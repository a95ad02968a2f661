"""Sources on the web: fetched once into the cache, resumed where they were cut, checked.

urllib does it: it is there, follows the proxies of the environment, and leaves redirects, ranges and bytes as they come
to us. The HTTP library behind the Hugging Face hub changes its name between versions.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import http.client
import json
import logging
import re
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from filelock import FileLock, Timeout

from foster.errors import InputError
from foster.json_text import to_json
from foster.progress import Progress
from foster.storage import cache_root, file_sha256, whole_file
from foster.version import __version__

_log = logging.getLogger(__name__)

# Seconds without an answer, or without the next bytes.
TIMEOUT = 30.0
_BLOCK = 1 << 20
_LONGEST_NAME = 150  # bytes; file systems allow 255
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CHECKSUM = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


@dataclass(frozen=True)
class Download:
    """A file that was fetched, now or earlier.

    Attributes:
        path: the file in the cache; its name is the one in the address, so that its format is known.
        url: the address without query and fragment, for messages.
        sha256: its SHA-256, 64 hex digits.
        note: one sentence: whether it was fetched now, its size and its SHA-256.
    """

    path: Path
    url: str
    sha256: str
    note: str


@dataclass(frozen=True)
class _State:
    """What lies in the cache, whole or in part, and what the server said of it.

    Attributes:
        etag: the header ``ETag``, or None.
        modified: the header ``Last-Modified``, or None.
        sha256: of the whole file; "" of a part.
        size: bytes of the whole file; 0 of a part.
        mtime_ns: the time of the whole file on the disk; 0 of a part.
    """

    etag: str | None
    modified: str | None
    sha256: str = ""
    size: int = 0
    mtime_ns: int = 0

    @property
    def range_validator(self) -> str | None:
        """What ``If-Range`` may hold: a weak ETag does not promise equal bytes."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.modified if self.etag is None else None

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for a file only if it changed."""
        found = {"If-None-Match": self.etag, "If-Modified-Since": self.modified if self.etag is None else None}
        return {name: value for name, value in found.items() if value is not None}


class _Unreachable(Exception):
    """The server cannot be reached or is out of order; the message says why."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, but none that leaves encryption."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        here, there = urlsplit(req.full_url), urlsplit(newurl)
        if there.scheme not in ("http", "https") or (here.scheme, there.scheme) == ("https", "http"):
            raise InputError(
                f"{_shown(here)}: the server leads on to {_shown(there)}, which is not encrypted or no web address; "
                "give an address that does not"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_url(source: str) -> bool:
    """Whether a source is an address of whatever scheme (``https://...``, ``s3://...``), and so no path."""
    return _SCHEME.match(source) is not None


def fetch(url: str, progress: bool = True) -> Download:
    """Fetch a file into the cache, unless it is there and did not change.

    Of a connection that was cut the part is kept, and the next call goes on where it ended if the server can. Where the
    server cannot be reached, the file that was fetched before is used; the note says so. Processes that fetch the same
    address at once wait for one another.

    Args:
        url: an http or https address; ``#sha256=`` and 64 hex digits at its end are the checksum of the file.
        progress: a bar on stderr, or a line a minute where that is no terminal.

    Raises:
        InputError: another scheme, no such file, a server that cannot be reached, a connection that was cut, another
            checksum, or a cache that cannot be written to.
    """
    parts, checksum = _checked(url)
    folder = cache_root() / "downloads" / hashlib.sha256(_address(parts).encode()).hexdigest()[:16]
    path = folder / _file_name(parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("%s: another process is fetching it; waiting", _shown(parts))
            lock.acquire()
        try:
            return _Fetch(_address(parts), _shown(parts), path, checksum, progress).run()
        finally:
            lock.release()
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); make room there, or set "
            "FOSTER_CACHE to another place"
        ) from error


@dataclass
class _Fetch:
    """One call of ``fetch``, alone with its folder of the cache."""

    address: str
    shown: str
    path: Path
    checksum: str | None
    progress: bool
    part: Path = field(init=False)

    def __post_init__(self) -> None:
        self.part = self.path.with_name(f"{self.path.name}.part")

    def run(self) -> Download:
        known = self._known()
        if known is not None and known.sha256 == self.checksum:
            if file_sha256(self.path) == self.checksum:
                return self._download(known, "is in the cache")
            known = None
        try:
            return self._ask(known)
        except _Unreachable as error:
            if known is None:
                raise InputError(f"{self.shown}: {error}; nothing of it is in the cache") from error
            self._check(known.sha256, self.path)
            day = dt.datetime.fromtimestamp(known.mtime_ns / 1e9).date()
            return self._download(known, f"{error}, so the copy of {day} in the cache is used")

    def _ask(self, known: _State | None) -> Download:
        """Ask the server, and fetch what is missing; from the start where going on does not work."""
        part = _read_state(self.part)
        start = self.part.stat().st_size if part is not None and self.part.is_file() else 0
        headers = {"User-Agent": f"foster/{__version__}"}
        if part is not None and start and part.range_validator is not None:
            headers |= {"Range": f"bytes={start}-", "If-Range": part.range_validator}
        else:
            start = 0
            headers |= known.conditions if known is not None else {}
        with _open(self.address, headers, self.shown) as response:
            status = response.status
            if status == http.HTTPStatus.NOT_MODIFIED and known is not None:
                self._check(known.sha256, self.path)
                return self._download(known, "did not change since it was fetched")
            seen = _State(response.headers["ETag"], response.headers["Last-Modified"])
            begin, total = _content_range(response.headers["Content-Range"])
            gone_on = status == http.HTTPStatus.PARTIAL_CONTENT and begin == start and not _differ(seen, part)
            all_there = status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and total == start
            if part is not None and start and (gone_on or all_there):
                seen = part
                if gone_on:
                    self._receive(response, start, total)
            elif status == http.HTTPStatus.OK:
                self._check_content(response.headers)
                length = response.headers["Content-Length"]
                total = int(length) if length and length.isdigit() else None
                self._forget()
                _write_state(self.part, seen)
                self._receive(response, 0, total)
            elif start:
                self._forget()
                return self._ask(known)
            else:
                raise _Unreachable(f"the server answers {status} {response.reason}".rstrip())
        return self._finish(seen, total)

    def _receive(self, response: http.client.HTTPResponse, start: int, total: int | None) -> None:
        """Append the body of an answer to the part.

        Raises:
            InputError: the connection was cut.
        """
        bar = Progress(
            what=f"fetching {self.path.name}",
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            shown=self.progress,
        )
        with bar, self.part.open("ab" if start else "wb") as file:
            while True:
                try:
                    block = response.read1(_BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    file.flush()
                    raise self._cut(total, _reason(error)) from error
                if not block:
                    break
                file.write(block)
                bar.update(len(block))

    def _finish(self, seen: _State, total: int | None) -> Download:
        size = self.part.stat().st_size
        if total is not None and size < total:
            raise self._cut(total, "no more came")
        if total is not None and size > total:
            self._forget()
            raise InputError(f"{self.shown}: {size} bytes came, but the server states {total}; call again")
        sha256 = file_sha256(self.part)
        self._check(sha256, self.part)
        self.part.replace(self.path)
        state = _State(seen.etag, seen.modified, sha256, size, self.path.stat().st_mtime_ns)
        _write_state(self.path, state)
        self._forget()
        return self._download(state, "was fetched" + ("" if total is not None else " (the server states no size)"))

    def _known(self) -> _State | None:
        """Return the state of the whole file in the cache, or None where it is not there or was changed."""
        state = _read_state(self.path)
        try:
            now = self.path.stat()
        except OSError:
            return None
        if state is None or (state.size, state.mtime_ns) != (now.st_size, now.st_mtime_ns):
            return None
        return state

    def _check(self, sha256: str, path: Path) -> None:
        """Remove a file that has another checksum than the address states.

        Raises:
            InputError: it has.
        """
        if self.checksum is None or sha256 == self.checksum:
            return
        self._forget()
        path.unlink(missing_ok=True)
        raise InputError(
            f"{self.shown}: its SHA-256 is {sha256}, but the address states {self.checksum}; the file is removed: "
            "correct the checksum, or do not use the file"
        )

    def _check_content(self, headers: HTTPMessage) -> None:
        """Refuse answers that are not the file.

        Raises:
            InputError: a web page came instead of a file, or the file is packed for the way.
        """
        suffix = self.path.suffix.lower()
        if headers.get_content_type() == "text/html" and headers["Content-Type"] and suffix not in (".html", ".htm"):
            raise InputError(
                f"{self.shown}: the server sends a web page, not a file; perhaps one must log in or accept terms; "
                "fetch the file by hand and give its path"
            )
        packed = headers.get("Content-Encoding", "identity").lower()
        if packed != "identity" and suffix != ".gz":
            raise InputError(
                f"{self.shown}: the server packs the file by itself ({packed}); fetch it by hand and give its path"
            )

    def _cut(self, total: int | None, reason: str) -> InputError:
        size = self.part.stat().st_size
        of = "" if total is None else f" of {total:,}"
        return InputError(
            f"{self.shown}: the connection was cut after {size:,}{of} bytes ({reason}); call again to go on from there"
        )

    def _forget(self) -> None:
        """Remove the part."""
        self.part.unlink(missing_ok=True)
        _state_path(self.part).unlink(missing_ok=True)

    def _download(self, state: _State, what: str) -> Download:
        note = f"{self.shown}: {what}; {state.size:,} bytes, SHA-256 {state.sha256}"
        return Download(self.path, self.shown, state.sha256, note)


def _checked(url: str) -> tuple[SplitResult, str | None]:
    """Return the parts of an address and the checksum at its end.

    Raises:
        InputError: it is no http or https address, holds a password, or ends in something else than a checksum.
    """
    try:
        parts = urlsplit(url)
        host, secret, _ = parts.hostname, parts.username or parts.password, parts.port
    except ValueError as error:
        raise InputError(f"{url}: is no valid address ({error}); write it like https://host/log.csv") from error
    if parts.scheme not in ("http", "https"):
        raise InputError(
            f"{parts.scheme}://...: only http and https addresses are read; fetch the file by other means and give its "
            "path"
        )
    if secret is not None:
        raise InputError(f"{parts.scheme}://...@{host}: a password in an address is not sent; fetch the file by hand")
    if not host:
        raise InputError(f"{url}: names no host; write it like https://host/log.csv")
    if not parts.fragment:
        return parts, None
    found = _CHECKSUM.fullmatch(parts.fragment)
    if found is None:
        raise InputError(
            f"{_shown(parts)}: ends in '#{parts.fragment}', but only #sha256= and 64 hex digits may stand there"
        )
    return parts, found[1].lower()


def _address(parts: SplitResult) -> str:
    """Return what is asked for: without the fragment, blanks and letters beyond ASCII in percent signs."""
    safe = "%/:;,=&?~+!$'()*@[]|"
    return parts._replace(path=quote(parts.path, safe), query=quote(parts.query, safe), fragment="").geturl()


def _shown(parts: SplitResult) -> str:
    """Return an address for messages: what gives access may stand in a query."""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _file_name(parts: SplitResult) -> str:
    """Return the name of the file in an address, as a plain name on the disk."""
    name = re.split(r"[/\\]", unquote(parts.path))[-1]
    name = "".join(sign for sign in name if sign.isprintable()).lstrip(". ")
    # The end is kept: it says the format.
    return name.encode()[-_LONGEST_NAME:].decode(errors="ignore") or "download"


def _open(address: str, headers: dict[str, str], shown: str) -> http.client.HTTPResponse:
    """Ask for an address, and return the answer with the status 200, 206, 304 or 416.

    Raises:
        InputError: the server says that there is no such file for us.
        _Unreachable: there is no answer, or the server has an error of its own.
    """
    opener = urllib.request.build_opener(_Redirects)
    try:
        response: http.client.HTTPResponse = opener.open(
            urllib.request.Request(address, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code in (http.HTTPStatus.NOT_MODIFIED, http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            answer: Any = error
            return answer
        error.close()
        said = f"the server answers {error.code} ({_reason(error)})"
        if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR or error.code == http.HTTPStatus.TOO_MANY_REQUESTS:
            raise _Unreachable(said) from error
        raise InputError(f"{shown}: {said}; check the address") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise _Unreachable(f"cannot be reached ({_reason(error)})") from error
    return response


def _reason(error: Exception) -> str:
    """Return why a connection failed, in a few words."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    lines = str(reason).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _content_range(header: str | None) -> tuple[int | None, int | None]:
    """Return the first byte and the size of the whole file of a header such as ``bytes 10-19/20``."""
    found = _CONTENT_RANGE.fullmatch((header or "").strip())
    if found is None:
        return None, None
    return (
        int(found[1]) if found[1] else None,
        int(found[2]) if found[2] != "*" else None,
    )


def _differ(seen: _State, part: _State | None) -> bool:
    """Whether an answer is of another version of the file than the part."""
    return part is not None and seen.etag is not None and part.etag is not None and seen.etag != part.etag


def _state_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_state(path: Path) -> _State | None:
    """Return what was noted of a file; None where it is damaged or not there."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return _State(**json.loads(_state_path(path).read_text(encoding="utf-8")))
    return None


def _write_state(path: Path, state: _State) -> None:
    with whole_file(_state_path(path)) as temporary:
        temporary.write_text(to_json(asdict(state), ascii_only=True) + "\n", encoding="utf-8")
