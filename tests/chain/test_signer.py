"""The signer's last look: what it refuses to sign, and that its secret never shows."""

from __future__ import annotations

import json
import pickle
import traceback
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from ergo_lib_python.chain import Address
from ergo_lib_python.verifier import verify_signature
from mnemonic import Mnemonic
from offchain import ERG, FEE, coin, digest, headers, sign, signer

from aihd.chain.contracts import make_deployment
from aihd.chain.mnemonic import WORDS, new_mnemonic, write_mnemonic
from aihd.chain.signer import Signer, SigningError
from aihd.errors import ConfigError, DependencyError, Exit
from aihd.protocol import plans
from aihd.protocol.funding import Funds, Output, Plan
from aihd.protocol.plans import Market
from aihd.protocol.trees import address_of

ME, YOU = signer("node"), signer("client")
TIP = 1000
DEPLOYMENT = make_deployment(network="devnet", bond_token=digest("b"), treasury=YOU.tree, expiry=10**6)
MARKET = Market(DEPLOYMENT, TIP + 1)


def payment(value: int = ERG, fee: int = FEE) -> Plan:
    funds = Funds((coin(ME.tree, 10 * ERG, "purse"),), ME.tree, fee)
    return plans.send(MARKET, (Output(value, YOU.tree),), funds)


def test_sign__when__the_plan_is_sound__then__the_planned_transaction_with_its_proofs() -> None:
    plan = payment()
    tx = sign(ME, DEPLOYMENT, plan, headers(TIP))
    assert str(tx.id) == plan.tx_id
    assert all(len(bytes(tx_input.spending_proof.proof)) == 56 for tx_input in tx.inputs)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (replace(payment(), signer=YOU.public_key), f"it asks for key {YOU.public_key.hex()}, this is {ME.public_key.hex()}"),
        (payment(fee=20_000_001), "fee of 0.020000001 ERG is over the limit of 0.02 ERG"),
        (payment(fee=999_999), "no node would take it: Min fee not met"),
        (payment(value=20_000), "no node would take it: Every output .*minValuePerByte"),
        (replace(payment(), creation_height=TIP + 2), "no node would take it: .*creationHeight not exceeding"),
        (replace(payment(), creation_height=899), "no node would take it: .*[Cc]reation height of any output"),
        (replace(payment(), outputs=payment().outputs[:-1]), "send: "),
        (
            replace(payment(), outputs=(replace(payment().outputs[0], tokens=((digest("t"), 1),)), *payment().outputs[1:])),
            "send: ",
        ),
        (
            replace(payment(), inputs=(*payment().inputs, coin(YOU.tree, ERG, "yours"))),
            "send: a guard refuses it",
        ),
    ],
    ids=["key", "high-fee", "low-fee", "dust", "future", "falling", "unbalanced", "minting", "foreign-input"],
)  # fmt: skip
def test_sign__when__a_rule_is_broken__then__refused_in_one_short_line(plan: Plan, says: str) -> None:
    with pytest.raises(SigningError, match=says) as caught:
        sign(ME, DEPLOYMENT, plan, headers(TIP))
    text = str(caught.value)
    assert text.startswith("send: ")
    assert "\n" not in text and len(text) < 400
    assert caught.value.exit_code is Exit.INVARIANT


def test_sign__when__the_fee_limit_is_reached_exactly__then__signed() -> None:
    assert sign(ME, DEPLOYMENT, payment(fee=20_000_000), headers(TIP))


def test_sign__when__the_headers_have_a_gap__then__not_signed() -> None:
    broken = headers(TIP)
    broken[4] = headers(TIP - 1)[4]
    with pytest.raises(DependencyError):
        sign(ME, DEPLOYMENT, payment(), broken)


def test_sign__when__an_input_holds_a_token_that_goes_nowhere__then__the_plan_shows_it_is_kept() -> None:
    box = coin(ME.tree, 10 * ERG, "with token", ((digest("t"), 7),))
    plan = plans.send(MARKET, (Output(ERG, YOU.tree),), Funds((box,), ME.tree, FEE))
    tx = sign(ME, DEPLOYMENT, plan, headers(TIP))
    assert [(bytes(t.token_id), t.amount) for t in tx.outputs[-1].tokens] == [(digest("t"), 7)]


def test_sign_message__when__checked__then__holds_for_this_key_and_message_only() -> None:
    proof = ME.sign_message(b"aih:receipt:1 message")
    address = Address(address_of(ME.tree))
    assert verify_signature(address, b"aih:receipt:1 message", proof)
    assert not verify_signature(address, b"aih:receipt:1 other", proof)
    assert not verify_signature(Address(address_of(YOU.tree)), b"aih:receipt:1 message", proof)


# ---------------------------------------------------------------- the secret


def secret_file(folder: Path, words: str, mode: int = 0o600) -> Path:
    path = folder / "mnemonic"
    path.write_text(words)
    path.chmod(mode)
    return path


def test_signer__when__shown__then__nothing_of_the_secret(tmp_path: Path) -> None:
    words = new_mnemonic()
    made = Signer.from_file(secret_file(tmp_path, words))
    shown = [repr(made), str(made), f"{made!r:>200}"]
    for call in (
        lambda: sign(made, DEPLOYMENT, replace(payment(), signer=None), headers(TIP)),
        lambda: sign(made, DEPLOYMENT, payment(), headers(TIP)),
        lambda: pickle.dumps(made),
    ):
        with pytest.raises((SigningError, TypeError)) as caught:
            call()
        shown.append("".join(traceback.format_exception(caught.value)))
    text = " ".join(shown).split()
    assert not [word for word in words.split() if word in text and len(word) > 4]
    assert words not in " ".join(text)
    assert repr(made) == f"Signer({made.public_key.hex()})"


def test_new_mnemonic__when__made__then__24_words_and_never_the_same() -> None:
    made = {new_mnemonic() for _ in range(5)}
    assert len(made) == 5
    assert {len(words.split()) for words in made} == {24}


@pytest.mark.parametrize("count", [1, 11, 13, 23, 25])
def test_from_file__when__the_number_of_words_is_wrong__then__the_file_is_named_and_no_word(
    tmp_path: Path, count: int
) -> None:
    path = secret_file(tmp_path, " ".join(["zebra"] * count))
    with pytest.raises(ConfigError) as caught:
        Signer.from_file(path)
    assert str(caught.value) == (
        f"wallet.mnemonic_file = {path} holds {count} words, a mnemonic has 12, 15, 18, 21, 24"
    )


@pytest.mark.parametrize("count", WORDS)
def test_from_file__when__words_are_spread_over_lines__then__the_same_key(tmp_path: Path, count: int) -> None:
    words = phrase("english", count)
    spread = Signer.from_file(secret_file(tmp_path, "\ufeff" + "\r\n  ".join(words.split()) + "\n\n"))
    assert spread.public_key == Signer(words).public_key


def phrase(language: str, count: int = 12) -> str:
    """A mnemonic that is the same in every run."""
    return str(Mnemonic(language).to_mnemonic((digest("entropy", language) * 2)[: count // 3 * 4]))


def test_from_file__when__it_is_the_phrase_of_the_standard__then__the_key_that_every_wallet_of_ergo_has(
    tmp_path: Path,
) -> None:
    # Derivation test vector of the reference wallet: m/44'/429'/0'/0/0 of this phrase without a password.
    words = "race relax argue hair sorry riot there spirit ready fetch food hedgehog hybrid mobile pretty"
    assert (
        address_of(Signer.from_file(secret_file(tmp_path, words)).tree)
        == "9eYMpbGgBf42bCcnB2nG3wQdqPzpCCw5eB1YaWUUen9uCaW3wwm"
    )


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("language", Mnemonic.list_languages())
def test_from_file__when__written_in_any_language_and_form__then__the_same_key(
    tmp_path: Path, language: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"]
) -> None:
    words = phrase(language)
    written = unicodedata.normalize(form, words).replace(" ", "\u3000" if language == "japanese" else " ")
    assert Signer.from_file(secret_file(tmp_path, written)).public_key == Signer(words).public_key


@pytest.mark.parametrize(
    ("place", "typed", "says"),
    [
        (1, "nosuchword", "word 1, 'nosuchword', is none of the english list: see how it is spelt in your copy"),
        (12, "abandom", "word 12, 'abandom', is none of the english list: see"),
        (4, "Abandon", "word 4, 'Abandon', is none of the english list: write it in lower case"),
        (7, "aban\x1b[31mdon", r"word 7, 'aban\\x1b\[31mdon', is none of"),
        (7, "x" * 500, "word 7, 'x{20}', is none of"),
        (2, "\u00e1baco", "word 2, 'a\u0301baco', is none of the english list"),
    ],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_from_file__when__a_word_is_mistyped__then__named_with_its_place_and_no_other(
    tmp_path: Path, place: int, typed: str, says: str, sealed: bool
) -> None:
    words = phrase("english").split()
    words[place - 1] = typed
    path, password = tmp_path / "mnemonic", password_file(tmp_path, "pw") if sealed else None
    write_mnemonic(path, " ".join(words), "pw" if sealed else None)
    with pytest.raises(ConfigError, match=f"^wallet.mnemonic_file = {path}: {says}") as caught:
        Signer.from_file(path, password)
    others = [word for word in words if word != typed]
    assert not [word for word in others if word in str(caught.value).split(": ", 1)[1].split()]


def test_from_file__when__many_words_are_none__then__the_first_and_how_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"word 4, 'four', is none of the english list \(3 more are not, either\)"):
        Signer.from_file(secret_file(tmp_path, "one two three four five six seven eight nine ten eleven twelve"))


@pytest.mark.parametrize("language", ["english", "spanish", "japanese", "russian"])
def test_from_file__when__the_checksum_does_not_fit__then__refused_and_no_word_is_shown(
    tmp_path: Path, language: str
) -> None:
    words = phrase(language).split()
    turned = ([*words[n:], *words[:n]] for n in range(1, 12))
    wrong = next(" ".join(typed) for typed in turned if not Mnemonic(language).check(" ".join(typed)))
    path = secret_file(tmp_path, wrong)
    with pytest.raises(ConfigError) as caught:
        Signer.from_file(path)
    assert str(caught.value) == (
        f"wallet.mnemonic_file = {path} holds words of a mnemonic whose checksum does not fit: "
        "one is another word, or two are exchanged"
    )


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o400])
def test_from_file__when__only_we_and_our_group_read__then__taken(tmp_path: Path, mode: int) -> None:
    assert Signer.from_file(secret_file(tmp_path, new_mnemonic(), mode))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o666])
def test_from_file__when__others_may_read_or_write__then__refused(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, new_mnemonic(), mode)
    with pytest.raises(ConfigError, match=f"has mode {mode:04o}, open to others: chmod 600 {path}"):
        Signer.from_file(path)


def password_file(folder: Path, words: str) -> Path:
    path = folder / f"password {len(words)}"
    path.write_text(words + "\n")
    path.chmod(0o600)
    return path


def test_write_mnemonic__when__a_password_is_given__then__only_it_opens_the_file(tmp_path: Path) -> None:
    words, path = new_mnemonic(), tmp_path / "sealed"
    right, wrong = password_file(tmp_path, "correct horse"), password_file(tmp_path, "wrong")
    write_mnemonic(path, words, "correct horse")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not set(words.split()) & set(path.read_text().split())
    assert Signer.from_file(path, right).public_key == Signer(words).public_key
    with pytest.raises(ConfigError, match=f"{path} does not open with the password in wallet.password_file"):
        Signer.from_file(path, wrong)
    with pytest.raises(ConfigError, match=f"{path} is encrypted: name the file with its password"):
        Signer.from_file(path)


def test_write_mnemonic__when__the_file_is_there__then__left_alone(tmp_path: Path) -> None:
    path = secret_file(tmp_path, "precious")
    with pytest.raises(ConfigError, match=f"{path} cannot be created: File exists"):
        write_mnemonic(path, new_mnemonic(), None)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "change",
    [{"format": "aihd-mnemonic-9"}, {"n": 2}, {"n": 2**40}, {"salt": "zz"}, {"sealed": "00"}, {"nonce": None}],
    ids=str,
)
def test_from_file__when__the_sealed_record_is_not_ours__then__refused_without_its_content(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "sealed"
    write_mnemonic(path, new_mnemonic(), "pw")
    record = json.loads(path.read_text()) | change
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=f"wallet.mnemonic_file = {path} ") as caught:
        Signer.from_file(path, password_file(tmp_path, "pw"))
    assert str(record["salt"]) not in str(caught.value)


def test_from_file__when__a_password_is_set_for_plain_words__then__refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path, new_mnemonic())
    with pytest.raises(ConfigError, match=f"{path} is not encrypted, but wallet.password_file is set"):
        Signer.from_file(path, password_file(tmp_path, "pw"))
