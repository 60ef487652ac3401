"""Certificates as tenants bring them: chains and keys of an authority that is nobody's."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)


def pem_of(key: Key, password: bytes | None = None) -> str:
    """Return a private key as PEM, encrypted if there is a password."""
    how = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how).decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new EC key."""
    return ec.generate_private_key(ec.SECP256R1())


class Elsewhere:
    """An authority with one below it, and the certificates that the lower one signs."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._root_key, self._key = new_key(), new_key()
        self.root = self._signed("root", self._root_key, "root", self._root_key, authority=True)
        self.lower = self._signed("lower", self._key, "root", self._root_key, authority=True)

    def leaf(
        self,
        key: Key,
        names: tuple[str, ...] = ("shop.test",),
        *,
        days: tuple[int, int] = (-1, 60),
        authority: bool = False,
        purpose: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        """Return a server's certificate that the lower authority signed."""
        return self._signed(
            "shop", key, "lower", self._key, authority=authority, names=names, days=days, purpose=purpose
        )

    def _signed(
        self,
        subject: str,
        key: Key,
        issuer: str,
        by: ec.EllipticCurvePrivateKey,
        *,
        authority: bool,
        names: tuple[str, ...] = (),
        days: tuple[int, int] = (-10, 900),
        purpose: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + days[0] * DAY)
            .not_valid_after(self.now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(san, critical=False)
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        return builder.sign(by, hashes.SHA256())


def chain(*certificates: x509.Certificate) -> str:
    """Return certificates as one PEM text."""
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)
