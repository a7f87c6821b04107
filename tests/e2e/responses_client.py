"""The Responses API as an official client that forgives nothing would read it.

Every event and object goes through the pydantic models of the `openai` package, strictly, and the
events of a stream must come in the order in which that package's own accumulator can use them:
items and parts are opened before anything is said of them, closed once, and the last event holds what
the deltas before it said.
"""

import json

import pydantic
from openai.types import responses as t
from openai.types.responses.response_stream_event import ResponseStreamEvent

from strict_client import ask, parse, read_end, send

PATH = "/v1/responses"
EVENT = pydantic.TypeAdapter(ResponseStreamEvent)
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def response(body):
    """A response object, checked."""
    r = t.Response.model_validate(body, strict=True)
    assert isinstance(body["store"], bool)
    if r.status == "completed":
        assert r.error is None and r.incomplete_details is None and r.usage
        assert all(item.status == "completed" for item in r.output)
    if r.usage:
        assert r.usage.total_tokens == r.usage.input_tokens + r.usage.output_tokens
    ids = [item.id for item in r.output]
    assert len(ids) == len(set(ids))
    return r


def create(daemon, headers=None, **body):
    """A whole reply; the status must be 200."""
    reply = ask(daemon, body, headers, PATH)
    assert reply.status == 200, reply.body
    return response(reply.json)


def error(daemon, status, headers=None, **body):
    reply = ask(daemon, body, headers, PATH)
    assert reply.status == status, (reply.status, reply.body[:400])
    assert set(reply.json) == {"error"}
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    return reply.json["error"]


def events_of(reply):
    """(name, data) of each event of a stream; comments are left out."""
    text = reply.body.decode()
    assert text.endswith("\n\n")
    found = []
    for block in text[:-2].split("\n\n"):
        lines = block.split("\n")
        if all(line.startswith(":") for line in lines):
            continue
        assert len(lines) == 2 and lines[0].startswith("event: ") and lines[1].startswith("data: "), block
        found.append((lines[0][7:], json.loads(lines[1][6:])))
    return found


class Stream:
    """What a stream said, after all its rules were checked."""

    def __init__(self, raw):
        self.names, self.items, self.text = [], [], ""
        self.response = self.error = None
        for name, data in raw:
            event = EVENT.validate_python(data, strict=True)
            assert data["type"] == name
            assert data["sequence_number"] == len(self.names)
            assert self.response is None, "after the end: %s" % name
            self.names.append(name)
            self.take(event, data)
        assert self.response is not None, "no end: %r" % self.names[-3:]

    def take(self, event, data):
        if event.type in ("response.created", "response.in_progress"):
            assert self.names.index(event.type) == ["response.created", "response.in_progress"].index(event.type)
            assert response(data["response"]).status == "in_progress"
        elif event.type in TERMINAL:
            self.end(event, data)
        elif event.type == "error":
            self.error = event
        elif event.type == "response.output_item.added":
            assert event.output_index == len(self.items)
            assert event.item.status == "in_progress"
            self.items.append({"item": event.item, "text": "", "part": False, "done": None, "said": None})
        else:
            self.take_part(event, self.items[event.output_index])

    def take_part(self, event, it):
        kind = event.type.removeprefix("response.")
        assert it["done"] is None, "%s after the item's end" % kind
        if kind == "output_item.done":
            assert event.item.id == it["item"].id and it["said"] is not None
            it["done"] = event.item
            return
        assert event.item_id == it["item"].id
        if it["item"].type != "function_call":
            assert event.content_index == 0
            assert it["part"] == (kind != "content_part.added")
        if kind == "content_part.added":
            assert event.part.text == ""
            it["part"] = True
        elif kind == "content_part.done":
            assert event.part.text == it["text"] and it["said"] is not None
        elif kind.endswith(".delta"):
            assert it["said"] is None
            it["text"] += event.delta
            if kind == "output_text.delta":
                self.text += event.delta
        else:
            assert kind.endswith(".done"), kind
            assert it["said"] is None
            it["said"] = event.arguments if it["item"].type == "function_call" else event.text
            assert it["said"] == it["text"]

    def end(self, event, data):
        self.response = response(data["response"])
        assert "response." + self.response.status == event.type
        assert (self.response.status == "failed") == (self.error is not None)
        assert len(self.response.output) == len(self.items)
        for it, out in zip(self.items, self.response.output):
            assert out.id == it["item"].id and out.type == it["item"].type
            if self.response.status != "failed":
                assert it["done"] is not None, "%s was never ended" % out.id
                assert it["done"] == out
            said = out.arguments if out.type == "function_call" else "".join(c.text for c in out.content)
            assert said == it["text"]


def stream(daemon, headers=None, **body):
    reply = ask(daemon, {**body, "stream": True}, headers, PATH)
    assert reply.status == 200 and reply.is_stream, reply.body[:400]
    s = Stream(events_of(reply))
    s.reply = reply
    return s


__all__ = ["PATH", "Stream", "ask", "create", "error", "events_of", "parse", "read_end", "response", "send", "stream"]
