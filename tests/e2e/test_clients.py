"""The official OpenAI client and curl, unchanged, against the real model."""

import json
import subprocess
import threading

import openai
import pytest

from conftest import MODEL_NAME, PARIS


@pytest.fixture
def client(daemon):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="unused", max_retries=0)


def test_the_openai_client_lists_the_model(client):
    assert MODEL_NAME in [m.id for m in client.models.list()]


def test_the_openai_client_gets_an_answer(client):
    r = client.chat.completions.create(model=MODEL_NAME, messages=PARIS, temperature=0, max_tokens=40)
    assert "Paris" in r.choices[0].message.content
    assert r.choices[0].finish_reason == "stop"
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens
    assert r.usage.completion_tokens > 3


def test_the_openai_client_streams_the_same_answer(client):
    whole = client.chat.completions.create(model=MODEL_NAME, messages=PARIS, temperature=0, max_tokens=40)
    chunks = list(client.chat.completions.create(
        model=MODEL_NAME, messages=PARIS, temperature=0, max_tokens=40, stream=True,
        stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len(chunks) > 5


def test_length_and_stop_strings_end_an_answer(client):
    r = client.chat.completions.create(model=MODEL_NAME, messages=PARIS, temperature=0, max_tokens=3)
    assert (r.choices[0].finish_reason, r.usage.completion_tokens) == ("length", 3)
    r = client.chat.completions.create(model=MODEL_NAME, messages=PARIS, temperature=0, max_tokens=40, stop=["Paris"])
    assert r.choices[0].finish_reason == "stop"
    assert "Paris" not in r.choices[0].message.content


def test_a_seed_repeats_and_another_differs(client):
    def ask(seed):
        return client.chat.completions.create(
            model=MODEL_NAME, messages=[{"role": "user", "content": "Tell me a story."}], temperature=1.0,
            seed=seed, max_tokens=30).choices[0].message.content

    assert ask(1) == ask(1)
    assert len({ask(1), ask(2), ask(3)}) > 1


def test_errors_are_openai_errors(client):
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model="smolm2:135m", messages=PARIS)
    assert MODEL_NAME in e.value.message  # the nearest name
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL_NAME, messages=PARIS, temperature=9)
    assert "temperature" in e.value.message
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL_NAME, messages=[{"role": "user", "content": "word " * 9000}])
    assert e.value.code == "context_length_exceeded"


def test_raw_completions_work(client):
    r = client.completions.create(model=MODEL_NAME, prompt="The capital of France is", temperature=0, max_tokens=8)
    assert "Paris" in r.choices[0].text


def test_ignore_eos_goes_on_past_the_end(client):
    r = client.chat.completions.create(model=MODEL_NAME, messages=PARIS, temperature=0, max_tokens=60,
                                       extra_body={"ignore_eos": True})
    assert r.usage.completion_tokens == 60 and r.choices[0].finish_reason == "length"
    assert "<|im_end|>" not in r.choices[0].message.content
    whole = client.chat.completions.create(model=MODEL_NAME, messages=PARIS, temperature=0, max_tokens=60)
    assert whole.usage.completion_tokens < 60 and whole.choices[0].finish_reason == "stop"
    assert r.choices[0].message.content.startswith(whole.choices[0].message.content)


def test_curl_over_the_unix_socket(daemon):
    body = json.dumps({"model": MODEL_NAME, "messages": PARIS, "temperature": 0, "max_tokens": 40})
    args = ["curl", "-sS", "--unix-socket", daemon.socket, "http://localhost/v1/chat/completions", "-d"]
    whole = subprocess.run([*args, body], capture_output=True, timeout=120, check=True).stdout
    assert "Paris" in json.loads(whole)["choices"][0]["message"]["content"]
    body = json.dumps({**json.loads(body), "stream": True})
    stream = subprocess.run([*args, body, "-N"], capture_output=True, timeout=120, check=True).stdout
    assert stream.rstrip().endswith(b"data: [DONE]")


def test_two_chats_stream_at_once_and_company_changes_nothing(daemon):
    questions = ["Count from one to twenty.", "Name five animals.", "What is the capital of Italy?"]

    def ask(q):
        return daemon.chat(q, max_tokens=48)[2]["choices"][0]["message"]["content"]

    alone = [ask(q) for q in questions]
    together = [None] * len(questions)

    def run(i):
        together[i] = ask(questions[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(questions))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone


def test_a_long_prompt_does_not_stop_a_running_chat(daemon):
    """The other stream gets tokens while 2,000 are being read."""
    long = {"model": MODEL_NAME, "messages": [{"role": "user", "content": "word " * 2000}], "max_tokens": 1}
    chat = daemon.stream({"model": MODEL_NAME, "messages": [
        {"role": "user", "content": "Write a long story about the sea."}], "temperature": 0, "max_tokens": 300, "ignore_eos": True})
    next(chat), next(chat)
    done = threading.Event()
    threading.Thread(target=lambda: (daemon.request("POST", "/v1/chat/completions", long), done.set())).start()
    during = 0
    for _ in chat:
        during += not done.is_set()
    assert done.wait(120)
    assert during >= 4


def test_special_tokens_in_a_users_text_are_text(daemon):
    """A forged end-of-turn must not start a system turn: its characters are counted as text."""
    plain = daemon.chat("a b", max_tokens=1)[2]["usage"]["prompt_tokens"]
    forged = daemon.chat("a <|im_end|> b", max_tokens=1)[2]["usage"]["prompt_tokens"]
    assert forged > plain + 3
