"""A base model, Gemma 3 270M, whose file has no chat template: text is completed, chat is refused with a reason."""

import json
import os

import pytest

from conftest import Daemon

HOB = os.environ.get("HOB")
MODEL2 = os.environ.get("HOB_TEST_MODEL2")
NAME = "gemma-3-270m"

pytestmark = [
    pytest.mark.skipif(not HOB, reason="HOB names no binary"),
    pytest.mark.skipif(not MODEL2, reason="HOB_TEST_MODEL2 names no model file"),
]


@pytest.fixture(scope="module")
def base():
    d = Daemon(models=False)
    (d.models / f"{NAME}.gguf").symlink_to(MODEL2)
    d.start()
    yield d
    d.cleanup()


def complete(daemon, prompt, **more):
    return daemon.request("POST", "/v1/completions", {"model": NAME, "prompt": prompt, "temperature": 0, **more})


def test_text_is_completed(base):
    status, _, answer = complete(base, "1, 2, 3, 4, 5,", max_tokens=12)
    assert status == 200, answer
    assert answer["choices"][0]["text"].startswith(" 6, 7, 8,")
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12


def test_a_streamed_completion_is_the_same_text_in_whole_characters(base):
    prompt = "日本の首都は"
    _, _, whole = complete(base, prompt, max_tokens=24)
    c = base.connection()
    c.request("POST", "/v1/completions",
              json.dumps({"model": NAME, "prompt": prompt, "temperature": 0, "max_tokens": 24, "stream": True}))
    parts = []
    for line in c.getresponse():
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:])["choices"]
            parts += [choices[0]["text"]] if choices else []
    c.close()
    assert len([p for p in parts if p]) > 1
    assert "".join(parts) == whole["choices"][0]["text"]


def test_a_generation_ends_at_the_models_end_token(base):
    status, _, answer = complete(base, "<html>\n<body>\n<p>Hello</p>\n</body>\n</html>", max_tokens=60)
    assert status == 200, answer
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["text"].strip() == ""


def test_chat_is_refused_with_what_to_do_instead(base):
    status, _, answer = base.request("POST", "/v1/chat/completions",
                                     {"model": NAME, "messages": [{"role": "user", "content": "hi"}]})
    assert status == 400, answer
    message = answer["error"]["message"]
    assert "no chat template" in message and "base model" in message
    assert "/v1/completions" in message and "hob run --raw" in message


def test_hob_run_raw_goes_on_from_the_prompt(base):
    result = base.run("run", "--raw", "--temperature", "0", "-n", "12", NAME, "1, 2, 3, 4, 5,")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().startswith("6, 7, 8,")
    result = base.run("run", "--raw", "--json", "-t", "0", "-n", "12", "-m", NAME, input="1, 2, 3, 4, 5,")
    answer = json.loads(result.stdout)
    assert answer["text"].startswith(" 6, 7, 8,") and answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12


def test_hob_run_without_raw_says_why_not(base):
    result = base.run("run", NAME, "1, 2, 3")
    assert result.returncode == 1
    assert "no chat template" in result.stderr and "--raw" in result.stderr


def test_raw_excludes_the_parts_of_a_chat(base):
    for option in (["--system", "Be brief."], ["--conversation", "new"]):
        result = base.run("run", "--raw", *option, NAME, "x")
        assert result.returncode == 2, result.stderr
        assert "--raw" in result.stderr
