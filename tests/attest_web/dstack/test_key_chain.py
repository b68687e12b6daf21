"""Signature chains against those of dstack's own agent, of agents of old, and of nobody."""

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.dstack.guest_agent import Dstack
from attest_web.dstack.key_chain import KeyChains, app_key, checked_chains
from attest_web.keys import SigningKeys
from tests.attest_web.guest_agent import agent, as_dstack_answers

PURPOSE = "signing"


class Answers:
    """GetKey's answers of dstack's own agent."""

    def __init__(self, dstack_vectors: dict[str, Any]) -> None:
        found = {
            (answer["request"]["path"], answer["request"].get("algorithm")): answer["answer"]
            for answer in dstack_vectors["real_agent"]["keys"]["answers"]
            if answer["request"].get("purpose") == PURPOSE
        }
        self.ecdsa = found["m/ecdsa-signing-key", None]
        self.ed25519 = found["m/ed25519-signing-key", "ed25519"]
        self.ed25519_of_old = found["m/ed25519-signing-key", None]
        self.keys = SigningKeys.from_secrets(bytes.fromhex(self.ecdsa["key"]), bytes.fromhex(self.ed25519["key"]))


@pytest.fixture
def answers(dstack_vectors: dict[str, Any]) -> Answers:
    return Answers(dstack_vectors)


def chain_of(answer: dict[str, Any]) -> tuple[str, str]:
    app_signature, root_signature = answer["signature_chain"]
    return app_signature, root_signature


@pytest.mark.parametrize("algo", ["secp256k1", "ed25519"])
def test_key_chain_recovers_the_app_key(dstack_vectors: dict[str, Any], algo: str) -> None:
    vector = dstack_vectors["signature_chain"]
    chain = vector[algo]["signature0"], vector["signature1"]
    found = app_key(chain, vector[algo]["purpose"], bytes.fromhex(vector[algo]["public_key"]))
    assert found.hex() == vector["app_public_key"]
    assert app_key(chain, "other", bytes.fromhex(vector[algo]["public_key"])) != found


def test_key_chains_of_one_app_key_are_both_kept(answers: Answers) -> None:
    ecdsa, ed25519 = chain_of(answers.ecdsa), chain_of(answers.ed25519)
    assert checked_chains(answers.keys, PURPOSE, list(ecdsa), list(ed25519)) == KeyChains(ecdsa, ed25519)


def test_key_chain_without_a_kms_signature_is_kept(answers: Answers) -> None:
    ecdsa, ed25519 = [[*chain_of(answer)[:1], ""] for answer in (answers.ecdsa, answers.ed25519)]
    chains = checked_chains(answers.keys, PURPOSE, ecdsa, ed25519)
    assert (chains.ecdsa, chains.ed25519) == (tuple(ecdsa), tuple(ed25519))


def test_the_ed25519_chain_of_an_old_agent_is_left_out(answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    """It is over the secp256k1 public key that the same 32 bytes make."""
    ecdsa = chain_of(answers.ecdsa)
    chains = checked_chains(answers.keys, PURPOSE, list(ecdsa), list(chain_of(answers.ed25519_of_old)))
    assert chains == KeyChains(ecdsa)
    assert "ed25519" in caplog.text


def test_the_ed25519_chain_of_another_app_is_left_out(answers: Answers, dstack_vectors: dict[str, Any]) -> None:
    other = dstack_vectors["signature_chain"]
    chain = [other["ed25519"]["signature0"], other["signature1"]]
    assert checked_chains(answers.keys, PURPOSE, list(chain_of(answers.ecdsa)), chain).ed25519 is None


def test_ed25519_key_chain_without_the_ecdsa_one_is_left_out(answers: Answers) -> None:
    assert checked_chains(answers.keys, PURPOSE, [], list(chain_of(answers.ed25519))) == KeyChains()


@pytest.mark.parametrize(
    "chain",
    [[], ["00"], ["", ""], ["zz", ""], ["00" * 65, "00" * 65], ["00" * 64, ""], ["ff" * 65, ""], ["00" * 65] * 3],
)
def test_malformed_key_chain_is_left_out(answers: Answers, chain: list[str]) -> None:
    ecdsa = chain_of(answers.ecdsa)
    assert checked_chains(answers.keys, PURPOSE, chain, None) == KeyChains()
    assert checked_chains(answers.keys, PURPOSE, list(ecdsa), chain) == KeyChains(ecdsa)


@given(signature=st.binary(max_size=70))
def test_app_key_of_any_bytes_is_a_key_or_value_error(signature: bytes) -> None:
    try:
        found = app_key((signature.hex(), ""), PURPOSE, b"k" * 32)
    except ValueError:
        return
    assert (len(signature), len(found)) == (65, 33)


@pytest.mark.parametrize("version", ["0.6", "0.5.5"])
def test_signing_keys_of_old_and_new_agents_are_equal(
    tmp_path: Path, dstack_vectors: dict[str, Any], answers: Answers, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "dstack.sock"
    instead = {"Version": None} if version == "0.5.5" else {}
    with caplog.at_level(logging.DEBUG), agent(path, as_dstack_answers(dstack_vectors, **instead)) as asked:
        of_app = Dstack(str(path)).signing_keys("m")
    assert of_app.keys.ecdsa_address == answers.keys.ecdsa_address
    assert of_app.keys.ed25519_address == answers.keys.ed25519_address
    expected = chain_of(answers.ed25519) if version == "0.6" else None
    assert of_app.chains == KeyChains(chain_of(answers.ecdsa), expected)
    [algorithm] = [body["algorithm"] for _, body in asked if body.get("path") == "m/ed25519-signing-key"]
    assert algorithm == ("ed25519" if version == "0.6" else "secp256k1")
    for secret in (answers.ecdsa["key"], answers.ed25519["key"]):
        assert secret not in caplog.text + repr(of_app)


def test_a_chain_of_the_old_form_is_dropped_where_the_agent_reports_a_new_version(
    tmp_path: Path, dstack_vectors: dict[str, Any], answers: Answers
) -> None:
    path = tmp_path / "dstack.sock"
    new = as_dstack_answers(dstack_vectors)
    with agent(path, lambda name, body: new(name, body | {"algorithm": "secp256k1"})):
        of_app = Dstack(str(path)).signing_keys("m")
    assert of_app.chains == KeyChains(chain_of(answers.ecdsa))


def test_key_chain_with_signatures_other_than_130_hex_digits_is_left_out(
    answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    app, root = chain_of(answers.ecdsa)
    spaced = f"{app[:64]} {app[64:]}"
    for chain in (
        [app, root[:-2]],
        [app, root + "00"],
        [app, "0x" + root],
        [app, " " + root],
        [app, " "],
        [app, root[:-1] + "g"],
        [app, root[:-2] + "\uff11\uff11"],
        [app, root + "\n"],
        [app + " ", root],
        [spaced, root],
    ):
        caplog.clear()
        assert checked_chains(answers.keys, PURPOSE, chain, None) == KeyChains()
        assert "dstack's for the ecdsa key is unusable: it is not two signatures of 65 bytes in hex" in caplog.text
    assert checked_chains(answers.keys, PURPOSE, [app.upper(), root.upper()], None).ecdsa == (app.upper(), root.upper())
