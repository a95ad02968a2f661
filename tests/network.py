"""A guard that refuses connections to other machines, and remembers that they were tried."""

import ipaddress
import socket

LOCAL = {"", "localhost", "localhost.localdomain", "ip6-localhost"}


class NetworkRefused(OSError):
    """A connection to another machine was tried."""


def is_local(host) -> bool:
    """Whether a host is this machine, as launchers of processes name it too."""
    if host is None:
        return True
    host = host.decode() if isinstance(host, bytes) else str(host)
    if host.lower() in LOCAL | {socket.gethostname().lower()}:
        return True
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse_network(monkeypatch) -> list[str]:
    """Let Python's sockets reach this machine only, and return a list to which each other attempt is added."""
    tried: list[str] = []

    def check(host) -> None:
        if not is_local(host):
            tried.append(str(host))
            raise NetworkRefused(f"tests do not connect to {host}")

    def guarded(name):
        real = getattr(socket.socket, name)

        def connect(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(address[0])
            return real(self, address)

        return connect

    resolve = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **named):
        check(host)
        return resolve(host, *arguments, **named)

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return tried
