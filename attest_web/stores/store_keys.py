"""The keys that a store keeps exchanges under: `{MODEL_NAME}:chat:{id}` and `{MODEL_NAME}:unsigned:{id}`."""

import re

_NOT_AS_IT_IS = re.compile(r":(?:chat|unsigned)(?::|$)|%")


class StoreKeys:
    """The keys of one model.

    Models that share a store never share a key, whatever ids a client chooses. Where a model's name has a `:` is in
    general no matter: what ends the name is the first `:chat:` or `:unsigned:`. A name with one of these in it, or with
    the first half of one at its end (`llama2:chat`), is written with `%3A` for each `:` and `%25` for each `%`; and so
    is a name that has a `%`, which could otherwise be taken for such a name.
    """

    def __init__(self, model_name: str) -> None:
        name = model_name
        if _NOT_AS_IT_IS.search(name):
            name = name.replace("%", "%25").replace(":", "%3A")
        self._signature = f"{name}:chat:"
        self._unsigned = f"{name}:unsigned:"

    def signature(self, chat_id: str) -> str:
        """Where the signature of an exchange is, by its response id or its receipt id."""
        return self._signature + chat_id

    def unsigned(self, chat_id: str) -> str:
        """Where it says why an exchange has no signature. No signature can be in its way, nor it in a signature's."""
        return self._unsigned + chat_id
