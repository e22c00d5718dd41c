"""Nothing of a key or a password is ever shown: every error around them is provoked, and all that was printed is searched."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import structlog
from ergo_lib_python.wallet import DerivationPath, ExtSecretKey
from mnemonic import Mnemonic
from offchain import ERG, FEE, PARAMETERS, Story, coin, headers

from aihd.chain.mnemonic import FORMAT, new_mnemonic, read_mnemonic, write_mnemonic
from aihd.chain.signer import Signer, SigningError
from aihd.core.signing import Spending, Spent
from aihd.errors import AihdError, ConfigError
from aihd.ops.logs import setup_logging
from aihd.protocol import plans

PASSWORD = "correct-horse-battery-staple"


class Vault:
    """A key with its files, and the search for what must not be seen of it."""

    def __init__(self, folder: Path) -> None:
        self.words = new_mnemonic()
        self.plain, self.sealed, self.password = folder / "plain", folder / "sealed", folder / "password"
        write_mnemonic(self.plain, self.words, None)
        write_mnemonic(self.sealed, self.words, PASSWORD)
        self.password.write_text(PASSWORD)
        self.password.chmod(0o600)
        secret = ExtSecretKey.from_mnemonic(self.words, "").derive(DerivationPath(0, [0])).secret_key()
        split = self.words.split()
        pairs = [" ".join(split[i : i + 2]) for i in range(len(split) - 1)]
        self.secrets = [*pairs, PASSWORD, bytes(secret).hex(), json.loads(self.sealed.read_text())["sealed"]]

    def found_in(self, text: str) -> list[str]:
        return [secret for secret in self.secrets if secret in text]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


def shown(error: BaseException) -> str:
    return "\n".join([str(error), repr(error), *traceback.format_exception(error)])


def test_vault__when__a_secret_is_shown__then__the_search_finds_it(vault: Vault) -> None:
    assert vault.found_in(f"oops: {vault.words}")
    assert vault.found_in(f"oops: {PASSWORD}")
    assert not vault.found_in("all is well")


def _spoil(vault: Vault, change: Callable[[dict[str, object]], object]) -> None:
    record = json.loads(vault.sealed.read_text())
    change(record)
    vault.sealed.write_text(json.dumps(record))


def _broken_files(vault: Vault) -> Iterator[Callable[[], object]]:
    """Every way in which a mnemonic's file can be wrong, each as a call that must fail."""
    yield lambda: read_mnemonic(vault.sealed, None)
    yield lambda: read_mnemonic(vault.plain, vault.password)
    wrong = vault.plain.with_name("wrong")
    wrong.write_text("not the password")
    wrong.chmod(0o600)
    yield lambda: read_mnemonic(vault.sealed, wrong)
    yield lambda: read_mnemonic(vault.plain.with_name("missing"), None)
    yield lambda: write_mnemonic(vault.plain, vault.words, PASSWORD)
    short = vault.plain.with_name("short")
    write_mnemonic(short, vault.words.rsplit(" ", 1)[0], None)
    yield lambda: read_mnemonic(short, None)
    bad = vault.plain.with_name("mistyped")
    words = vault.words.split()
    turned = ([*words[n:], *words[:n]] for n in range(1, 24))
    exchanged = next(typed for typed in turned if not Mnemonic("english").check(" ".join(typed)))
    for number, typed in enumerate(([*words[:-1], "zzzz"], [words[0].title(), *words[1:]], exchanged)):
        mistyped = bad.with_name(f"mistyped {number}")
        write_mnemonic(mistyped, " ".join(typed), None)
        yield partial(read_mnemonic, mistyped, None)
    open_to_all = vault.plain.with_name("open")
    write_mnemonic(open_to_all, vault.words, None)
    open_to_all.chmod(0o644)
    yield lambda: read_mnemonic(open_to_all, None)
    for change in (
        lambda r: r.update(format="other"),
        lambda r: r.update(format=FORMAT, n=2),
        lambda r: r.update(n=2**17, salt="no hex"),
        lambda r: r.pop("salt"),
    ):
        _spoil(vault, change)
        yield lambda: read_mnemonic(vault.sealed, vault.password)
    vault.sealed.write_text("{" + vault.words)
    yield lambda: read_mnemonic(vault.sealed, vault.password)


def test_mnemonic__when__its_file_is_wrong_in_any_way__then__no_error_shows_it(vault: Vault) -> None:
    errors = []
    for call in _broken_files(vault):
        with pytest.raises(ConfigError) as caught:
            call()
        errors.append(shown(caught.value))
    assert len(errors) == 15
    assert vault.found_in("\n".join(errors)) == []


def test_mnemonic__when__encrypted__then__it_opens_with_its_password_only(vault: Vault) -> None:
    assert read_mnemonic(vault.sealed, vault.password) == vault.words
    assert vault.found_in(vault.sealed.read_text()) == [json.loads(vault.sealed.read_text())["sealed"]]
    assert vault.sealed.stat().st_mode & 0o777 == 0o600


def test_signer__when__every_refusal_is_provoked__then__no_error_and_no_log_shows_the_key(vault: Vault) -> None:
    log = io.StringIO()
    setup_logging("debug", "json", log)
    signer = Signer.from_file(vault.sealed, vault.password)
    story = Story()
    story.node = signer
    box = coin(signer.tree, 10 * ERG, "vault")
    task = story.post()
    claim = plans.claim(story.market, task, story.bond, replace(story.funds(signer), boxes=(box,)))
    limits = Spending(2 * FEE, ERG, ERG, ERG)
    cases = [
        (claim, limits),  # another node's bond: the guard asks for a key that is not ours
        (replace(claim, signer=signer.public_key), limits),
        (replace(claim, outputs=claim.outputs[::-1]), limits),
        (claim, Spending(1, 1, 1, 1)),
        (replace(claim, outputs=(replace(claim.outputs[0], value=1), *claim.outputs[1:])), limits),
    ]
    texts = [repr(signer), str(signer), f"{vars(signer).keys()}"]
    for plan, spending in cases:
        permit = signer.permit(story.deployment, spending)
        with pytest.raises((SigningError, AihdError)) as caught:
            signer.sign(plan, headers(story.tip), PARAMETERS, permit=permit, spent=Spent(0, 0))
        structlog.get_logger().error("refused", signer=signer, error=caught.value, exc_info=caught.value)
        logging.getLogger("aihd").error("refused %r", signer, exc_info=caught.value)
        texts.append(shown(caught.value))
    assert log.getvalue().count("refused") >= 2 * len(cases)
    assert vault.found_in("\n".join([*texts, log.getvalue()])) == []


def test_command__when__secrets_are_given_where_they_must_not_be__then__they_are_refused_and_not_shown(
    vault: Vault, tmp_path: Path
) -> None:
    config = tmp_path / "aihd.toml"
    config.write_text(f'[wallet]\nmnemonic = "{vault.words}"\npassword = "{PASSWORD}"\n')
    sound = tmp_path / "sound.toml"
    sound.write_text(f'[wallet]\nmnemonic_file = "{vault.sealed}"\npassword_file = "{vault.password}"\n')
    runs = [
        (["config", "check", "--config", str(config)], {}),
        (["config", "check", "--config", str(sound)], {"AIHD_WALLET__MNEMONIC": vault.words}),
        (["config", "check", "--config", str(sound)], {"AIHD_WALLET__MNEMONIC_FILE": vault.words}),
        (["run", "--config", str(sound)], {}),
        (["status", "--json", "--config", str(sound)], {"AIHD_OPS__DATA_DIR": str(tmp_path)}),
        (["config", "show", "--config", str(sound)], {}),
        (["wallet", "address", "--config", str(sound)], {}),
        (["wallet", "new", "--out", str(vault.plain)], {}),
        (["bond", "open", "--amount", "1 ERG", "--config", str(sound)], {}),
    ]
    codes, printed = [], ""
    for arguments, env in runs:
        done = subprocess.run(
            [sys.executable, "-m", "aihd", *arguments],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        codes.append(done.returncode)
        printed += done.stdout + done.stderr
    assert codes == [78, 78, 78, 78, 1, 0, 0, 78, 78]
    assert "Traceback" not in printed
    assert vault.found_in(printed) == []
