"""TLS of a port: certificate, key and, for mutual TLS, the authority of its clients' certificates, from files that may be replaced.

Files are looked at before every handshake, so a certificate that was renewed serves the next connection; one that cannot be read, or whose
key is another's, does not replace what works.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import grpc

from services.rpc.settings import InvalidSettingError, variable

log = logging.getLogger(__name__)
_Stamp = tuple[tuple[int, int, int], ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files. `client_ca`: clients need a certificate of this authority; None: they need none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def stamp(self) -> _Stamp:
        """Changes whenever one of them does; the size, too, as one that is being written changes within a tick of the file system's clock.

        Raises:
            OSError: one is not there.
        """
        paths = (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))
        return tuple((said.st_mtime_ns, said.st_size, said.st_ino) for said in map(Path.stat, paths))

    def load(self) -> grpc.ServerCertificateConfiguration:
        """What gRPC wants of them.

        Raises:
            InvalidSettingError: naming the file.
        """
        paths = (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))
        content = []
        for path in paths:
            try:
                content.append(path.read_bytes())
            except OSError as error:
                raise InvalidSettingError(f"{path}: cannot be read: {error.strerror}") from None
        self.context()  # gRPC itself would notice with the first client
        return grpc.ssl_server_certificate_configuration([(content[1], content[0])], content[2] if self.client_ca else None)

    def context(self) -> ssl.SSLContext:
        """What other servers want of them.

        Raises:
            InvalidSettingError: naming the files.
        """
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            made.load_cert_chain(self.certificate, self.key, password=_none)
            if self.client_ca:
                made.load_verify_locations(self.client_ca)
                made.verify_mode = ssl.CERT_REQUIRED
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InvalidSettingError(f"{self.certificate}, {self.key}: no certificate with its key in PEM: {error}") from None
        return made


class Renewed(Generic[T]):
    """What is made of the files, made again when they change; what cannot be made does not replace what works."""

    def __init__(self, files: Files, make: Callable[[], T]) -> None:
        """Make it for the first time.

        Raises:
            InvalidSettingError: naming the file.
        """
        self._files, self._make = files, make
        try:
            self._seen = files.stamp()
        except OSError:
            self._seen = ()  # whatever `make` says of it
        self.value = make()

    def changed(self) -> T | None:
        """The new one, if it is another than last time."""
        try:
            now = self._files.stamp()
            if now == self._seen:
                return None
            self._seen = now  # a pair half replaced is refused once and read again when its other half comes
            self.value = self._make()
        except (OSError, InvalidSettingError) as error:
            log.error("certificate_refused", extra={"detail": str(error)})
            return None
        log.info("certificate_renewed", extra={"path": str(self._files.certificate)})
        return self.value


def named(values: object, prefix: str) -> Files | None:
    """The files that settings name; None where they name none.

    Args:
        values: settings with `<prefix>_cert`, `<prefix>_key` and `<prefix>_client_ca`.
        prefix: of their names.

    Raises:
        InvalidSettingError: naming the variable that is missing.
    """
    names = [f"{prefix}_{part}" for part in ("cert", "key", "client_ca")]
    cert, key, authority = (str(getattr(values, name)) for name in names)
    if bool(cert) != bool(key):
        raise InvalidSettingError(f"{variable(names[1] if cert else names[0])}: certificate and key go together, got ''")
    if authority and not cert:
        raise InvalidSettingError(f"{variable(names[2])}: needs {variable(names[0])} and {variable(names[1])}, got {authority!r}")
    return Files(Path(cert), Path(key), Path(authority) if authority else None) if cert else None


def credentials(files: Files) -> grpc.ServerCredentials:
    """Of a port that serves these files, whatever is in them when a client comes.

    Raises:
        InvalidSettingError: naming the file.
    """
    kept = Renewed(files, files.load)
    both = files.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(kept.value, kept.changed, both)  # type: ignore[arg-type]  # its own text allows None, the stub does not


def _none() -> str:
    """No passphrase: without this, OpenSSL would ask the terminal for one."""
    return ""
