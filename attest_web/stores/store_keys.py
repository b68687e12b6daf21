"""The keys of a store: `{MODEL_NAME}:chat:{id}` and `{MODEL_NAME}:unsigned:{id}`."""

import re

_NOT_AS_IT_IS = re.compile(r":(?:chat|unsigned)(?::|$)|%")


class StoreKeys:
    """The keys of one model.

    Models that share a store never share a key, whatever ids a client chooses. A model's name usually may contain a
    `:`, as the first `:chat:` or `:unsigned:` ends the name. A name that contains one of these, or ends with the first
    half of one (`llama2:chat`), is written with `%3A` for each `:` and `%25` for each `%`. So is a name with a `%`,
    which could otherwise equal such an escaped name.
    """

    def __init__(self, model_name: str) -> None:
        name = model_name
        if _NOT_AS_IT_IS.search(name):
            name = name.replace("%", "%25").replace(":", "%3A")
        self._signature = f"{name}:chat:"
        self._unsigned = f"{name}:unsigned:"

    def signature(self, chat_id: str) -> str:
        """The key of a signature, by the response id or the receipt id."""
        return self._signature + chat_id

    def unsigned(self, chat_id: str) -> str:
        """The key of the reason why an exchange is not signed. It differs from every key of a signature."""
        return self._unsigned + chat_id
