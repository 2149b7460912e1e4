#!/usr/bin/env python3
"""Writes the certificates that Python trusts into a Java trust store, so that a fetch by Java trusts what pip trusts.

A Java runtime out of a wheel brings a list of its own, which knows nothing of certificates that were added to the machine.
Usage: truststore.py OUTPUT. The format is JKS: https://docs.oracle.com/en/java/javase/17/docs/specs/security/standard-names.html
"""

import hashlib
import os
import ssl
import struct
import sys
from pathlib import Path

PASSWORD = "changeit"  # noqa: S105  what Java itself uses: it seals public certificates against damage, it hides nothing


def certificates() -> list[bytes]:
    """The trusted certificates (DER), of SSL_CERT_FILE, PIP_CERT or the system's bundle."""
    bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    context = ssl.create_default_context(cafile=bundle)
    return sorted(context.get_ca_certs(binary_form=True))


def trust_store(trusted: list[bytes]) -> bytes:
    """A JKS file of version 2 with one trusted entry a certificate, and its keyed digest at the end."""
    content = struct.pack(">III", 0xFEEDFEED, 2, len(trusted))
    for number, certificate in enumerate(trusted):
        alias = f"trusted-{number}".encode()
        content += struct.pack(">IH", 2, len(alias)) + alias + struct.pack(">QH", 0, 5) + b"X.509"
        content += struct.pack(">I", len(certificate)) + certificate
    return content + hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + content).digest()  # noqa: S324


if __name__ == "__main__":
    found = certificates()
    if not found:
        sys.exit("no trusted certificates found")
    Path(sys.argv[1]).write_bytes(trust_store(found))
