"""Where prompts would go, from outside: the dry run, its table, providers, and what the configuration refuses.

Nothing is run: models are files with holes, providers are addresses where nobody listens."""

import json
import subprocess

import pytest

from conftest import HOB, MODEL_NAME

CONFIG = """
provider "near" { url = "http://127.0.0.1:9/v1" local = true }
provider "far" { url = "http://127.0.0.1:9/v1" key_env = "FAR_KEY" }
provider "keyless" { url = "https://keyless.invalid/v1?token=hidden" key_env = "NO_SUCH_KEY" }
model "far/m" { ctx = 1000 price_input = 1 price_output = 2 strength = 9 }
model "small" { strength = 2 fallback = {"far/m"} }
route "smart" {
  candidates = {"keyless/x", "far/m", "large"}
  rule "review" { code = {"python"} words = {"review"} use = {"large"} }
  rule "never" { regex = "(?i)^drop table" refuse = "ask the administrator" }
}
route "pick" { candidates = {"small", "large", "far/m"} pick = "auto" prefer = "strong" }
"""


@pytest.fixture
def daemon(make_daemon):
    d = make_daemon(CONFIG, env={"FAR_KEY": "k"}, model=False)
    for name, mib in (("small", 128), ("large", 4096)):
        with open(d.models / f"{name}.gguf", "wb") as f:
            f.truncate(mib << 20)
    return d


def explain(d, model, prompt="Hello", headers=None, **more):
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], **more}
    status, _, tree = d.request("POST", "/v1/hob/route/explain", body, headers)
    assert status == 200, tree
    return tree


def used(tree):
    return [c["model"] for c in tree["candidates"] if c["use"]]


def why(tree, model):
    return next(c["why"] for c in tree["candidates"] if c["model"] == model)


def test_a_route_is_explained_with_its_candidates_in_order(daemon):
    tree = explain(daemon, "smart")
    assert tree["model"] == tree["route"] == "smart" and tree["rule"] is None
    assert used(tree) == ["far/m", "large"] and tree["chosen"] == "far/m"
    assert why(tree, "keyless/x").startswith("no key")
    assert "keyless/x no key" in tree["reason"] and "far/m is next" in tree["reason"]
    far = tree["candidates"][0]
    assert far["provider"] == "far" and far["ctx"] == 1000 and far["strength"] == 9
    assert far["score"] is None and far["predicted_usd"] > 0
    large = tree["candidates"][1]
    assert large["provider"] == "local" and large["predicted_usd"] == 0 and large["strength"] == 6


def test_rules_decide_by_what_the_prompt_is(daemon):
    tree = explain(daemon, "smart", "Please review:\n```python\nx = 1\n```\n")
    assert tree["rule"] == "review" and tree["chosen"] == "large"
    assert tree["features"]["code"] == "python"
    tree = explain(daemon, "smart", "drop TABLE users")
    assert tree["chosen"] is None and tree["candidates"] == []
    assert "ask the administrator" in tree["reason"]


def test_private_prompts_stay_and_long_ones_go_where_they_fit(daemon):
    tree = explain(daemon, "smart", headers={"x-hob-private": "1"})
    assert used(tree) == ["large"] and tree["features"]["private"] is True
    assert why(tree, "far/m") == "private: must not leave this machine"
    tree = explain(daemon, "smart", "word " * 1000)
    assert used(tree) == ["large"] and "context of 1000 tokens" in why(tree, "far/m")
    tree = explain(daemon, "near/x", headers={"x-hob-private": "1"})
    assert tree["chosen"] == "near/x"


def test_auto_prints_the_numbers_it_decided_by(daemon):
    tree = explain(daemon, "pick")
    scores = [c["score"] for c in tree["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert tree["chosen"] == "far/m" and "strength 9" in tree["reason"]
    assert "2 * strength 9" in why(tree, "far/m")
    assert set(used(explain(daemon, "auto"))) == {"small", "large"}


def test_a_model_with_fallbacks_and_names_nobody_knows(daemon):
    assert used(explain(daemon, "small")) == ["small", "far/m"]
    tree = explain(daemon, "smal")
    assert tree["chosen"] is None and tree["reason"] == "no model 'smal'; did you mean 'small'?"
    assert "did you mean 'smart'" in explain(daemon, "smrt")["reason"]


def test_bodies_are_read_as_those_of_prompts(daemon):
    for body in ("{", {"messages": []}, {"model": "smart"}):
        status, _, tree = daemon.request("POST", "/v1/hob/route/explain", body)
        assert status == 400 and tree["error"]["message"]
    assert daemon.request("GET", "/v1/hob/route/explain")[0] == 405


def test_the_command_prints_a_table_or_json(daemon, tmp_path):
    code = tmp_path / "x.py"
    code.write_text("def f(x):\n    return len(x)\n\nprint(f([]))\n")
    r = daemon.run("route", "explain", "--model", "smart", "--file", str(code), "--prompt", "please review this")
    assert r.returncode == 0 and "python code" in r.stdout
    assert "rule 'review'" in r.stdout.splitlines()[-1] and r.stdout.splitlines()[-1].startswith("large:")
    r = daemon.run("route", "explain", "-m", "smart", "--private", "--json", "several", "words")
    assert [c["use"] for c in json.loads(r.stdout)["candidates"]].count(True) == 1
    r = daemon.run("route", "explain", "-m", "smart", "--image", "--tools", "what is this?")
    assert ", images, tools" in r.stdout and "cannot do images" in r.stdout
    r = daemon.run("route", "explain", "-m", "gone", "x")
    assert r.returncode == 0 and "nothing can answer: no model 'gone'" in r.stdout
    for wrong in (["route"], ["route", "explain"], ["route", "explain", "--file", "/no/such", "x"]):
        assert daemon.run(*wrong).returncode in (1, 2)
    assert "explain" in daemon.run("route", "--help").stdout


def test_providers_show_their_state_and_no_secret(daemon):
    status, _, tree = daemon.request("GET", "/v1/hob/providers")
    rows = {p["name"]: p for p in tree["providers"]}
    assert status == 200 and {"near", "far", "keyless", "openrouter"} <= set(rows)
    assert rows["far"]["state"] == "ready" and rows["far"]["key"] == "$FAR_KEY"
    assert rows["near"]["local"] is True and rows["far"]["local"] is False
    assert rows["keyless"]["state"] == "no key"
    assert "hidden" not in json.dumps(tree)
    for key in ("kind", "url", "models", "catalogue_age_s", "ttft_ms", "in_flight", "breakers", "connections",
                "quota", "replicas", "spent_today_usd"):
        assert key in rows["far"], key
    assert set(rows["far"]["connections"]) == {"calls", "new", "reused", "http"}
    text = daemon.run("providers").stdout
    assert "keyless" in text and "no key" in text


def test_decisions_are_listed_and_asked_for_in_bounds(daemon):
    assert daemon.request("GET", "/v1/hob/routes/decisions?limit=5")[0] == 200
    for query in ("limit=0", "limit=x", "limit=100000", "model=%zz"):
        assert daemon.request("GET", "/v1/hob/routes/decisions?" + query)[0] == 400
    assert daemon.run("why").returncode == 0


@pytest.mark.parametrize("rule, says", [
    ('regex = "("', "regex '('"),
    ('hours = "25:00-26:00"', "hours '25:00-26:00'"),
    ('days = {"someday"}', "days: 'someday'"),
    ('code = {"pythn"}', "did you mean 'python'"),
    ('class = "fast"', "class 'fast'"),
    ('min_tokens = 9 max_tokens = 3', "min_tokens 9"),
])
def test_malformed_rules_are_errors_of_the_file(tmp_path, rule, says):
    conf = tmp_path / "hob.conf"
    conf.write_text('route "r" {\n candidates = {"x"}\n rule "wrong" { %s use = {"x"} }\n}\n' % rule)
    r = subprocess.run([HOB, "serve", "--test", "--config", str(conf)], capture_output=True, text=True)
    assert r.returncode != 0 and says in r.stderr and 'rule "wrong"' in r.stderr, r.stderr


def test_what_failed_opens_the_breaker_and_is_explained(make_daemon):
    d = make_daemon('provider "dead" { url = "http://127.0.0.1:9/v1" local = true }', model=False)
    body = {"model": "dead/m", "messages": [{"role": "user", "content": "x"}]}
    status = [d.request("POST", "/v1/chat/completions", body)[0] for _ in range(8)]
    assert status[0] == 502 and status[-1] == 503, status
    status, headers, tree = d.request("POST", "/v1/chat/completions", body)
    assert status == 503 and "failed lately" in tree["error"]["message"] and int(headers["retry-after-ms"]) > 0
    dead = next(p for p in d.request("GET", "/v1/hob/providers")[2]["providers"] if p["name"] == "dead")
    assert dead["state"] == "open"
    assert dead["breakers"][0]["model"] == "m" and dead["breakers"][0]["state"] == "open"
    assert dead["breakers"][0]["retry_in_s"] > 0 and dead["breakers"][0]["failures"] >= 5
    assert "dead/m: open" in d.run("providers").stdout
    assert "failed lately" in explain(d, "dead/m")["reason"]
    rows = d.request("GET", "/v1/hob/routes/decisions?limit=3&model=dead%2Fm")[2]["decisions"]
    assert len(rows) == 3 and rows[0]["outcome"] == "failed" and rows[0]["code"] == "unavailable"
    assert [r["id"] for r in rows] == [r["id"] for r in d.request("GET", "/v1/hob/routes/decisions")[2]["decisions"]][:3]
    assert "failed lately" in d.run("why", "dead/m").stdout


def test_answers_and_loads_are_explained_together(make_daemon):
    d = make_daemon('provider "dead" { url = "http://127.0.0.1:9/v1" local = true }\n'
                    'route "smart" { candidates = {"dead/m", "%s"} }\n' % MODEL_NAME)
    status, _, tree = d.request("POST", "/v1/chat/completions", {
        "model": "smart", "max_tokens": 2, "temperature": 0, "messages": [{"role": "user", "content": "Hi"}]})
    assert status == 200, tree
    told = json.loads(d.run("why", "--json", MODEL_NAME).stdout)
    assert {"load", "ready"} <= {x["kind"] for x in told["decisions"]}
    answer = told["answers"][0]
    assert answer["asked"] == answer["route"] == "smart" and answer["model"] == MODEL_NAME
    assert answer["provider"] == "local" and answer["outcome"] == "finished" and answer["cost_usd"] == 0
    assert answer["attempts"][0]["model"] == "dead/m"
    assert answer["attempts"][0]["code"] in ("upstream_unreachable", "upstream")
    assert answer["ttft_ms"] > 0 and answer["total_ms"] >= answer["ttft_ms"]
    lines = d.run("why").stdout.splitlines()
    assert any(" answer " in line and "tried dead/m" in line for line in lines)
    assert any(" load " in line for line in lines)


def test_prefill_speed_is_learnt_and_used(make_daemon):
    d = make_daemon()
    before = explain(d, MODEL_NAME, "word " * 300)["candidates"][0]["predicted_ttft_ms"]
    status, _, tree = d.chat("word " * 300, max_tokens=2)
    assert status == 200, tree
    after = explain(d, MODEL_NAME, "other " * 300)["candidates"][0]["predicted_ttft_ms"]
    assert before > 0 and after > 0 and after != before
