"""History that is bounded and honest: summaries, incognito conversations, parents, what is recorded."""

import pytest

from conftest import MODEL_NAME
from fake_upstream import WORDS

SUMMARY = "".join(WORDS)


def config(up, more="", memory=""):
    return (f'provider "fake" {{ url = "{up.url}" }}\n'
            "cache { ctx = 512 slots = 2 }\nserver { port = -1 }\n"
            f'memory {{ titles = false summary_model = "fake/ok" {memory} }}\n{more}')


def context_of(headers):
    """x-hob-context as a dict of numbers."""
    return {k.strip(): int(v) for k, v in (part.split("=") for part in headers["x-hob-context"].split(","))}


def grow(d, turns, conversation="new", headers=None, sentences=6, **more):
    """Yields the context of each of these turns, and the conversation."""
    for i in range(turns):
        status, fields, body = d.chat(f"{i}: Tell me about the sea. " * sentences,
                                      {"x-hob-conversation": conversation, **(headers or {})},
                                      max_tokens=8, **more)
        assert status == 200, body
        conversation = fields["x-hob-conversation"]
        c = context_of(fields)
        assert c["kept"] + c["summarised"] + c["dropped"] == 2 * i
        yield c, conversation


def test_a_summary_takes_the_place_of_what_does_not_fit(make_daemon, up):
    d = make_daemon(config(up))
    seen = [c for c, _ in grow(d, 14)]
    assert seen[-1]["summarised"] > 0
    assert all(c["dropped"] == 0 for c in seen), seen
    asked = [r["body"] for r in up.seen if r["path"].endswith("/chat/completions")]
    assert len(asked) >= 2
    assert "0: Tell me about the sea." in asked[0]["messages"][0]["content"]
    assert "Invent nothing" in asked[0]["messages"][-1]["content"]
    # rolling: the next one takes the one before in
    assert SUMMARY in asked[1]["messages"][0]["content"]
    assert "made by fake/ok" in asked[1]["messages"][0]["content"]


def metric(d, name):
    """Its sum over all labels that follow the name."""
    return sum(float(line.split()[-1]) for line in d.request("GET", "/metrics")[2].splitlines()
               if line.startswith(name))


def test_the_warm_model_summarises_behind_the_answer_and_reads_nothing_twice(make_daemon, wait_until):
    d = make_daemon("cache { ctx = 1024 slots = 2 }\nserver { port = -1 }\nmemory { titles = false }\n")
    turns = grow(d, 6, sentences=12)
    for _ in range(4):
        next(turns)
    assert metric(d, "hob_summaries_total") == 0
    # the answer over 80 % of the budget: its own beginning is cached, and that of the summary's request
    context, conversation = next(turns)
    answered = metric(d, 'hob_tokens_total{kind="cached"}')
    assert context["dropped"] == 0
    wait_until(lambda: metric(d, "hob_summaries_total") == 1, 300)
    cached = metric(d, 'hob_tokens_total{kind="cached"}')
    assert cached - answered > 200 or metric(d, 'hob_summaries_total{result="failed"}')
    assert "-sum'" in str(d.request("GET", "/v1/hob/routes/decisions")[2])  # `hob why` shows it
    said = d.request("GET", "/v1/hob/conversations/" + conversation)[2]["messages"]
    assert len(said) == 10 and not [m for m in said if "Invent nothing" in m["content"]]
    if metric(d, 'hob_summaries_total{result="done"}'):
        context, _ = next(turns)
        assert context["summarised"] > 0 and context["dropped"] == 0


def test_a_private_conversation_is_not_summarised_far_away(make_daemon, up):
    d = make_daemon(config(up))
    seen = [c for c, _ in grow(d, 8, headers={"x-hob-private": "1"})]
    assert seen[-1]["dropped"] + seen[-1]["summarised"] > 0  # by the local model, if at all
    assert not [r for r in up.seen if r["path"].endswith("/chat/completions")]


def test_without_summaries_turns_are_dropped(make_daemon, up):
    d = make_daemon(config(up, memory="summary = false"))
    assert [c for c, _ in grow(d, 8)][-1]["dropped"] > 0
    assert not [r for r in up.seen if r["path"].endswith("/chat/completions")]


def test_a_stream_says_what_was_left_out_and_how_it_is_kept(make_daemon, up):
    d = make_daemon(config(up))
    body = {"model": MODEL_NAME, "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 8}
    chunks = [c for c in d.stream(body, {"x-hob-conversation": "new"}) if isinstance(c, dict)]
    first, last = chunks[0]["hob"], chunks[-1]["hob"]
    assert (first["kept"], first["summarised"], first["elided"], first["dropped"]) == (0, 0, 0, 0)
    assert first["ctx"] == 512 and first["tier"] == "ram"
    assert len(last["prompt"]) == len(last["message"]) == 32
    # what was asked is answered anew, without a word
    again = {**body, "messages": [], "parent": last["prompt"], "conversation": last["conversation"]}
    status, headers, reply = d.request("POST", "/v1/chat/completions", again)
    assert status == 200, reply
    assert context_of(headers)["kept"] == 1
    assert reply["hob"]["prompt"] == last["prompt"]
    # and from the start
    status, headers, reply = d.request(
        "POST", "/v1/chat/completions", body,
        {"x-hob-conversation": last["conversation"], "x-hob-parent": "root"})
    assert status == 200 and context_of(headers)["kept"] == 0


@pytest.mark.parametrize("field,status", [("nonsense", 400), ("0" * 32, 404)])
def test_a_parent_that_is_none_is_refused(daemon, field, status):
    first = daemon.chat("Hello.", {"x-hob-conversation": "new"}, max_tokens=4)
    got, _, body = daemon.chat("Hello.", {"x-hob-conversation": first[1]["x-hob-conversation"],
                                          "x-hob-parent": field}, max_tokens=4)
    assert got == status, body
    assert daemon.chat("Hello.", {"x-hob-parent": "root"})[0] == 400  # of which conversation?


def test_what_a_client_sends_whole_is_recorded_when_it_asks(make_daemon):
    d = make_daemon("memory { titles = false }\n")
    status, headers, body = d.chat("One.", max_tokens=4, store=True)
    assert status == 200 and "x-hob-context" not in headers
    conversation = headers["x-hob-conversation"]
    said = d.request("GET", "/v1/hob/conversations/" + conversation)[2]["messages"]
    assert [m["content"] for m in said] == ["One.", body["choices"][0]["message"]["content"]]
    assert "x-hob-conversation" not in d.chat("Two.", max_tokens=4, store=False)[1]
    assert "x-hob-conversation" not in d.chat("Three.", max_tokens=4)[1]


def files_with(home, word):
    return [str(p.relative_to(home)) for p in home.rglob("*")
            if p.is_file() and not p.is_symlink() and word in p.read_bytes()]


def kv_files(d):
    return [p for p in (d.home / "cache/hob/kv").rglob("*") if p.is_file() and p.stat().st_size > 100_000]


@pytest.mark.parametrize("conversation,stays", [("new", True), ("incognito", False)])
def test_an_incognito_conversation_leaves_nothing_on_disk(make_daemon, conversation, stays):
    d = make_daemon("memory { titles = false }\n")
    words = "Quaxolotl lives by the sea and tells long stories. " * 40
    status, headers, body = d.chat(words, {"x-hob-conversation": conversation}, max_tokens=8)
    assert status == 200, body
    name = headers["x-hob-conversation"]
    assert (name[0] == "Z") == (not stays)
    headers = d.chat("And then?", {"x-hob-conversation": name}, max_tokens=8)[1]
    assert context_of(headers)["kept"] == 2
    d.stop()  # saves what may be saved
    assert bool(files_with(d.home, b"Quaxolotl")) == stays
    assert bool(kv_files(d)) == stays
    if not stays:
        d.start()
        assert d.chat("And then?", {"x-hob-conversation": name})[0] == 404


def test_a_conversation_with_tools_and_images_goes_on_with_the_local_model(make_daemon, up):
    d = make_daemon(config(up))

    def turn(model, messages, conversation, **more):
        status, headers, reply = d.request(
            "POST", "/v1/chat/completions",
            {"model": model, "messages": messages, "max_tokens": 8, **more}, {"x-hob-conversation": conversation})
        return status, headers.get("x-hob-conversation"), headers.get("x-hob-context"), reply

    status, talk, _, reply = turn("fake/tools", [{"role": "user", "content": "How is the weather?"}], "new")
    assert status == 200 and reply["choices"][0]["message"]["tool_calls"], reply
    result = {"role": "tool", "tool_call_id": "c1", "content": "It rains."}
    # in the request itself the engine still says what it cannot read
    status, _, _, reply = turn(MODEL_NAME, [result], talk)
    assert status == 400 and "local engine cannot read" in str(reply), reply
    assert turn("fake/ok", [result], talk)[0] == 200
    picture = [{"type": "text", "text": "And here?"},
               {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 200}}]
    assert turn("fake/ok", [{"role": "user", "content": picture}], talk)[0] == 200
    status, _, context, reply = turn(MODEL_NAME, [{"role": "user", "content": "Thanks."}], talk)
    assert status == 200 and context.startswith("kept=6,"), reply
    # the prompt has what the history says, and not the picture's bytes
    first = reply["usage"]["prompt_tokens"]
    assert 60 < first < 400
    # its beginning stays: the next turn reads from the cache what this one left
    status, _, _, reply = turn(MODEL_NAME, [{"role": "user", "content": "Go on."}], talk)
    assert status == 200
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] >= first - 32
    # and far away the messages are what they were
    assert turn("fake/ok", [{"role": "user", "content": "Back."}], talk)[0] == 200
    sent = up.seen[-1]["body"]["messages"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":1}'}
    assert sent[2]["role"] == "tool" and sent[4]["content"] == picture
