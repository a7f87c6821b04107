"""OpenAI's Responses API: every event and object by the official client's own types."""

import openai
import pytest

import responses_client as rc
from conftest import MODEL_NAME
from fake_upstream import USAGE, WORDS

TEXT = "".join(WORDS)
PARIS = "What is the capital of France? Answer in one sentence."


@pytest.fixture
def far(make_daemon, up):
    return make_daemon(f'provider "fake" {{ kind = "openai" url = "{up.url}"\n'
                       "  connect_timeout = 2 first_byte_timeout = 2 idle_timeout = 2 }\n", model=False)


def client_of(daemon, **more):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="unused", max_retries=0, **more)


# -- streams and whole replies


def test_a_text_streams_in_the_order_the_client_expects(far):
    s = rc.stream(far, model="fake/ok", input="hi", store=False)
    assert s.text == TEXT == s.response.output_text
    assert [n for n in s.names if n != "response.output_text.delta"] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert s.names.count("response.output_text.delta") == len(WORDS)
    u = s.response.usage
    assert (u.input_tokens, u.output_tokens) == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    assert u.input_tokens_details.cached_tokens == 4
    assert s.response.model == "fake/ok"
    assert s.response.id.startswith("resp_") and s.reply.headers["x-request-id"] == s.response.id


def test_a_whole_reply_is_what_the_stream_ends_with(far):
    whole = rc.create(far, model="fake/ok", input="hi", store=False)
    last = rc.stream(far, model="fake/ok", input="hi", store=False).response
    assert whole.output_text == TEXT
    assert (whole.status, whole.usage) == (last.status, last.usage)
    assert [i.content for i in whole.output] == [i.content for i in last.output]


def test_reasoning_is_an_item_before_the_message(far):
    s = rc.stream(far, model="fake/reasoning", input="hi", store=False)
    assert [i.type for i in s.response.output] == ["reasoning", "message"]
    assert s.response.output[0].content[0].text == "hmm yes"
    assert s.names.count("response.reasoning_text.done") == 1
    assert s.names.index("response.reasoning_text.done") < s.names.index("response.output_text.delta")
    assert [i.type for i in rc.create(far, model="fake/reasoning", input="hi", store=False).output] == [
        "reasoning", "message"]


def test_a_call_of_a_function_is_an_item(far, up):
    tools = [{"type": "function", "name": "weather", "strict": True, "description": "d",
              "parameters": {"type": "object", "properties": {"city": {"type": "integer"}}}}]
    s = rc.stream(far, model="fake/tools", input="hi", tools=tools, store=False)
    [call] = s.response.output
    assert (call.type, call.name, call.call_id, call.arguments) == ("function_call", "weather", "c1", '{"city":1}')
    assert s.response.tools[0].name == "weather"
    assert up.seen[-1]["body"]["tools"] == [{"type": "function", "function": {
        "name": "weather", "description": "d", "strict": True, "parameters": tools[0]["parameters"]}}]
    assert rc.create(far, model="fake/tools", input="hi", tools=tools, store=False).output[0].name == "weather"


def test_a_length_makes_it_incomplete(far):
    for r in (rc.stream(far, model="fake/length", input="hi", store=False).response,
              rc.create(far, model="fake/length", input="hi", store=False)):
        assert (r.status, r.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert r.output_text == "".join(WORDS[:2])
        assert r.output[0].status == "incomplete"


def test_a_failure_in_the_middle_ends_the_stream_as_failed(far):
    s = rc.stream(far, model="fake/mid-error", input="hi", store=False)
    assert s.names[-2:] == ["error", "response.failed"]
    assert s.response.error.message == s.error.message and s.error.code == "unavailable"
    assert s.response.output_text == "".join(WORDS[:3])
    assert s.response.output[0].status == "incomplete"


@pytest.mark.parametrize("mode, status", [("404", 404), ("402", 402), ("400", 400), ("500", 503)])
def test_a_failure_before_the_first_text_has_its_own_status(far, mode, status):
    rc.error(far, status, model="fake/" + mode, input="hi", stream=True)
    rc.error(far, status, model="fake/" + mode, input="hi")


def test_the_official_client_streams_and_parses(far):
    client = client_of(far)
    with client.responses.stream(model="fake/ok", input="hi", store=False) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == TEXT
    assert client.responses.create(model="fake/ok", input="hi", store=False).output_text == TEXT
    names = [e.type for e in client.responses.create(model="fake/ok", input="hi", store=False, stream=True)]
    assert names[0] == "response.created" and names[-1] == "response.completed"


def test_the_real_model_answers(daemon):
    s = rc.stream(daemon, model=MODEL_NAME, input=PARIS, temperature=0, max_output_tokens=40, store=False)
    assert "Paris" in s.text
    whole = rc.create(daemon, model=MODEL_NAME, input=PARIS, temperature=0, max_output_tokens=40, store=False)
    assert whole.output_text == s.text
    cut = rc.create(daemon, model=MODEL_NAME, input=PARIS, temperature=0, max_output_tokens=2, store=False)
    assert cut.status == "incomplete" and cut.usage.output_tokens == 2


# -- what a request says


def test_items_become_messages_of_the_chat_dialect(far, up):
    url = "data:image/png;base64,AAAA"
    rc.create(far, model="fake/ok", store=False, instructions="Be brief.", input=[
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "input_text", "text": "look"},
                                     {"type": "input_image", "image_url": url, "detail": "low"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "content": [{"type": "output_text", "text": "I call", "annotations": []}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{\"x\":1}"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
        {"role": "user", "content": "go on"}])

    def call(call_id, name, arguments):
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    assert up.seen[-1]["body"]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "d"},
        {"role": "user", "content": [{"type": "text", "text": "look"},
                                     {"type": "image_url", "image_url": {"url": url, "detail": "low"}}]},
        {"role": "assistant", "content": "I call",
         "tool_calls": [call("a", "f", "{}"), call("b", "g", "{\"x\":1}")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "user", "content": "go on"}]


def test_fields_reach_the_model_under_their_chat_names(far, up):
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    r = rc.create(far, model="fake/ok", input="hi", store=False, temperature=0.5, top_p=0.25, max_output_tokens=9,
                  reasoning={"effort": "low", "summary": "auto"}, user="u", safety_identifier="s",
                  prompt_cache_key="k", metadata={"a": "b"}, truncation="auto", parallel_tool_calls=False,
                  tools=[{"type": "function", "name": n, "parameters": schema} for n in "fg"],
                  tool_choice={"type": "function", "name": "f"}, include=["reasoning.encrypted_content"],
                  text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True},
                        "verbosity": "low"}, something_new={"x": 1})
    body = up.seen[-1]["body"]
    assert (body["temperature"], body["top_p"], body["reasoning_effort"]) == (0.5, 0.25, "low")
    assert body.get("max_tokens", body.get("max_completion_tokens")) == 9
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert body["parallel_tool_calls"] is False and len(body["tools"]) == 2
    assert body["response_format"] == {"type": "json_schema", "json_schema": {
        "name": "n", "schema": schema, "strict": True}}
    assert not {"user", "metadata", "store", "input", "something_new", "include"} & set(body)
    assert (r.temperature, r.top_p, r.max_output_tokens, r.truncation) == (0.5, 0.25, 9, "auto")
    assert (r.metadata, r.user, r.safety_identifier, r.prompt_cache_key) == ({"a": "b"}, "u", "s", "k")
    assert r.reasoning.effort == "low" and r.text.format.name == "n" and r.text.verbosity == "low"
    assert r.tool_choice.name == "f" and not r.parallel_tool_calls and r.background is False


def test_allowed_tools_are_the_only_ones_that_the_model_sees(far, up):
    tools = [{"type": "function", "name": n, "parameters": {}} for n in ("f", "g", "h")]
    r = rc.create(far, model="fake/ok", input="hi", store=False, tools=tools, tool_choice={
        "type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]})
    assert [t["function"]["name"] for t in up.seen[-1]["body"]["tools"]] == ["g"]
    assert up.seen[-1]["body"]["tool_choice"] == "required"
    assert r.tool_choice.type == "allowed_tools" and len(r.tools) == 3
