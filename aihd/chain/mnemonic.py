"""The mnemonic on disk: plain words in a file that only its owner can read, or encrypted with a password from a second file.

Encryption is scrypt and ChaCha20-Poly1305 of the `cryptography` package. Nothing of words or password is ever part of an error, but for a
word that belongs to no mnemonic. Words are checked wherever they come from: a mistyped one would silently be another wallet.
"""

from __future__ import annotations

import json
import os
import secrets
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from ergo_lib_python.wallet import MnemonicGenerator
from mnemonic import Mnemonic

from aihd.errors import ConfigError
from aihd.ops.secret_file import read_secret

WORDS: Final = (12, 15, 18, 21, 24)
FORMAT: Final = "aihd-mnemonic-1"
# 128 MiB and about half a second for each guess.
SCRYPT: Final = {"n": 2**17, "r": 8, "p": 1}
KEY: Final = "wallet.mnemonic_file"


def new_mnemonic() -> str:
    """24 fresh words."""
    return str(MnemonicGenerator("english", 256).generate())


def read_mnemonic(path: Path, password_file: Path | None) -> str:
    """The words in a file, decrypted if need be, in the form that keys are made from.

    ConfigError names the file and what is wrong with it: the number of words, the one that is in no list, the checksum.
    """
    text = read_secret(path, KEY)
    if text.startswith("{"):
        if password_file is None:
            raise ConfigError(f"{KEY} = {path} is encrypted: name the file with its password in wallet.password_file")
        text = _decrypt(path, text, read_secret(password_file, "wallet.password_file"))
    elif password_file is not None:
        raise ConfigError(f"{KEY} = {path} is not encrypted, but wallet.password_file is set: run aihd wallet encrypt")
    return checked(text, f"{KEY} = {path}")


def checked(text: str, where: str) -> str:
    """The words of a mnemonic (BIP-39, any of its languages) with one space between them, in Unicode form NFKD; errors as above."""
    words = unicodedata.normalize("NFKD", text.removeprefix("\ufeff")).split()
    if len(words) not in WORDS:
        raise ConfigError(f"{where} holds {len(words)} words, a mnemonic has {', '.join(map(str, WORDS))}")
    lists = {language: (Mnemonic(language, _list(language)), set(_list(language))) for language in _languages()}
    known = {language: sum(word in those for word in words) for language, (_, those) in lists.items()}
    most = max(known.values())
    if most < len(words):
        raise ConfigError(f"{where}: {_wrong(words, max(known, key=lambda language: known[language]))}")
    if not any(lists[language][0].check(" ".join(words)) for language, count in known.items() if count == most):
        raise ConfigError(
            f"{where} holds words of a mnemonic whose checksum does not fit: one is another word, or two are exchanged"
        )
    return " ".join(words)


def _wrong(words: list[str], language: str) -> str:
    """The first word that is in no list, and where it stands: no other word is shown."""
    those = set(_list(language))
    places = [place for place, word in enumerate(words, start=1) if word not in those]
    word = words[places[0] - 1]
    others = f" ({len(places) - 1} more are not, either)" if len(places) > 1 else ""
    right = "write it in lower case" if word.lower() in those else "see how it is spelt in your copy"
    return f"word {places[0]}, {word[:20]!r}, is none of the {language.replace('_', ' ')} list{others}: {right}"


def _languages() -> list[str]:
    return sorted(Mnemonic.list_languages(), key=lambda language: (language != "english", language))


@cache
def _list(language: str) -> list[str]:
    """The 2048 words of a language as they are compared: the package has some of them in another Unicode form."""
    return [unicodedata.normalize("NFKD", word) for word in Mnemonic(language).wordlist]


def write_mnemonic(path: Path, words: str, password: str | None) -> None:
    """Write a new file of mode 0600, encrypted if a password is given; ConfigError when there is one already."""
    text = words if password is None else json.dumps(_encrypt(words, password), indent=1)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{path} cannot be created: {error.strerror}") from None
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(handle)


def _encrypt(words: str, password: str) -> dict[str, Any]:
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    key = Scrypt(salt=salt, length=32, **SCRYPT).derive(password.encode())
    sealed = ChaCha20Poly1305(key).encrypt(nonce, words.encode(), FORMAT.encode())
    return {"format": FORMAT, **SCRYPT, "salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}


def _decrypt(path: Path, text: str, password: str) -> str:
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise ConfigError(f"{KEY} = {path} is of format {str(record['format'])[:40]!r}, expected {FORMAT}")
        cost = {name: int(record[name]) for name in SCRYPT}
        if cost != SCRYPT:
            raise ConfigError(f"{KEY} = {path} asks for scrypt with {cost}, expected {SCRYPT}")
        key = Scrypt(salt=bytes.fromhex(record["salt"]), length=32, **cost).derive(password.encode())
        sealed, nonce = bytes.fromhex(record["sealed"]), bytes.fromhex(record["nonce"])
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, FORMAT.encode()).decode()
    except InvalidTag:
        raise ConfigError(f"{KEY} = {path} does not open with the password in wallet.password_file") from None
    except (ValueError, KeyError, TypeError):
        # The cause is left out: its text could hold a piece of the file.
        raise ConfigError(f"{KEY} = {path} is not an encrypted mnemonic that this version can read") from None
