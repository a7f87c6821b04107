"""What hob says and what it sends, against the types of the official packages.

Received by clients: openai's response types, in pydantic's strict mode, with no member beyond those
that are documented as ours.  Sent upstream: the request types of openai, anthropic and ollama.
The checkers are tested first: they must refuse what is wrong.
"""

import base64
import json

import pytest
from pydantic import BaseModel, ValidationError

openai_chat = pytest.importorskip("openai.types.chat", reason="the package openai is not installed")
from openai.types import Completion, Model  # noqa: E402
from openai.types.chat import ChatCompletion, ChatCompletionChunk  # noqa: E402
from openai.types.chat import completion_create_params as chat_params  # noqa: E402
from openai.types import completion_create_params as raw_params  # noqa: E402
from openai.types.shared import ErrorObject  # noqa: E402

from chaos_upstream import TEXT, ChaosUpstream  # noqa: E402
from conftest import MODEL_NAME, PARIS  # noqa: E402
from strict_client import ask, terminal  # noqa: E402
from typed import problems  # noqa: E402

STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])

# Members of ours: the type's name and what it may have beyond the official ones.
OURS = {
    "ChatCompletion": {"hob"}, "ChatCompletionChunk": {"hob"}, "Completion": {"hob"}, "Model": {"hob"},
    "CompletionUsage": {"cost"},
    "ChatCompletionMessage": {"reasoning", "reasoning_content"}, "ChoiceDelta": {"reasoning", "reasoning_content"},
}
# Where the types are laxer than OpenAI's own description of the API: there all of these always come.
ALWAYS = {
    "ChatCompletion": {"id", "object", "created", "model", "choices", "usage"},
    "ChatCompletionChunk": {"id", "object", "created", "model", "choices"},
    "Completion": {"id", "object", "created", "model", "choices"},
    "ChatCompletionMessage": {"role", "content", "refusal"},
}


# ---- the checkers


def walk(value):
    """All models in a model."""
    if isinstance(value, BaseModel):
        yield value
        for name in list(type(value).model_fields) + list(value.model_extra or {}):
            yield from walk(getattr(value, name))
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from walk(v)


def check_received(cls, body):
    """The validated model; AssertionError or ValidationError when the body is not one."""
    model = cls.model_validate_json(json.dumps(body), strict=True)
    for part in walk(model):
        name = type(part).__name__
        beyond = set(part.model_extra or {}) - OURS.get(name, set())
        assert not beyond, f"{name} has {beyond}"
        missing = ALWAYS.get(name, set()) - part.model_fields_set
        assert not missing, f"{name} lacks {missing}"
    return model


def check_raw_chunk(body):
    """The official type has no null as a finish reason, the official server sends it until the last chunk."""
    choices = [{**c, "finish_reason": c["finish_reason"] or "stop"} for c in body["choices"]]
    return check_received(Completion, {**body, "choices": choices})


def check_error(body):
    assert set(body) == {"error"}, body
    error = ErrorObject.model_validate_json(json.dumps(body["error"]), strict=True)
    assert not error.model_extra and error.message and error.type
    return error


def check_sent(params, body):
    found = problems(body, params)
    assert not found, found


def test_the_checkers_refuse_what_is_wrong():
    good = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"content": "x", "reasoning": "y"}, "finish_reason": None}]}
    check_received(ChatCompletionChunk, good)
    choice = good["choices"][0]
    for bad in ({**good, "created": "1"}, {**good, "extra": 1}, {**good, "object": "chunk"},
                {k: v for k, v in good.items() if k != "id"}, {**good, "choices": [{**choice, "finish_reason": "eos"}]},
                {**good, "choices": [{**choice, "delta": {"thoughts": "x"}}]}):
        with pytest.raises((ValidationError, AssertionError)):
            check_received(ChatCompletionChunk, bad)
    ask = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    check_sent(chat_params.CompletionCreateParams, ask)
    for bad in ({**ask, "top_k": 3}, {**ask, "messages": [{"role": "user"}]}, {**ask, "max_tokens": "9"},
                {**ask, "messages": [{"role": "robot", "content": "x"}]},
                {**ask, "messages": [{"role": "user", "content": "x", "text": "x"}]}):
        with pytest.raises(AssertionError):
            check_sent(chat_params.CompletionCreateParams, bad)


# ---- what clients get


@pytest.fixture(scope="module")
def up():
    with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture
def remote(make_daemon, up):
    config = (f'provider "fake" {{ kind = "openai" url = "{up.url}"\n'
              "  connect_timeout = 1 first_byte_timeout = 1 idle_timeout = 1 }\n")
    return make_daemon(config, model=False)


def check_reply(reply, whole, chunk):
    if not reply.is_stream:
        return check_error(reply.json) if reply.status != 200 else check_received(whole, reply.json)
    events = [e for e in reply.events() if e != "[DONE]"]
    models = [check_raw_chunk(e) if chunk is Completion else check_received(chunk, e)
              for e in events if "error" not in e]
    for e in events:
        if "error" in e:
            check_error(e)
    assert len({(m.id, m.created, m.model) for m in models}) <= 1  # the same in all chunks
    return models


MODES = ["ok", "reasoning", "tools", "length", "filtered", "strange-finish", "no-finish", "half-char-end", "error-mid",
         "rst-mid", "status:400", "status:401", "status:429:7", "status:500", "hang-before-head", "error-no-choices"]


@STREAM
@pytest.mark.parametrize("usage", [True, False], ids=["usage", "plain"])
@pytest.mark.parametrize("mode", MODES)
def test_every_chat_answer_of_a_remote_model_is_openais(remote, mode, usage, stream):
    more = {"stream_options": {"include_usage": True}} if usage and stream else {}
    reply = ask(remote, {"model": "fake/" + mode, "messages": PARIS, "stream": stream, **more})
    check_reply(reply, ChatCompletion, ChatCompletionChunk)
    if stream and terminal(reply).finish:
        events = [e for e in reply.events() if e != "[DONE]"]
        assert events[0]["choices"][0]["delta"]["role"] == "assistant"
        if usage:  # only the last has it, and no choices; the others say null
            assert events[-1]["choices"] == [] and events[-1]["usage"]["total_tokens"] >= 0
            assert all("usage" in e and e["usage"] is None for e in events[:-1])
        else:
            assert all("usage" not in e and e["choices"] for e in events)


@STREAM
def test_tool_calls_have_ids_and_indexes(remote, stream):
    reply = ask(remote, {"model": "fake/tools", "messages": PARIS, "stream": stream})
    if not stream:
        assert [c["id"] for c in reply.json["choices"][0]["message"]["tool_calls"]] == ["call_1"]
        assert reply.json["choices"][0]["message"]["content"] is None
        return
    calls = [t for e in reply.events()[:-1] for c in e["choices"] for t in c["delta"].get("tool_calls") or []]
    assert calls[0]["id"] == "call_1" and calls[0]["type"] == "function" and calls[0]["function"]["name"] == "weather"
    assert all(t["index"] == 0 for t in calls)
    assert json.loads("".join(t["function"].get("arguments", "") for t in calls)) == {"city": "Paris"}


@STREAM
@pytest.mark.parametrize("mode", ["ok", "length", "rst-mid", "status:500"])
def test_every_raw_completion_of_a_remote_model_is_openais(remote, mode, stream):
    reply = ask(remote, {"model": "fake/" + mode, "prompt": "x", "stream": stream}, path="/v1/completions")
    check_reply(reply, Completion, Completion)


@STREAM
@pytest.mark.parametrize("more", [{}, {"max_tokens": 3}, {"stop": ["Paris"]}, {"temperature": 9}, {"model": "nobody"},
                                  {"stream_options": {"include_usage": True}}, {"messages": []}], ids=str)
def test_every_chat_answer_of_a_local_model_is_openais(daemon, more, stream):
    if not stream and "stream_options" in more:
        pytest.skip("an option of streams")
    body = {"model": MODEL_NAME, "messages": PARIS, "max_tokens": 20, "temperature": 0, "stream": stream, **more}
    reply = ask(daemon, body)
    check_reply(reply, ChatCompletion, ChatCompletionChunk)


@STREAM
def test_every_raw_completion_of_a_local_model_is_openais(daemon, stream):
    reply = ask(daemon, {"model": MODEL_NAME, "prompt": "The capital of France is", "max_tokens": 5, "stream": stream},
                path="/v1/completions")
    check_reply(reply, Completion, Completion)


def test_the_list_of_models_is_openais(daemon):
    body = daemon.request("GET", "/v1/models")[2]
    assert set(body) == {"object", "data"} and body["object"] == "list"
    names = [check_received(Model, m).id for m in body["data"]]
    assert MODEL_NAME in names
    check_received(Model, daemon.request("GET", "/v1/models/" + MODEL_NAME)[2])
    check_error(daemon.request("GET", "/v1/models/nobody")[2])


@pytest.mark.parametrize("method, path, body", [("GET", "/v1/nowhere", None), ("DELETE", "/v1/models", None),
                                                ("POST", "/v1/chat/completions", "{"),
                                                ("POST", "/v1/chat/completions", "[]")])
def test_errors_of_the_door_are_openais(daemon, method, path, body):
    status, _, reply = daemon.request(method, path, body, {"Content-Type": "application/json"})
    assert status >= 400
    check_error(reply)


# ---- what upstreams get


TOOL = {"type": "function", "function": {"name": "weather", "description": "Of a city",
                                         "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
PIXEL = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5"
         "ErkJggg==")
REQUESTS = {
    "plain": {"messages": PARIS},
    "sampling": {"messages": PARIS, "temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "stop": ["END", "FIN"]},
    "max_completion_tokens": {"messages": PARIS, "max_completion_tokens": 9},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, *PARIS]},
    "developer": {"messages": [{"role": "developer", "content": "Be brief."}, *PARIS]},
    "turns": {"messages": [*PARIS, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "Sure?"}]},
    "echoed": {"messages": [*PARIS, {"role": "assistant", "content": "Paris.", "reasoning_content": "hmm", "reasoning": "hmm",
                                     "refusal": None, "tool_calls": []}, {"role": "user", "content": "Sure?"}]},
    "tools": {"messages": PARIS, "tools": [TOOL], "tool_choice": "auto"},
    "tool-result": {"tools": [TOOL], "messages": [
        *PARIS, {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]},
    "image": {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"},
                                                        {"type": "image_url", "image_url": {"url": PIXEL}}]}]},
    "schema": {"messages": PARIS, "response_format": {"type": "json_schema", "json_schema": {
        "name": "city", "strict": True, "schema": {"type": "object", "properties": {"city": {"type": "string"}},
                                                   "required": ["city"], "additionalProperties": False}}}},
    "effort": {"messages": PARIS, "reasoning_effort": "low"},
    "private-fields": {"messages": PARIS, "keep_alive": "5m", "conversation": "new"},
}


@pytest.fixture
def upstream_of(make_daemon, up):
    """upstream_of(kind) → (daemon, function that gives the last body sent)."""

    def make(kind):
        url = up.url if kind == "openai" else up.origin
        d = make_daemon(f'provider "fake" {{ kind = "{kind}" url = "{url}" key_env = "K" }}\n', {"K": "sk-x"}, model=False)
        return d, lambda: up.calls()[-1]

    return make


def ask_upstream(d, body, stream):
    reply = ask(d, {"model": "fake/ok", "stream": stream, **body})
    assert terminal(reply).text == TEXT, reply.body


@STREAM
@pytest.mark.parametrize("name", REQUESTS)
def test_what_an_openai_upstream_gets_is_openais(upstream_of, name, stream):
    d, last = upstream_of("openai")
    ask_upstream(d, REQUESTS[name], stream)
    call = last()
    assert call.path == "/v1/chat/completions" and call.headers["content-type"] == "application/json"
    check_sent(chat_params.CompletionCreateParams, call.body)


@STREAM
def test_what_an_openai_upstream_gets_of_a_raw_prompt_is_openais(upstream_of, stream):
    d, last = upstream_of("openai")
    reply = ask(d, {"model": "fake/ok", "prompt": "x", "max_tokens": 3, "stream": stream}, path="/v1/completions")
    assert terminal(reply).text == TEXT
    check_sent(raw_params.CompletionCreateParams, last().body)


@STREAM
@pytest.mark.parametrize("name", REQUESTS)
def test_what_anthropic_gets_is_anthropics(upstream_of, name, stream):
    anthropic = pytest.importorskip("anthropic", reason="the package anthropic is not installed")
    params = anthropic.types.message_create_params
    d, last = upstream_of("anthropic")
    ask_upstream(d, REQUESTS[name], stream)
    call = last()
    assert call.path == "/v1/messages" and call.headers["content-type"] == "application/json"
    assert call.headers["x-api-key"] == "sk-x"
    # The version whose types these are: from 2026-10-21 on there is no temperature any more.
    assert call.headers["anthropic-version"] == anthropic.Anthropic(api_key="x").default_headers["anthropic-version"]
    check_sent(params.MessageCreateParams, call.body)
    roles = [m["role"] for m in call.body["messages"]]
    assert set(roles) <= {"user", "assistant"} and roles[0] == "user"
    assert call.body["max_tokens"] > 0
    if name in ("system", "developer"):
        assert "Be brief." in json.dumps(call.body["system"])
    if name == "tool-result":
        result = call.body["messages"][-1]["content"][0]
        assert (result["type"], result["tool_use_id"]) == ("tool_result", "call_1")
    if name == "image":
        assert any(part["type"] == "image" for part in call.body["messages"][0]["content"])


def ignored(sent, model):
    """Members of a body that a model did not take: these types ignore what they do not know."""
    if isinstance(sent, dict) and isinstance(model, dict):
        for k, v in sent.items():
            if k not in model:
                yield k
            else:
                yield from ignored(v, model[k])
    elif isinstance(sent, list):
        for a, b in zip(sent, model):
            yield from ignored(a, b)


def check_ollama(ollama, body):
    """Its request type takes any mapping for a message, a tool and the options: those are looked at by themselves."""
    for message in body["messages"]:  # its own client turns an Image into this text last of all
        for image in message.get("images") or []:
            assert base64.b64decode(image, validate=True)
    messages = [{k: v for k, v in m.items() if k != "images"} for m in body["messages"]]
    parts = [(ollama.ChatRequest, {k: v for k, v in body.items() if k not in ("messages", "tools", "options")}),
             (ollama.Options, body.get("options") or {}),
             *((ollama.Message, m) for m in messages), *((ollama.Tool, t) for t in body.get("tools") or [])]
    for cls, part in parts:
        unknown = list(ignored(part, cls.model_validate(part).model_dump(exclude_unset=True, by_alias=True)))
        assert not unknown, f"{cls.__name__} has no {unknown}"


@STREAM
@pytest.mark.parametrize("name", REQUESTS)
def test_what_ollama_gets_is_ollamas(upstream_of, name, stream):
    ollama = pytest.importorskip("ollama._types", reason="the package ollama is not installed")
    with pytest.raises((ValidationError, AssertionError)):  # the checker works
        check_ollama(ollama, {"model": "m", "messages": [{"role": "user", "content": "x", "contents": "x"}]})
    d, last = upstream_of("ollama")
    ask_upstream(d, REQUESTS[name], stream)
    body = last().body
    assert last().path == "/api/chat"
    check_ollama(ollama, body)
    if name == "tool-result":  # an object there, and the result has the tool's name in place of an id
        assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"city": "Paris"}
        assert body["messages"][2]["tool_name"] == "weather"
    if name == "sampling":
        assert body["options"]["num_predict"] == 9 and body["options"]["stop"] == ["END", "FIN"]
    if name == "image":
        assert body["messages"][0]["images"] and body["messages"][0]["content"] == "What is this?"
    if name == "schema":
        assert body["format"]["type"] == "object"
