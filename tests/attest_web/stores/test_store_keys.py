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
def test_the_form_of_the_keys_is_that_of_the_contract(name: str) -> None:
    assert StoreKeys(name).signature("chatcmpl-1") == f"{name}:chat:chatcmpl-1"


def test_an_id_does_not_reach_into_a_model_whose_name_goes_on_where_the_others_ends() -> None:
    assert StoreKeys("org/m").signature("v2:chat:x") != StoreKeys("org/m:chat:v2").signature("x")
    assert StoreKeys("org/m").signature("chat:x") != StoreKeys("org/m:chat").signature("x")
    assert StoreKeys("org/m:chat:v2").signature("x") == "org/m%3Achat%3Av2:chat:x"


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_exchanges_share_a_key(model: str, chat_id: str, other_model: str, other_id: str) -> None:
    keys, other_keys = StoreKeys(model), StoreKeys(other_model)
    assert keys.signature(chat_id) != other_keys.unsigned(other_id)
    if (model, chat_id) != (other_model, other_id):
        assert keys.signature(chat_id) != other_keys.signature(other_id)
        assert keys.unsigned(chat_id) != other_keys.unsigned(other_id)


@given(NAMES, NAMES)
def test_the_first_separator_ends_the_models_name(model: str, chat_id: str) -> None:
    found = re.match(r"(.*?):(chat|unsigned):(.*)", StoreKeys(model).signature(chat_id), re.DOTALL)
    assert found
    assert found[3] == chat_id
