import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.stores.store_keys import StoreKeys

PARTS = st.lists(
    st.sampled_from([":chat", ":unsigned", ":", "chat", "unsigned", "%", "%3A", "%25", "a", "ü"]), max_size=6
)
NAMES = PARTS.map("".join)


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B-Instruct", "org/model:v2", "chat", "a:chatty", ":x:"])
def test_signature_key_has_the_contracts_form(name: str) -> None:
    assert StoreKeys(name).signature("chatcmpl-1") == f"{name}:chat:chatcmpl-1"


def test_signature_keys_of_a_model_name_and_id_with_separators_do_not_collide() -> None:
    assert StoreKeys("org/m").signature("v2:chat:x") != StoreKeys("org/m:chat:v2").signature("x")
    assert StoreKeys("org/m").signature("chat:x") != StoreKeys("org/m:chat").signature("x")
    assert StoreKeys("org/m:chat:v2").signature("x") == "org/m%3Achat%3Av2:chat:x"


@given(NAMES, NAMES, NAMES, NAMES)
def test_store_keys_of_different_exchanges_differ(model: str, chat_id: str, other_model: str, other_id: str) -> None:
    keys, other_keys = StoreKeys(model), StoreKeys(other_model)
    assert keys.signature(chat_id) != other_keys.unsigned(other_id)
    if (model, chat_id) != (other_model, other_id):
        assert keys.signature(chat_id) != other_keys.signature(other_id)
        assert keys.unsigned(chat_id) != other_keys.unsigned(other_id)


@given(NAMES, NAMES)
def test_store_key_first_separator_ends_the_model_name(model: str, chat_id: str) -> None:
    found = re.match(r"(.*?):(chat|unsigned):(.*)", StoreKeys(model).signature(chat_id), re.DOTALL)
    assert found
    assert found[3] == chat_id
