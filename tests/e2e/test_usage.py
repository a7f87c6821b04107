"""What was spent: shown by the API and by `hob usage`, kept over restarts, held within caps."""

import datetime
import json
import sqlite3
import subprocess
import time

import pytest

from conftest import HOB
from fake_upstream import USAGE

TODAY = datetime.date.today
SCHEMA = """
PRAGMA application_id = 1752130084;
PRAGMA user_version = 1;
CREATE TABLE spent (provider TEXT NOT NULL, model TEXT NOT NULL, conversation TEXT NOT NULL,
  day INTEGER NOT NULL, requests INTEGER NOT NULL, tokens_in INTEGER NOT NULL,
  tokens_cached INTEGER NOT NULL, tokens_out INTEGER NOT NULL, cost_nanousd INTEGER NOT NULL,
  estimated_nanousd INTEGER NOT NULL, unpriced INTEGER NOT NULL,
  PRIMARY KEY (day, provider, model, conversation)) STRICT, WITHOUT ROWID;
CREATE TABLE hold (provider TEXT NOT NULL, model TEXT NOT NULL, conversation TEXT NOT NULL,
  request TEXT NOT NULL, id INTEGER PRIMARY KEY, day INTEGER NOT NULL, at_unix_ms INTEGER NOT NULL,
  most_nanousd INTEGER NOT NULL) STRICT;
"""


def number(day):
    return int(day.strftime("%Y%m%d"))


def prepare(d):
    """Yesterday 0.25 USD for one model, today 0.5 for another, and a call that was interrupted."""
    folder = d.home / "state/hob"
    folder.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(folder / "spend.db")
    db.executescript(SCHEMA)
    today, before = number(TODAY()), number(TODAY() - datetime.timedelta(days=1))
    db.execute("INSERT INTO spent VALUES ('or','or/a','c1',?,2,200,50,20,250000000,0,0)", (before,))
    db.execute("INSERT INTO spent VALUES ('or','or/b','c2',?,1,100,0,10,500000000,1000000,0)", (today,))
    db.execute("INSERT INTO hold VALUES ('or','or/b','c2','gen-1',1,?,?,30000000)",
               (today, int(time.time() * 1000)))
    db.commit()
    db.close()


@pytest.fixture
def daemon(make_daemon):
    d = make_daemon("budget { daily = 1 }", model=False)
    return d


def restarted(d):
    d.stop()
    prepare(d)
    return d.start()


def usage(d, query=""):
    status, _, r = d.request("GET", "/v1/hob/usage" + query)
    assert status == 200, r
    return r


def hob(d, *args):
    return subprocess.run([HOB, "usage", *args], env=d.env, capture_output=True, text=True, timeout=30)


def test_a_fresh_daemon_has_spent_nothing(daemon):
    assert usage(daemon)["rows"] == []
    assert usage(daemon)["warning"] is None
    assert "no remote model was used" in hob(daemon).stdout


def test_what_was_spent_before_the_start_is_shown_by_day_and_model(daemon):
    r = usage(restarted(daemon))
    assert [(x["day"], x["model"]) for x in r["rows"]] == [
        (TODAY().isoformat(), "or/b"), ((TODAY() - datetime.timedelta(days=1)).isoformat(), "or/a")]
    assert r["rows"][0]["cost_usd"] == 0.53  # with the interrupted call at its upper bound
    assert r["rows"][0]["estimated_usd"] == 0.031
    assert r["rows"][0]["requests"] == 2
    assert r["rows"][1]["tokens_cached"] == 50
    assert r["caps"] == [{"scope": "day", "limit_usd": 1, "spent_usd": 0.53, "reserved_usd": 0, "state": "ok"}]
    assert len(usage(daemon, "?days=1")["rows"]) == 1
    assert usage(daemon, "?by=provider")["rows"][0]["cost_usd"] == 0.78
    assert [x["conversation"] for x in usage(daemon, "?by=conversation%2Cday")["rows"]] == ["c2", "c1"]
    daemon.kill()  # and the interrupted call counts once
    daemon.start()
    assert usage(daemon, "?by=provider")["rows"][0]["cost_usd"] == 0.78


@pytest.mark.parametrize("query", ["?days=0", "?days=x", "?days=100000", "?by=", "?by=model,", "?by=colour", "?by=%zz"])
def test_a_wrong_question_is_refused(daemon, query):
    status, _, r = daemon.request("GET", "/v1/hob/usage" + query)
    assert status == 400
    assert query[1:].split("=")[0] in r["error"]["message"]


def test_the_command_prints_a_table_with_total_and_caps(daemon):
    restarted(daemon)
    r = hob(daemon)
    assert r.returncode == 0, r.stderr
    lines = r.stdout.splitlines()
    assert lines[0].split() == ["DAY", "PROVIDER", "MODEL", "REQUESTS", "IN", "CACHED", "OUT", "COST", "USD", "ESTIMATED"]
    assert lines[1].split() == [TODAY().isoformat(), "or", "or/b", "2", "100", "0", "10", "0.53", "0.031"]
    assert "total 0.78 USD, of which 0.031 are estimated" in r.stdout
    assert lines[-1].split() == ["day", "1.00", "0.53", "0.00", "ok"]
    tree = json.loads(hob(daemon, "--json", "--days", "1", "--by", "provider").stdout)
    assert tree["rows"][0]["cost_usd"] == 0.53
    assert hob(daemon, "--days", "none").returncode == 2
    assert hob(daemon, "--by", "colour").returncode != 0
    assert hob(daemon, "--by", "day&x=1").returncode == 2
    assert hob(daemon, "operand").returncode == 2


def test_a_reload_brings_new_caps(daemon):
    restarted(daemon)
    daemon.write_config("budget { daily = 0.5 monthly = 2 }")
    daemon.process.send_signal(1)
    deadline = time.monotonic() + 20
    while len(usage(daemon)["caps"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [(c["scope"], c["state"]) for c in usage(daemon)["caps"]] == [("day", "hard"), ("month", "ok")]


def test_damaged_accounts_are_set_aside_and_said(daemon):
    daemon.stop()
    (daemon.home / "state/hob").mkdir(parents=True, exist_ok=True)
    (daemon.home / "state/hob/spend.db").write_bytes(b"no database" * 1000)
    daemon.start()
    assert "was" in usage(daemon)["warning"] and "damaged" in usage(daemon)["warning"]
    assert "damaged" in hob(daemon).stderr
    assert list((daemon.home / "state/hob").glob("spend.db.corrupt-*"))


# ---- through the daemon, against an upstream that says what it costs

# Strict: once the dispatcher reserves and settles, this mark makes the suite fail and must go.


def remote(budget, url):
    return (f'provider "fake" {{ kind = "openai" url = "{url}" key_env = "FAKE_KEY"\n first_byte_timeout = 5 }}\n'
            'model "fake/ok" { price_input = 1 price_output = 4 }\n'
            f"budget {{ {budget} }}\n")


def ask(d, **more):
    return d.ask("fake/ok", **{"max_tokens": 100, **more})


def test_an_answer_is_counted_with_what_its_provider_says(make_daemon, up):
    d = make_daemon(remote("daily = 1", up.url), {"FAKE_KEY": "sk"}, model=False)
    status, _, r = ask(d)
    assert status == 200, r
    rows = usage(d, "?by=provider")["rows"]
    assert rows[0]["provider"] == "fake"
    assert rows[0]["cost_usd"] == pytest.approx(USAGE["cost"])
    assert rows[0]["tokens_out"] == USAGE["completion_tokens"]
    d.stop()
    d.start()
    assert usage(d, "?by=provider")["rows"] == rows


def test_a_cap_that_is_used_up_refuses_and_says_so(make_daemon, up):
    d = make_daemon(remote("daily = 0.000001", up.url), {"FAKE_KEY": "sk"}, model=False)
    status, headers, r = ask(d)
    assert status == 402, r
    assert r["error"]["code"] == "payment_required"
    assert "today's cap" in r["error"]["message"]
    assert headers["x-should-retry"] == "false"
    assert usage(d)["rows"] == []
