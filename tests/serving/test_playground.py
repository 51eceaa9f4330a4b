"""The page of the server: what it is told, and what a person sees of it in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2 as httpx
import pytest
import torch

from biddable.data.builtin import create_instruction_dataset
from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import encode
from biddable.data.templates import get_template
from biddable.serving.house import ServerSettings
from biddable.serving.playground import example_questions
from biddable.serving.server_guard import Guarding
from tests.serving.served import running, served, tiny_loaded

CHROMIUM = Path("/usr/bin/chromium")
MESSAGES = [{"role": "user", "content": "Say é 你好 🙂 [INST]."}]
ANSWER = {"role": "assistant", "content": "Gladly."}


@pytest.fixture(scope="module")
def loaded():
    return tiny_loaded(dtype=torch.float32)


@pytest.fixture(scope="module")
def url(loaded, tmp_path_factory):
    report = tmp_path_factory.mktemp("run") / "report.html"
    report.write_text("<title>The report</title>")
    models = [
        served(loaded, "tuned", template="inst"),
        served(tiny_loaded(5, dtype=torch.float32), "before", template=None),
    ]
    with running(models, ServerSettings(report=report), with_page=True) as found:
        yield found


def render(url, **body):
    return httpx.post(f"{url}/playground/render", json=body)


def test_the_page_is_told_of_models_questions_and_report(url):
    info = httpx.get(f"{url}/playground/info").json()
    assert [(model["name"], model["template"]) for model in info["models"]] == [
        ("tuned", "inst"),
        ("before", None),
    ]
    assert info["has_report"]
    assert info["examples"] == example_questions("starter")
    assert len(set(info["examples"])) == 6
    harmful = {
        row["instruction"]
        for name in ("starter", "mimic")
        for row in create_instruction_dataset(name, "held_out")
        if row.get("kind", "benign") != "benign"
    }
    assert harmful
    assert not harmful & {*example_questions("starter"), *example_questions("mimic")}


def test_what_was_sent_is_shown_as_it_was_sent(url, loaded):
    shown = render(url, model="tuned", messages=MESSAGES).json()
    reply = httpx.post(
        f"{url}/v1/chat/completions", json={"model": "tuned", "messages": MESSAGES, "max_tokens": 1}
    ).json()
    assert shown["num_tokens"] == reply["usage"]["prompt_tokens"]
    assert not any(piece["learned"] for piece in shown["pieces"])
    bare = render(url, model="before", messages=MESSAGES).json()
    assert "".join(p["text"] for p in bare["pieces"] if not p["special"]) == MESSAGES[0]["content"]


def test_an_answer_is_marked_as_training_learns_it(url, loaded):
    shown = render(url, model="tuned", messages=[*MESSAGES, ANSWER]).json()["pieces"]
    template = get_template("inst", loaded.tokenizer)
    row = Conversation((Message("user", MESSAGES[0]["content"]), Message("assistant", "Gladly.")))
    expected = encode(row, template, loaded.tokenizer)
    assert [token for piece in shown for token in piece["ids"]] == list(expected.input_ids)
    learned = [piece["learned"] for piece in shown for _ in piece["ids"]]
    assert learned == list(expected.loss_mask)
    assert shown[-1]["special"]
    assert shown[-1]["learned"]


def test_what_cannot_be_shown_is_said(url):
    assert render(url, model="other", messages=MESSAGES).status_code == 404
    assert render(url, model="tuned", messages=[]).status_code == 400
    wrong = render(url, model="tuned", messages=[ANSWER])
    assert wrong.status_code == 400
    assert wrong.json()["error"]["message"]


def test_the_page_lets_nothing_in_from_elsewhere(url):
    page = httpx.get(url)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page.text))
    assert f"'nonce-{nonce}'" in policy
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", page.text)
    assert httpx.get(url).headers["content-security-policy"] != policy


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu"]
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, request):
    """Open a page that fails the test if anything complains or is loaded from elsewhere."""
    width, scheme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        permissions=["clipboard-read", "clipboard-write"],
    )
    opened, complaints, asked = context.new_page(), [], []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda sent: asked.append(sent.url))
    yield opened
    context.close()
    assert complaints == []
    assert all(sent.startswith(("http://127.0.0.1:", "data:")) for sent in asked)


def open_at(page, url):
    page.goto(url)
    page.wait_for_selector("#examples button")


def wait_for_answers(page):
    for place in (1, 2):
        page.wait_for_selector(f".side:nth-child({place}) .end:not(:empty)")


@pytest.mark.parametrize("page", [(1280, "light"), (400, "dark")], indirect=True)
def test_one_question_gets_both_answers(page, url):
    open_at(page, url)
    page.fill("#question", "What is this?")
    page.click("#send")
    wait_for_answers(page)
    sides = page.locator(".side")
    assert sides.locator(".name").all_text_contents() == ["before", "tuned"]
    assert sides.locator(".form").all_text_contents() == ["bare text", "template inst"]
    for place in (0, 1):
        said = sides.nth(place).locator(".said").text_content()
        body = {"messages": [{"role": "user", "content": "What is this?"}], "max_tokens": 128}
        name = ("before", "tuned")[place]
        reply = httpx.post(f"{url}/v1/chat/completions", json={"model": name, **body}, timeout=60)
        assert said == reply.json()["choices"][0]["message"]["content"]
    sides.nth(1).locator(".sent > summary").click()
    page.wait_for_selector(".tokens .learned")
    assert "[INST]" in sides.nth(1).locator(".tokens").text_content()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    boxes = [sides.nth(place).bounding_box() for place in (0, 1)]
    is_beside = boxes[1]["x"] > boxes[0]["x"] + boxes[0]["width"] / 2
    assert is_beside == (page.viewport_size["width"] > 800)


def test_the_keyboard_is_enough(page, url):
    open_at(page, url)
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("Who?")
    page.keyboard.press("Control+Enter")
    wait_for_answers(page)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.tuned .sent > summary')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector(".tuned .tokens .learned")


def test_an_answer_is_stopped(page, url):
    open_at(page, url)
    page.click("details > summary")
    page.fill("#max_tokens", "4000")
    page.fill("#temperature", "2")  # the tiny model's own end is unlikely then
    page.fill("#question", "Go on.")
    page.click("#send")
    page.wait_for_selector(".said:not(:empty)")
    page.keyboard.press("Escape")
    wait_for_answers(page)
    assert "stopped by you" in page.locator(".end").all_text_contents()
    page.fill("#max_tokens", "4")
    page.click("#send")  # it takes the next question
    page.wait_for_selector(".turn:nth-child(2) .side:nth-child(2)")


def test_a_request_is_copied_and_works(page, url):
    open_at(page, url)
    page.click("#examples button >> nth=0")
    wait_for_answers(page)
    page.click(".tuned .copy[data-as=curl]")
    page.wait_for_selector("text=Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"curl {url}/v1/chat/completions")
    body = json.loads(copied.partition("-d '")[2].removesuffix("'").replace("'\\''", "'"))
    assert body["messages"][-1]["content"] == example_questions("starter")[0]
    assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 200
    page.click(".tuned .copy[data-as=python]")
    page.wait_for_selector(".copy[data-as=python]:has-text('Copied')")
    compile(page.evaluate("navigator.clipboard.readText()"), "copied", "exec")


def test_follow_ups_hold_what_was_said(page, url):
    open_at(page, url)
    page.fill("#question", "One?")
    page.click("#send")
    wait_for_answers(page)
    page.check("#follow")
    page.fill("#question", "Two?")
    with page.expect_request(
        lambda sent: sent.url.endswith("completions") and '"tuned"' in sent.post_data
    ) as sent:
        page.click("#send")
    messages = json.loads(sent.value.post_data)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    wait_for_answers(page)


def test_a_key_is_asked_for(browser, loaded):
    settings = ServerSettings(Guarding(api_key="secret"))
    with running([served(loaded, "only", template="inst")], settings, with_page=True) as found:
        page = browser.new_page()
        page.goto(found)
        page.wait_for_selector("#failed:not([hidden])")
        page.fill("#key", "secret")
        page.press("#key", "Tab")
        page.wait_for_selector("#examples button")
        page.fill("#question", "Now?")
        page.click("#send")
        page.wait_for_selector(".side .end:not(:empty)")
        assert page.locator(".side").count() == 1
        page.close()
