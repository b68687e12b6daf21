"""What the stand-in model answers to `POST /v1/audio/transcriptions`: a text that names size and hash of the file."""

from collections.abc import Iterator

from scripts.fake_vllm.errors import BadRequestError, JsonObject
from scripts.fake_vllm.form import Form
from scripts.fake_vllm.streams import Answer


class Transcription(Answer):
    """The transcription of an upload."""

    limits = ()

    def __init__(self, model: str, form: Form) -> None:
        """Make an answer.

        Raises:
            BadRequestError: There is not one file in the form.
        """
        if len(form.files) != 1:
            raise BadRequestError("file: one file is required")
        self._transcript = str(form.files[0])
        super().__init__(model, None, dict(form.fields), None)

    def prompt(self) -> str:
        return self._transcript

    def whole(self) -> JsonObject:
        return {"text": self.text, "usage": {"type": "duration", "seconds": 1}}

    def events(self) -> Iterator[JsonObject]:
        for token in self.tokens:
            yield {"type": "transcript.text.delta", "delta": token}
        count = len(self.tokens)
        usage = {"type": "tokens", "input_tokens": 1, "output_tokens": count, "total_tokens": count + 1}
        yield {"type": "transcript.text.done", "text": self.text, "usage": usage}
