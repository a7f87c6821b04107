"""Compares hob's greedy answers with llama.cpp's (smollm2-135m-q4_1.json).

Rounding differs between two engines, so now and then two candidates that are nearly equal change places.  That is
fine; a wrong kernel or template is not: BAR answers must be equal to the last token, and where one parts, hob must have
taken a candidate that llama.cpp too found nearly as likely.
"""
import json
import os

from engine_stdio import Engine

HERE = os.path.dirname(os.path.abspath(__file__))
BAR = 18
MAX_GAP = 0.1  # log-probability


def load():
    with open(os.path.join(HERE, "smollm2-135m-q4_1.json"), encoding="utf-8") as f:
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


def ask(engine, job, answer, tokens):
    text, end = engine.run(job, temperature=0, max_tokens=tokens,
                           messages=[{"role": "user", "content": answer["prompt"]}])
    assert end["ev"] == "finished", end
    assert end["prompt_tokens"] == answer["prompt_tokens"], (answer["prompt"], end)
    # The last token may be half a character: llama.cpp leaves it out, we end it.
    return text.removesuffix("\ufffd")


def check(model, kernels="auto"):
    """[(prompt, equal, gap)] for each golden answer."""
    golden = load()
    engine = Engine("--kernels", kernels)
    try:
        engine.load(model)
        result = []
        for job, answer in enumerate(golden["answers"]):
            text = ask(engine, job, answer, golden["tokens"])
            equal = text == answer["text"].removesuffix("\ufffd")
            result.append((answer["prompt"], equal, 0.0 if equal else gap(answer, text)))
    finally:
        status = engine.close()
    assert status == 0, status
    return result


def main():
    result = check(os.environ["HOB_TEST_MODEL"], os.environ.get("HOB_TEST_KERNELS", "auto"))
    for prompt, equal, difference in result:
        print("equal" if equal else f"parts by {difference:.4f}", "-", prompt[:60].replace("\n", " "))
    print(sum(equal for _, equal, _ in result), "of", len(result), "equal")


if __name__ == "__main__":
    main()
