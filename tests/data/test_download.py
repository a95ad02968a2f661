"""Against servers on this machine, in threads of the test."""

import hashlib
import http.server
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from foster.data import download
from foster.data.download import fetch, is_url
from foster.errors import InputError
from foster.storage import cache_root

CONTENT = bytes(range(256)) * 4_000
SHA = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class File:
    """What the server has at one path, and how it behaves there."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    length: bool = True
    status: int = 200
    location: str | None = None
    headers: dict = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    """After how many bytes of the next answers the connection is cut."""
    wait: float = 0.0


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, File] = {}
        self.asked: list[dict] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    @property
    def statuses(self):
        return [asked["status"] for asked in self.asked]

    def stop(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        file = self.server.files.get(self.path, File(status=404, content=b""))
        time.sleep(file.wait)
        content, status, headers = file.content, file.status, dict(file.headers)
        if file.etag is not None:
            headers["ETag"] = file.etag
        if file.modified is not None:
            headers["Last-Modified"] = file.modified
        if file.location is not None:
            headers["Location"] = file.location
        validators = (file.etag, file.modified)
        wanted = self.headers["Range"]
        if status == 200 and (
            (file.etag and self.headers["If-None-Match"] == file.etag)
            or (file.modified and self.headers["If-Modified-Since"] == file.modified)
        ):
            status, content = 304, b""
        elif status == 200 and wanted and file.ranges and self.headers["If-Range"] in validators:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                status, headers["Content-Range"], content = 416, f"bytes */{len(content)}", b""
            else:
                status = 206
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                content = content[start:]
        self.server.asked.append({"path": self.path, "status": status, **self.headers})
        self.send_response(status)
        if file.length:
            headers["Content-Length"] = len(content)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if file.cuts:
            content = content[: file.cuts.pop(0)]
        self.wfile.write(content)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def url(server):
    server.files["/log.csv"] = File()
    return server.url("/log.csv")


def files_of_cache():
    return sorted(path.name for path in cache_root().rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_file_is_fetched_once(server, url):
    first, second = fetch(url), fetch(url)
    assert first.path.read_bytes() == CONTENT
    assert first.path.name == "log.csv"
    assert (first.path, first.sha256) == (second.path, SHA)
    assert server.statuses == [200, 304]
    assert first.note == f"{url}: was fetched; 1,024,000 bytes, SHA-256 {SHA}"
    assert "did not change since it was fetched" in second.note
    assert files_of_cache() == ["log.csv", "log.csv.json"]


def test_last_modified_serves_where_there_is_no_etag(server, url):
    server.files["/log.csv"] = File(etag=None, modified="Fri, 01 May 2020 10:00:00 GMT", cuts=[1000])
    with pytest.raises(InputError):
        fetch(url)
    assert fetch(url).path.read_bytes() == CONTENT
    fetch(url)
    assert server.statuses == [200, 206, 304]


def test_a_changed_file_is_fetched_again(server, url):
    fetch(url)
    server.files["/log.csv"] = File(b"new", etag='"two"')
    assert fetch(url).path.read_bytes() == b"new"
    assert server.statuses == [200, 200]


def test_without_validators_it_is_fetched_each_time(server, url):
    server.files["/log.csv"] = File(etag=None)
    assert fetch(url).path == fetch(url).path
    assert server.statuses == [200, 200]


def test_a_cut_connection_is_an_error_and_the_next_call_goes_on(server, url):
    server.files["/log.csv"].cuts = [100_000, 200_000]
    for so_far in ("100,000", "300,000"):
        with pytest.raises(InputError) as error:
            fetch(url)
        assert f"cut after {so_far} of 1,024,000 bytes" in str(error.value)
        assert "call again" in str(error.value)
    assert fetch(url).path.read_bytes() == CONTENT
    assert server.statuses == [200, 206, 206]
    assert [asked.get("Range") for asked in server.asked] == [None, "bytes=100000-", "bytes=300000-"]
    assert files_of_cache() == ["log.csv", "log.csv.json"]


def test_a_server_without_ranges_starts_anew(server, url):
    server.files["/log.csv"] = File(ranges=False, cuts=[100_000])
    with pytest.raises(InputError, match="cut after"):
        fetch(url)
    assert fetch(url).path.read_bytes() == CONTENT
    assert server.statuses == [200, 200]


@pytest.mark.parametrize("etag", ['W/"one"', None])
def test_a_part_of_unknown_bytes_is_not_gone_on_with(server, url, etag):
    server.files["/log.csv"] = File(etag=etag, cuts=[100_000])
    with pytest.raises(InputError):
        fetch(url)
    assert fetch(url).path.read_bytes() == CONTENT
    assert all("Range" not in asked for asked in server.asked)


def test_a_part_of_an_older_version_is_thrown_away(server, url):
    server.files["/log.csv"].cuts = [100_000]
    with pytest.raises(InputError):
        fetch(url)
    server.files["/log.csv"] = File(CONTENT[::-1], etag='"two"')
    assert fetch(url).path.read_bytes() == CONTENT[::-1]
    # The state of the new version is the one that is kept.
    fetch(url)
    assert server.statuses == [200, 200, 304]


def test_a_server_that_goes_on_with_another_version_is_not_believed(server, url):
    server.files["/log.csv"].cuts = [100_000]
    with pytest.raises(InputError):
        fetch(url)
    file = server.files["/log.csv"]
    file.content, file.headers = CONTENT[::-1], {"ETag": '"two"'}
    # It answers If-Range of the old version with a part of the new one.
    file.modified, file.etag = '"one"', None
    assert fetch(url).path.read_bytes() == CONTENT[::-1]
    assert server.statuses == [200, 206, 200]


def test_a_part_that_is_whole_already_is_only_checked(server, url):
    """As after a kill between the last byte and the renaming."""
    server.files["/log.csv"].cuts = [100_000]
    with pytest.raises(InputError):
        fetch(url)
    next(cache_root().rglob("*.part")).write_bytes(CONTENT)
    assert fetch(url).path.read_bytes() == CONTENT
    assert server.statuses == [200, 416]


def test_a_part_that_is_too_long_starts_anew(server, url):
    server.files["/log.csv"].cuts = [100_000]
    with pytest.raises(InputError):
        fetch(url)
    next(cache_root().rglob("*.part")).write_bytes(CONTENT + b"x")
    assert fetch(url).path.read_bytes() == CONTENT
    assert server.statuses == [200, 416, 200]


def test_an_update_that_is_cut_leaves_the_file_that_is_there(server, url):
    first = fetch(url)
    server.files["/log.csv"] = File(CONTENT[::-1], etag='"two"', cuts=[10])
    with pytest.raises(InputError, match="cut after 10 of"):
        fetch(url)
    assert first.path.read_bytes() == CONTENT
    assert fetch(url).path.read_bytes() == CONTENT[::-1]


def test_a_stalled_connection_is_cut(server, url, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.files["/log.csv"].wait = 1.0
    with pytest.raises(InputError, match=r"cannot be reached \(timed out\); nothing of it is in the cache"):
        fetch(url)


def test_a_server_that_states_no_size(server, url):
    server.files["/log.csv"] = File(length=False)
    got = fetch(url)
    assert got.path.read_bytes() == CONTENT
    assert "the server states no size" in got.note


def test_the_checksum_of_the_address(server, url):
    assert fetch(f"{url}#sha256={SHA}").sha256 == SHA
    # Equal content needs no question.
    assert "is in the cache" in fetch(f"{url}#sha256={SHA.upper()}").note
    assert server.statuses == [200]


@pytest.mark.parametrize("before", [False, True])
def test_another_checksum_is_an_error_and_the_file_is_removed(server, url, before):
    if before:
        fetch(url)
    with pytest.raises(InputError) as error:
        fetch(f"{url}#sha256={'0' * 64}")
    assert f"its SHA-256 is {SHA}, but the address states {'0' * 64}; the file is removed" in str(error.value)
    assert "log.csv" not in files_of_cache()
    assert not list(cache_root().rglob("*.part"))


def test_a_changed_file_in_the_cache_is_fetched_again(server, url):
    fetch(url).path.write_bytes(b"x")
    assert fetch(url).path.read_bytes() == CONTENT
    # Not even the same size and time deceive a checksum.
    path = fetch(f"{url}#sha256={SHA}").path
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=times)
    assert fetch(f"{url}#sha256={SHA}").path.read_bytes() == CONTENT


def test_without_a_network_the_copy_is_used_and_said_so(server, url):
    first = fetch(url)
    server.stop()
    again = fetch(url)
    assert again.path == first.path
    assert "cannot be reached (Connection refused), so the copy of 20" in again.note
    with pytest.raises(InputError, match=r"cannot be reached \(Connection refused\); nothing of it is in the cache"):
        fetch(server.url("/other.csv"))


def test_a_server_out_of_order(server, url):
    server.files["/log.csv"] = File(status=503)
    with pytest.raises(InputError, match=r"the server answers 503 \(Service Unavailable\); nothing of it"):
        fetch(url)
    server.files["/log.csv"] = File()
    fetch(url)
    server.files["/log.csv"] = File(status=503)
    assert "503 (Service Unavailable), so the copy of" in fetch(url).note


@pytest.mark.parametrize(("status", "said"), [(404, "404 (Not Found)"), (403, "403 (Forbidden)"), (410, "410 (Gone)")])
def test_no_such_file(server, url, status, said):
    fetch(url)
    server.files["/log.csv"] = File(status=status, content=b"")
    with pytest.raises(InputError) as error:
        fetch(url)
    assert str(error.value) == f"{url}: the server answers {said}; check the address"


def test_redirects_are_followed(server, url):
    server.files["/moved.csv"] = File(status=302, location="/log.csv", content=b"", etag=None)
    server.files["/log.csv"].cuts = [100_000]
    with pytest.raises(InputError):
        fetch(server.url("/moved.csv"))
    got = fetch(server.url("/moved.csv"))
    assert got.path.read_bytes() == CONTENT
    assert got.path.name == "moved.csv"
    assert server.statuses == [302, 200, 302, 206]


def test_a_redirect_in_a_circle(server):
    server.files["/a.csv"] = File(status=302, location="/a.csv", content=b"", etag=None)
    with pytest.raises(InputError) as error:
        fetch(server.url("/a.csv"))
    assert "answers 302" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_redirect_leaves_encryption():
    def follow(here, there):
        return download._Redirects().redirect_request(urllib.request.Request(here), None, 302, "Found", {}, there)

    with pytest.raises(InputError, match=r"https://a/x: the server leads on to http://b/y, which is not encrypted"):
        follow("https://a/x?key=secret", "http://b/y?key=secret")
    assert follow("https://a/x", "https://b/y").full_url == "https://b/y"
    assert follow("http://a/x", "https://b/y").full_url == "https://b/y"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_no_redirect_leaves_the_web(server, location):
    server.files["/a.csv"] = File(status=302, location=location, content=b"", etag=None)
    with pytest.raises(InputError):
        fetch(server.url("/a.csv"))
    assert files_of_cache() == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a%20b.csv.gz?download=1", "a b.csv.gz"),
        ("/meta%5B1%5D.jsonl", "meta[1].jsonl"),
        ("/x/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("/.netrc", "netrc"),
        ("/%E4%B8%AD.csv", "中.csv"),
        ("/", "download"),
        ("/" + "%E4%B8%AD" * 100 + ".parquet", "中" * 47 + ".parquet"),
    ],
)
def test_the_name_follows_the_address(server, path, name):
    server.files[path] = File()
    got = fetch(server.url(path))
    assert got.path.name == name
    assert got.path.parent.parent == cache_root() / "downloads"


def test_blanks_and_letters_in_an_address_are_encoded(server):
    server.files["/%E4%B8%AD%20b.csv?q=%C3%A9"] = File()
    assert fetch(server.url("/中 b.csv?q=é")).path.name == "中 b.csv"


def test_addresses_with_other_queries_are_other_files(server):
    for number in (1, 2):
        server.files[f"/log.csv?month={number}"] = File(b"%d" % number)
    assert [fetch(server.url(f"/log.csv?month={n}")).path.read_bytes() for n in (1, 2)] == [b"1", b"2"]


def test_what_gives_access_is_not_shown(server):
    with pytest.raises(InputError) as error:
        fetch(server.url("/none.csv?token=secret"))
    assert "secret" not in str(error.value)
    with pytest.raises(InputError, match="a password in an address is not sent") as error:
        fetch("https://me:secret@localhost/log.csv")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/log.csv", r"^s3://\.\.\.: only http and https"),
        ("ftp://host/log.csv", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("http:///log.csv", "names no host"),
        ("http://host:port/log.csv", "is no valid address"),
        ("http://[::1/log.csv", "is no valid address"),
        ("http://localhost/log.csv#sha256=12", "only #sha256= and 64 hex digits"),
        ("http://localhost/log.csv#md5=" + "0" * 32, "only #sha256= and 64 hex digits"),
    ],
)
def test_addresses_that_are_not_read(url, said):
    with pytest.raises(InputError, match=said):
        fetch(url)


def test_a_web_page_is_no_file(server, url):
    server.files["/log.csv"].headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(InputError, match="sends a web page, not a file"):
        fetch(url)
    assert files_of_cache() == []


def test_a_file_that_the_server_packs(server, url):
    server.files["/log.csv"].headers = {"Content-Encoding": "gzip"}
    with pytest.raises(InputError, match=r"packs the file by itself \(gzip\)"):
        fetch(url)
    server.files["/log.csv.gz"] = File(headers={"Content-Encoding": "gzip"})
    assert fetch(server.url("/log.csv.gz")).path.read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_to(url, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written .*set FOSTER_CACHE"):
        fetch(url)


def test_a_damaged_note_of_the_cache_costs_one_fetch(server, url):
    fetch(url)
    next(cache_root().rglob("*.json")).write_text("{")
    assert fetch(url).path.read_bytes() == CONTENT
    assert server.statuses == [200, 200]


def test_threads_that_fetch_at_once_wait_for_one_another(server, url, caplog):
    server.files["/log.csv"].wait = 0.2
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(3) as pool:
        got = list(pool.map(fetch, [url] * 3))
    assert {one.path.read_bytes() for one in got} == {CONTENT}
    assert sorted(server.statuses) == [200, 304, 304]
    assert "another process is fetching it; waiting" in caplog.text


def test_two_processes_at_once(server, url):
    server.files["/log.csv"].wait = 0.5
    code = f"from foster.data.download import fetch; print(fetch({url!r}).sha256)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == [SHA, SHA]
    assert sorted(server.statuses) == [200, 304]


def test_progress_is_shown_on_a_terminal_only(url, capfd):
    fetch(url)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("source", ["https://a/b", "HTTP://a/b", "s3://a/b", "file:///x"])
def test_addresses_are_told_from_paths(source):
    assert is_url(source)
    assert not is_url(f"./{source}")


@pytest.mark.parametrize("source", ["log.csv", "C:\\log.csv", "/a//b", "a:b", ""])
def test_paths_are_no_addresses(source):
    assert not is_url(source)
