"""Recognises the runs of this user: a secret of the user signs what a run names.

A run directory may come from anybody. What its config names (modules, folders) is imported and written only when the
signature beside it was made with the secret of this user, or when the user says so. The secret lies in
`~/.config/dreamworld/secret` and never leaves it; without a home to write to, no run is signed.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from dreamworld import system, writing
from dreamworld.plainyaml import MAX_YAML
from dreamworld.reading import BadFile, MissingFile, open_file, read_bytes

SIGNATURE = "config.sig"
SIGNED = {"config.yaml": MAX_YAML, "spaces.json": 4 << 20}  # name and largest size
LENGTH = 32  # bytes of the secret
VERSION = b"dreamworld run 1"


def secret_path() -> Path:
    """Where the secret of this user lies; RuntimeError for a user without a home."""
    home = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    home = home if home.is_absolute() else Path.home() / ".config"
    return home / "dreamworld" / "secret"


def read_secret() -> bytes | None:
    """The secret; None where there is none, or where it is not this user's alone."""
    try:
        with open_file(secret_path()) as file:
            status = os.fstat(file.fileno())
            content = file.read(LENGTH + 1)
    except (OSError, RuntimeError, BadFile):
        return None
    if not system.is_private(status):
        return None
    return content if len(content) == LENGTH else None


def make_secret() -> bytes | None:
    """The secret, made when there is none; None where it can't be."""
    try:
        path = secret_path()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _write_once(path, secrets.token_bytes(LENGTH))
    except (OSError, RuntimeError, ValueError):
        return None
    return read_secret()


def _write_once(path: Path, content: bytes) -> None:
    """Creates a private file, complete from its first moment; leaves one that is there already."""
    part = path.with_name(f"secret.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sign(folder: Path) -> bool:
    """Signs the run in `folder` as this user's; False, and no signature is left, where that is not possible."""
    path = folder / SIGNATURE
    try:
        path.unlink(missing_ok=True)
        secret = make_secret()
        if secret is None:
            return False
        writing.replace(path, _digest(folder, secret) + "\n")
    except (OSError, BadFile):
        return False
    return True


def is_run(folder: Path) -> bool:
    """Whether a run was started in `folder`: more lies there than a config that somebody wrote."""
    return any((folder / name).exists() for name in ("spaces.json", "status.json", "checkpoints", SIGNATURE))


def is_own(folder: Path) -> bool:
    """Whether this user signed the run in `folder`, and what it names has not changed since."""
    secret = read_secret()
    if secret is None:
        return False
    try:
        found = read_bytes(folder / SIGNATURE, 200).strip()
        return hmac.compare_digest(found, _digest(folder, secret).encode("ascii"))
    except (OSError, BadFile):
        return False


def _digest(folder: Path, secret: bytes) -> str:
    """Of the names and contents of the signed files; nothing in it changes when the folder is moved."""
    code = hmac.new(secret, VERSION, "sha256")
    for name, limit in SIGNED.items():
        try:
            content = read_bytes(folder / name, limit)
            head = f"{name} {len(content)}"
        except MissingFile:
            content, head = b"", f"{name} missing"
        code.update(f"\n{head}\n".encode() + content)
    return code.hexdigest()
