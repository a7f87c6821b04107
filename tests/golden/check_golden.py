"""Compares hob's greedy answers with llama.cpp's (made by make_golden, one file a model).

Rounding differs between two engines, so now and then two candidates that are nearly equal change places.  That is
fine; a wrong kernel or template is not: BAR answers must be equal to the last token, and where one parts, hob must have
taken a candidate that llama.cpp too found nearly as likely.
"""
import json
import os
import sys

from engine_stdio import Engine

HERE = os.path.dirname(os.path.abspath(__file__))
BAR = 18
CHAT, RAW = "smollm2-135m-q4_1", "gemma-3-270m-q4_k_m"
MAX_GAP = 0.1  # log-probability


def load(name):
    with open(os.path.join(HERE, f"{name}.json"), encoding="utf-8") as f:
        return json.load(f)


def gap(answer, text):
    """How much less likely, to llama.cpp, hob's first other token was; 0 when there is none."""
    at = 0
    for token, top in zip(answer["tokens"], answer["top"]):
        if text.startswith(token, at) and token:
            at += len(token)
            continue
        if not token and at == len(text):
            return 0.0  # the end token of both
        rest = text[at:]
        likely = [p for t, p in top if t != token and (rest.startswith(t) if t else not rest)]
        return top[0][1] - max(likely) if likely else float("inf")
    return 0.0


def ask(engine, job, golden, answer):
    what = {"prompt": answer["prompt"]} if golden.get("raw") else {
        "messages": [{"role": "user", "content": answer["prompt"]}]}
    text, end = engine.run(job, temperature=0, max_tokens=golden["tokens"], **what)
    assert end["ev"] == "finished", end
    assert end["prompt_tokens"] == answer["prompt_tokens"], (answer["prompt"], end)
    # The last token may be half a character: llama.cpp leaves it out, we end it.
    return text.removesuffix("\ufffd")


def check(model, kernels="auto", name=CHAT, which="answers"):
    """[(prompt, equal, gap)] for each golden answer."""
    golden = load(name)
    engine = Engine("--kernels", kernels)
    try:
        engine.load(model)
        result = []
        for job, answer in enumerate(golden[which]):
            text = ask(engine, job, golden, answer)
            equal = text == answer["text"].removesuffix("\ufffd")
            result.append((answer["prompt"], equal, 0.0 if equal else gap(answer, text)))
    finally:
        status = engine.close()
    assert status == 0, status
    return result


def main():
    kernels = os.environ.get("HOB_TEST_KERNELS", "auto")
    name = sys.argv[1] if len(sys.argv) > 1 else CHAT
    model = os.environ["HOB_TEST_MODEL" if name == CHAT else "HOB_TEST_MODEL2"]
    result = check(model, kernels, name)
    if "long" in load(name):
        result += check(model, kernels, name, "long")
    for prompt, equal, difference in result:
        print("equal" if equal else f"parts by {difference:.4f}", "-", prompt[-60:].replace("\n", " "))
    print(sum(equal for _, equal, _ in result), "of", len(result), "equal")


if __name__ == "__main__":
    main()
