"""TLS of a port: certificate, key and, for mutual TLS, the authority of its clients' certificates, from files that may be replaced.

Files are looked at before every handshake, so a certificate that was renewed serves the next connection; one that cannot be read, or whose
key is another's, does not replace what works.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from services.rpc.settings import InvalidSettingError

log = logging.getLogger(__name__)
_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files. `client_ca`: clients need a certificate of this authority; None: they need none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def stamp(self) -> _Stamp:
        """Changes whenever one of them does.

        Raises:
            OSError: one is not there.
        """
        paths = (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))
        return tuple((said.st_mtime_ns, said.st_ino) for said in map(Path.stat, paths))

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
        try:  # gRPC itself would notice with the first client
            checked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            checked.load_cert_chain(self.certificate, self.key, password=_none)
            if self.client_ca:
                checked.load_verify_locations(self.client_ca)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InvalidSettingError(f"{self.certificate}, {self.key}: no certificate with its key in PEM: {error}") from None
        return grpc.ssl_server_certificate_configuration([(content[1], content[0])], content[2] if self.client_ca else None)


def credentials(files: Files) -> grpc.ServerCredentials:
    """Of a port that serves these files, whatever is in them when a client comes.

    Raises:
        InvalidSettingError: naming the file.
    """
    seen = files.stamp() if all(p is None or p.exists() for p in (files.certificate, files.key, files.client_ca)) else ()
    first = files.load()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """On a thread of gRPC's, before a handshake; None: no change."""
        nonlocal seen
        try:
            now = files.stamp()
            if now == seen:
                return None
            seen = now  # a pair half replaced is refused once and read again when its other half comes
            loaded = files.load()
        except (OSError, InvalidSettingError) as error:
            log.error("certificate_refused", extra={"detail": str(error)})
            return None
        log.info("certificate_renewed", extra={"path": str(files.certificate)})
        return loaded

    both = files.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(first, renewed, both)  # type: ignore[arg-type]  # its own text allows None, the stub does not


def _none() -> str:
    """No passphrase: without this, OpenSSL would ask the terminal for one."""
    return ""
