"""The chaos upstream, where it behaves, is understood by the official clients: what it breaks is the real thing."""

import pytest

from chaos_upstream import TEXT, ChaosUpstream
from conftest import ASK


@pytest.fixture(scope="module")
def up():
    with ChaosUpstream() as upstream:
        yield upstream


def test_openais_client_understands_it(up):
    openai = pytest.importorskip("openai", reason="the package openai is not installed")
    client = openai.OpenAI(base_url=up.url, api_key="x", max_retries=0)
    whole = client.chat.completions.create(model="ok", messages=ASK)
    assert whole.choices[0].message.content == TEXT and whole.usage.prompt_tokens == 11
    chunks = list(client.chat.completions.create(model="ok", messages=ASK, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    raw = client.completions.create(model="ok", prompt="x")
    assert raw.choices[0].text == TEXT
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="status:429", messages=ASK)
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="error-mid", messages=ASK, stream=True))


def test_anthropics_client_understands_it(up):
    anthropic = pytest.importorskip("anthropic", reason="the package anthropic is not installed")
    client = anthropic.Anthropic(base_url=up.origin, api_key="x", max_retries=0)
    more = {"max_tokens": 100, "messages": ASK}
    assert client.messages.create(model="ok", **more).content[0].text == TEXT
    with client.messages.stream(model="ok", **more) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().stop_reason == "end_turn"
        assert stream.get_final_message().usage.output_tokens == 6
    with client.messages.stream(model="tools", **more) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use" and message.content[-1].input == {"city": "Paris"}
    with client.messages.stream(model="reasoning", **more) as stream:
        thought, text = stream.get_final_message().content
    assert (thought.thinking, text.text) == ("hmm yes", TEXT)
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(model="status:429", **more)
    with pytest.raises(anthropic.APIStatusError), client.messages.stream(model="error-mid", **more) as stream:
        stream.get_final_message()


def test_ollamas_client_understands_it(up):
    ollama = pytest.importorskip("ollama", reason="the package ollama is not installed")
    client = ollama.Client(host=up.origin)
    assert client.chat(model="ok", messages=ASK, stream=False).message.content == TEXT
    parts = list(client.chat(model="ok", messages=ASK, stream=True))
    assert "".join(p.message.content for p in parts) == TEXT and parts[-1].done_reason == "stop"
    calls = [c for p in client.chat(model="tools", messages=ASK, stream=True) for c in p.message.tool_calls or []]
    assert calls[0].function.arguments == {"city": "Paris"}
    with pytest.raises(ollama.ResponseError):
        client.chat(model="status:404", messages=ASK)
    with pytest.raises(ollama.ResponseError):
        list(client.chat(model="error-mid", messages=ASK, stream=True))
