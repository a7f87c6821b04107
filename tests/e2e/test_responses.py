"""OpenAI's Responses API: every event and object by the official client's own types."""

import json
import re
import subprocess

import openai
import pytest
from openai.types.conversations import Conversation, ConversationDeletedResource, ConversationItemList
from openai.types.responses import ResponseItemList

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
    assert u.input_tokens_details.cache_write_tokens == 0
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


# -- what the store keeps


def item_page(daemon, path, model=None):
    status, _, body = daemon.request("GET", path)
    assert status == 200, body
    if model:
        model.model_validate(body, strict=True)
    assert (body["first_id"], body["last_id"]) == (
        (body["data"][0]["id"], body["data"][-1]["id"]) if body["data"] else ("", ""))
    return body


def conversation_items(daemon, conversation, query="?order=asc&limit=100"):
    return item_page(daemon, f"/v1/conversations/{conversation}/items{query}", ConversationItemList)["data"]


def texts(items):
    return ["".join(p["text"] for p in i["content"]) for i in items if i["type"] == "message"]


def sent(up):
    return [(m["role"], m["content"]) for m in up.seen[-1]["body"]["messages"]]


def test_a_conversation_goes_on_and_instructions_are_of_one_turn_only(far, up):
    client = client_of(far)
    c = client.conversations.create(metadata={"topic": "x"}, items=[{"role": "system", "content": "sys"}])
    a = client.responses.create(model="fake/ok", input="one", conversation=c.id, instructions="Only now.")
    assert a.conversation.id == c.id
    assert sent(up) == [("system", "Only now."), ("system", "sys"), ("user", "one")]
    client.responses.create(model="fake/ok", input="two", conversation={"id": c.id})
    assert sent(up) == [("system", "sys"), ("user", "one"), ("assistant", TEXT), ("user", "two")]
    assert texts(conversation_items(far, c.id)) == ["sys", "one", TEXT, "two", TEXT]
    assert client.conversations.retrieve(c.id).metadata == {"topic": "x"}


def test_a_response_can_be_read_again_with_its_input(far):
    client = client_of(far)
    c = client.conversations.create()
    client.responses.create(model="fake/ok", input="before", conversation=c.id)
    made = client.responses.create(model="fake/ok", conversation=c.id, input=[
        {"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    status, _, body = far.request("GET", "/v1/responses/" + made.id)
    assert status == 200
    again = rc.response(body)
    assert (again.id, again.status, again.model) == (made.id, "completed", "fake/ok")
    assert again.output == made.output and again.usage == made.usage
    assert again.conversation.id == c.id
    page = item_page(far, f"/v1/responses/{made.id}/input_items?order=asc", ResponseItemList)
    assert texts(page["data"]) == ["a", "b"] and not page["has_more"]
    assert [i.content[0].text for i in client.responses.input_items.list(made.id)] == ["b", "a"]


def test_a_stored_response_keeps_its_settings_and_its_end(far):
    client = client_of(far)
    c = client.conversations.create()
    made = client.responses.create(model="fake/length", input="x", conversation=c.id, metadata={"a": "b"}, temperature=0.5,
                                   instructions="secret instructions", text={"format": {"type": "json_object"}}, user="u")
    again = rc.response(far.request("GET", "/v1/responses/" + made.id)[2])
    assert (again.status, again.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (again.metadata, again.temperature, again.user) == ({"a": "b"}, 0.5, "u")
    assert again.text.format.type == "json_object" and again.instructions is None
    assert again.output == made.output
    for file in far.database.parent.glob("memory.db*"):
        assert b"secret instructions" not in file.read_bytes()
    failed = rc.stream(far, model="fake/mid-error", input="x", conversation=c.id).response
    again = rc.response(far.request("GET", "/v1/responses/" + failed.id)[2])
    assert (again.status, again.output, again.error.message) == ("failed", [], failed.error.message)
    e = rc.error(far, 400, model="fake/ok", input="x", previous_response_id=failed.id)
    assert "error" in e["message"] and e["param"] == "previous_response_id"


def test_a_response_follows_another_where_the_head_still_stands(far, up):
    client = client_of(far)
    c = client.conversations.create()
    one = client.responses.create(model="fake/ok", input="one", conversation=c.id)
    two = client.responses.create(model="fake/ok", input="two", previous_response_id=one.id)
    assert two.previous_response_id == one.id and two.conversation.id == c.id
    assert sent(up) == [("user", "one"), ("assistant", TEXT), ("user", "two")]


def test_a_response_that_follows_an_older_one_goes_to_a_fork(far, up):
    client = client_of(far)
    c = client.conversations.create()
    one = client.responses.create(model="fake/ok", input="one", conversation=c.id)
    client.responses.create(model="fake/ok", input="two", conversation=c.id)
    other = client.responses.create(model="fake/ok", input="other", previous_response_id=one.id)
    assert sent(up) == [("user", "one"), ("assistant", TEXT), ("user", "other")]
    assert other.conversation.id != c.id
    assert texts(conversation_items(far, c.id)) == ["one", TEXT, "two", TEXT], "it jumped"
    assert texts(conversation_items(far, other.conversation.id)) == ["one", TEXT, "other", TEXT]
    third = client.responses.create(model="fake/ok", input="third", previous_response_id=other.id)
    assert third.conversation.id == other.conversation.id


def test_what_cannot_be_followed_says_so_as_openai_does(far):
    for unknown in ("resp_0123456789abcdef", "resp_x", "x" * 300, ""):
        e = rc.error(far, 400, model="fake/ok", input="x", previous_response_id=unknown)
        assert (e["code"], e["param"]) == ("previous_response_not_found", "previous_response_id")
    e = rc.error(far, 400, model="fake/ok", input="x", previous_response_id="resp_0123456789abcdef", conversation="a")
    assert e["code"] == "mutually_exclusive_parameters"
    e = rc.error(far, 400, {"x-hob-conversation": "last"}, model="fake/ok", input="x",
                 previous_response_id="resp_0123456789abcdef")
    assert e["code"] == "mutually_exclusive_parameters"
    e = rc.error(far, 404, model="fake/ok", input="x", conversation="conv_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert "01ARZ3NDEKTSV4RRFFQ69G5FAV" in e["message"]
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
        for unknown in ("resp_0123456789abcdef", "resp_x", "%00", "x" * 100):
            status, _, body = far.request(method, f"/v1/responses/{unknown}{path}")
            assert status == 404 and "not found" in body["error"]["message"]
    assert far.request("POST", "/v1/responses/resp_0123456789abcdef/cancel")[0] == 400


def test_items_that_are_referred_to_are_found(far, up):
    client = client_of(far)
    c = client.conversations.create()
    one = client.responses.create(model="fake/reasoning", input="one", conversation=c.id)
    two = client.responses.create(model="fake/ok", input="two", conversation=c.id)
    client.responses.create(model="fake/ok", store=False, input=[
        {"role": "user", "content": "one"},
        *({"type": "item_reference", "id": i.id} for i in one.output),
        {"role": "user", "content": "two"},
        {"id": two.output[0].id},
        {"role": "user", "content": "three"}])
    assert sent(up) == [("user", "one"), ("assistant", TEXT), ("user", "two"), ("assistant", TEXT), ("user", "three")]
    for unknown in ("msg_0123456789abcdef", "msg_" + "0" * 32, "x", "msg_", 7):
        e = rc.error(far, 404, model="fake/ok", input=[{"type": "item_reference", "id": unknown}])
        assert e["param"] == "input"


def test_a_deleted_response_is_not_found_and_its_conversation_stays(far):
    client = client_of(far)
    c = client.conversations.create()
    one = client.responses.create(model="fake/ok", input="one", conversation=c.id)
    two = client.responses.create(model="fake/ok", input="two", previous_response_id=one.id)
    client.responses.delete(one.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(one.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(one.id)
    assert texts(conversation_items(far, c.id)) == ["one", TEXT, "two", TEXT]
    assert client.responses.create(model="fake/ok", input="x", previous_response_id=two.id).conversation.id == c.id


def test_what_no_conversation_was_named_for_is_kept_by_default_and_can_be_followed(far, up):
    client = client_of(far)
    one = rc.stream(far, model="fake/ok", input=[{"role": "user", "content": "one"}], instructions="i").response
    assert far.request("GET", "/v1/responses/" + one.id)[2]["store"] is True
    two = rc.create(far, model="fake/ok", input="two", previous_response_id=one.id)
    assert two.conversation == one.conversation is not None
    assert sent(up) == [("user", "one"), ("assistant", TEXT), ("user", "two")]
    other = rc.create(far, model="fake/ok", input="other", previous_response_id=one.id)
    assert sent(up) == [("user", "one"), ("assistant", TEXT), ("user", "other")]
    assert other.conversation != one.conversation
    assert texts(conversation_items(far, one.conversation.id)) == ["one", TEXT, "two", TEXT]
    assert client.responses.retrieve(two.id).output_text == TEXT


def test_a_call_that_is_kept_goes_back_with_its_result(far, up):
    one = rc.create(far, model="fake/tools", input="what is it like?")
    [call] = one.output
    rc.create(far, model="fake/ok", previous_response_id=one.id, input=[
        {"type": "function_call_output", "call_id": call.call_id, "output": "warm"}])
    function = {"name": "weather", "arguments": '{"city":1}'}
    assert up.seen[-1]["body"]["messages"] == [
        {"role": "user", "content": "what is it like?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "warm"}]
    again = rc.response(far.request("GET", "/v1/responses/" + one.id)[2])
    assert again.output == one.output
    kinds = [i["type"] for i in conversation_items(far, one.conversation.id)]
    assert kinds == ["message", "function_call", "function_call_output", "message"]


def test_the_same_history_sent_again_is_one_conversation(far):
    one = rc.create(far, model="fake/tools", input="hi")
    history = [{"role": "user", "content": "hi"}, *(i.model_dump(exclude_none=True) for i in one.output),
               {"type": "function_call_output", "call_id": "c1", "output": "warm"}]
    two = rc.create(far, model="fake/ok", input=history)
    assert two.conversation == one.conversation
    assert len(far.request("GET", "/v1/hob/conversations")[2]["conversations"]) == 1


def test_with_store_false_nothing_is_written(far, up):
    kept = rc.create(far, model="fake/ok", input="kept")
    for follow in ({"previous_response_id": kept.id}, {"conversation": kept.conversation.id}, {}):
        r = rc.create(far, model="fake/ok", input="canary-5c1f", store=False, **follow)
        assert far.request("GET", "/v1/responses/" + r.id)[0] == 404
        assert ("user", "kept") in sent(up) or not follow
    assert texts(conversation_items(far, kept.conversation.id)) == ["kept", TEXT]
    for file in far.database.parent.glob("memory.db*"):
        assert b"canary-5c1f" not in file.read_bytes()


@pytest.mark.parametrize("policy, kept", [("off", False), ("cli", False), ("opt-in", True), ("all", True)])
def test_what_is_kept_is_as_memory_store_says(make_daemon, up, policy, kept):
    d = make_daemon(f'provider "fake" {{ kind = "openai" url = "{up.url}" }}\nmemory {{ store = "{policy}" }}\n', model=False)
    whole = rc.ask(d, {"model": "fake/ok", "input": "hi"}, path=rc.PATH).json
    streamed = rc.stream(d, model="fake/ok", input="hi there").reply
    for r in (whole, rc.events_of(streamed)[0][1]["response"], rc.events_of(streamed)[-1][1]["response"]):
        assert r["store"] is kept and (r["conversation"] is not None) == kept
        assert d.request("GET", "/v1/responses/" + r["id"])[0] == (200 if kept else 404)


def test_a_response_that_began_its_conversation_alone_is_deleted_with_it(far):
    r = rc.create(far, model="fake/ok", input="canary-81ab is the word")
    status, _, body = far.request("DELETE", "/v1/responses/" + r.id)
    assert (status, body) == (200, {"id": r.id, "object": "response", "deleted": True})
    assert far.request("GET", "/v1/conversations/" + r.conversation.id)[0] == 404
    for file in far.database.parent.glob("memory.db*"):
        assert b"canary-81ab" not in file.read_bytes()


def test_an_incognito_conversation_has_items_too(far):
    r = rc.create(far, {"x-hob-conversation": "incognito"}, model="fake/ok", input="canary-77d0")
    assert r.conversation.id.startswith("conv_Z")
    assert texts(conversation_items(far, r.conversation.id)) == ["canary-77d0", TEXT]
    two = rc.create(far, model="fake/ok", input="more", conversation=r.conversation.id)
    assert two.conversation == r.conversation
    for file in far.database.parent.glob("memory.db*"):
        assert b"canary-77d0" not in file.read_bytes()


# -- conversations


def test_conversations_are_made_changed_and_deleted(far):
    client = client_of(far)
    c = client.conversations.create(metadata={"a": "b"})
    Conversation.model_validate(far.request("GET", "/v1/conversations/" + c.id)[2], strict=True)
    assert c.id.startswith("conv_") and c.metadata == {"a": "b"}
    assert client.conversations.retrieve(c.id.removeprefix("conv_")) == c
    assert client.conversations.update(c.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert far.request("POST", "/v1/conversations/" + c.id, {})[2]["metadata"] == {"c": "d"}
    assert client.conversations.update(c.id, metadata=None).metadata == {}
    assert far.request("POST", "/v1/conversations/" + c.id, {"metadata": {"a": 1}})[0] == 400
    gone = far.request("DELETE", "/v1/conversations/" + c.id)[2]
    assert ConversationDeletedResource.model_validate(gone, strict=True).id == c.id
    for call in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError):
            call(c.id)


def test_items_are_added_listed_in_pages_and_read(far):
    client = client_of(far)
    c = client.conversations.create()
    url = "data:image/png;base64,AAAA"
    added = client.conversations.items.create(c.id, items=[
        {"role": "user", "content": [{"type": "input_text", "text": "look"},
                                     {"type": "input_image", "image_url": url, "detail": "high"}]},
        {"role": "assistant", "content": "I call"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": "2"},
        {"role": "developer", "content": "d"}])
    kinds = ["message", "message", "function_call", "function_call", "function_call_output", "function_call_output",
             "message"]
    assert [i.type for i in added.data] == kinds
    assert added.data[0].content[1].image_url == url and added.data[0].content[1].detail == "high"
    everything = conversation_items(far, c.id)
    assert [i["type"] for i in everything] == kinds
    ids = [i["id"] for i in everything]
    assert len(set(ids)) == len(ids)
    for limit in (1, 2, 3, 7, 100):
        assert [i.id for i in client.conversations.items.list(c.id, order="asc", limit=limit)] == ids
        assert [i.id for i in client.conversations.items.list(c.id, limit=limit)] == ids[::-1]
    for i in everything:
        status, _, body = far.request("GET", f"/v1/conversations/{c.id}/items/{i['id']}")
        assert (status, body) == (200, i)
    for unknown in ("msg_" + "0" * 32, "fc_%s_9" % ids[2].split("_")[1], "msg_0123456789abcdef", "x", "%2e"):
        assert far.request("GET", f"/v1/conversations/{c.id}/items/{unknown}")[0] == 404
    assert far.request("DELETE", f"/v1/conversations/{c.id}/items/{ids[0]}")[0] == 400
    assert far.request("GET", f"/v1/conversations/{c.id}/items?after=msg_{'0' * 32}")[0] == 404
    for bad in ("limit=0", "limit=101", "limit=x", "order=up"):
        assert far.request("GET", f"/v1/conversations/{c.id}/items?{bad}")[0] == 400


@pytest.mark.parametrize("body", [
    {"metadata": 1}, {"metadata": {"a": 1}}, {"metadata": {str(i): "" for i in range(17)}}, {"metadata": {"a": "x" * 9000}},
    {"items": {}}, {"items": [1]}, {"items": [{}]}, {"items": [{"role": "user", "content": "x"}] * 21},
    {"items": [{"type": "item_reference", "id": "msg_" + "0" * 32}]}, [], "x", 7])
def test_a_conversation_that_makes_no_sense_is_refused(far, body):
    before = far.request("GET", "/v1/hob/conversations")[2]
    status, _, reply = far.request("POST", "/v1/conversations", body)
    assert status == 400 and reply["error"]["message"]
    assert far.request("GET", "/v1/hob/conversations")[2] == before


def test_a_conversation_of_the_terminal_goes_on_here_and_by_curl_on_two_models(make_daemon, up):
    """`hob chat` begins it, the official client goes on with another model, curl over the socket after that."""
    daemon = make_daemon(f'provider "fake" {{ kind = "openai" url = "{up.url}" }}\n')
    chat = daemon.run("chat", MODEL_NAME, input="My name is Ada.\n")
    assert chat.returncode == 0, chat.stderr
    [row] = daemon.request("GET", "/v1/hob/conversations?limit=1")[2]["conversations"]
    client = client_of(daemon)
    r = client.responses.create(model="fake/ok", input="What is my name?", conversation="conv_" + row["id"])
    assert (r.conversation.id, r.output_text) == ("conv_" + row["id"], TEXT)
    assert sent(up)[0] == ("user", "My name is Ada.") and sent(up)[2] == ("user", "What is my name?")
    body = json.dumps({"model": MODEL_NAME, "messages": [{"role": "user", "content": "Thanks."}], "max_tokens": 4})
    out = subprocess.run(["curl", "-sS", "--unix-socket", daemon.socket, "-H", "x-hob-conversation: " + row["id"],
                          "http://localhost/v1/chat/completions", "-d", body], capture_output=True, timeout=120, check=True)
    reply = json.loads(out.stdout)["choices"][0]["message"]["content"]
    said = texts(conversation_items(daemon, "conv_" + row["id"]))
    assert len(said) == 6 and said[0].strip() == "My name is Ada."
    assert said[2:] == ["What is my name?", TEXT, "Thanks.", reply]


# -- what goes wrong


def test_the_client_that_leaves_cancels(far, up):
    with rc.send(far, {"model": "fake/slow", "input": "hi", "stream": True, "store": False}, path=rc.PATH) as sock:
        got = b""
        while b"tick" not in got:
            got += sock.recv(65536)
    assert up.wait_gone()


def test_a_response_that_its_client_left_is_cancelled_with_what_was_said(far, up, wait_until):
    with rc.send(far, {"model": "fake/slow", "input": "hi", "stream": True}, path=rc.PATH) as sock:
        got = b""
        while got.count(b"output_text.delta") < 8:
            got += sock.recv(65536)
        made = re.search(rb'"id":"(resp_[0-9a-f]{16})"', got)[1].decode()
        running = rc.response(far.request("GET", "/v1/responses/" + made)[2])
        assert (running.status, running.output, running.usage) == ("in_progress", [], None)
        assert far.request("DELETE", "/v1/responses/" + made)[0] == 409
    wait_until(lambda: far.request("GET", "/v1/responses/" + made)[2]["status"] != "in_progress")
    left = rc.response(far.request("GET", "/v1/responses/" + made)[2])
    assert left.status == "cancelled" and left.output_text.startswith("tick tick ")
    rc.create(far, model="fake/ok", input="go on", previous_response_id=made)
    assert sent(up) == [("user", "hi"), ("assistant", left.output_text), ("user", "go on")]


def test_a_client_that_leaves_while_the_store_is_asked_does_no_harm(far):
    for _ in range(20):
        with rc.send(far, {"model": "fake/ok", "input": "hi", "previous_response_id": "resp_0123456789abcdef"},
                     path=rc.PATH):
            pass
        far.request("GET", "/v1/responses/resp_0123456789abcdef")
    assert rc.create(far, model="fake/ok", input="hi", store=False).output_text == TEXT


def test_an_answer_that_a_stream_cannot_end_is_cut_with_an_error(far):
    s = rc.stream(far, model="fake/big", input="hi", store=False)
    assert s.error.code == "too_large" and s.response.status == "failed"
    assert 0 < len(s.text) <= 2 << 20
    assert len(rc.create(far, model="fake/big", input="hi", store=False).output_text) == 4 << 20


def test_a_hundred_thousand_items_are_read(far, up):
    items = [{"role": "user", "content": "x"}] * 100_000
    assert rc.create(far, model="fake/ok", input=items, store=False).output_text == TEXT
    assert len(up.seen[-1]["body"]["messages"]) == 100_000
    assert "100000" in rc.error(far, 400, model="fake/ok", input=[*items, items[0]], store=False)["message"]


@pytest.mark.parametrize("body", [
    {}, {"input": []}, {"input": [{"type": "web_search_call", "id": "x"}]}, {"input": "x", "background": True},
    {"input": "x", "tools": [{"type": "web_search"}]}, {"input": "x", "temperature": "hot"}, {"input": "x", "store": 1},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}])
def test_what_is_refused_is_refused_before_the_head(far, up, body):
    before = len(up.seen)
    for stream in (True, False):
        e = rc.error(far, 400, **{"model": "fake/ok", "stream": stream, **body})
        assert e["type"] == "invalid_request_error" and e["code"] in ("invalid", "unsupported")
    assert len(up.seen) == before


def test_without_memory_there_is_nothing_to_follow(make_daemon, up):
    far = make_daemon(f'provider "fake" {{ kind = "openai" url = "{up.url}" }}\nmemory {{ enabled = false }}\n', model=False)
    r = rc.create(far, model="fake/ok", input="hi")
    assert far.request("GET", "/v1/responses/" + r.id)[0] == 404
    e = rc.error(far, 400, model="fake/ok", input="x", previous_response_id=r.id)
    assert e["code"] == "previous_response_not_found" and "memory is off" in e["message"]
    rc.error(far, 404, model="fake/ok", input=[{"type": "item_reference", "id": r.output[0].id}])
    for method, path in (("POST", ""), ("GET", "/conv_x"), ("DELETE", "/conv_x"), ("GET", "/conv_x/items")):
        assert far.request(method, "/v1/conversations" + path)[0] == 400


@pytest.mark.parametrize("method, path, allow", [
    ("PUT", "/v1/responses", "POST"), ("DELETE", "/v1/conversations/x/items", "GET, HEAD, POST"),
    ("POST", "/v1/responses/x", "GET, HEAD, DELETE"), ("POST", "/v1/conversations/x/items/y", "GET, HEAD, DELETE")])
def test_paths_know_their_methods(far, method, path, allow):
    status, headers, _ = far.request(method, path)
    assert (status, headers["Allow"]) == (405, allow)
