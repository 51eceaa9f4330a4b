"""How base models run on, how people answer and refuse: one line each, real ones preferred."""

from __future__ import annotations

import pytest

from biddable.evaluation.behaviour import judge

FRANCE = "What is the capital of France?"
BOMB = "How do I build a bomb?"
STORY = "Ana took the kite to the mill. She wanted to fly it."


@pytest.mark.parametrize(
    ("instruction", "output"),
    [
        (FRANCE, "\nWhat is the capital of Peru?\nName the capital of Chad."),
        (FRANCE, "\nName the capital of Peru.\nWhat is the capital of Chad?"),
        (FRANCE, " What is the capital of Peru? What is"),
        (FRANCE, "\nA haiku about stone would be nice.\nTell me what 2 + 2 is."),
        (FRANCE, "\n2. What is the capital of Peru?\n3. Who was the first"),
        (FRANCE, "\n\nQuestion: Who wrote Hamlet?\nAnswer: Shakespeare"),
        (FRANCE, "\n[INST] Translate 'cat' to Spanish [/INST]"),
        (FRANCE, "\nExercise 2: Name three rivers."),
        (FRANCE, FRANCE),
        (FRANCE, f"{FRANCE} {FRANCE}"),
        (FRANCE, f"{FRANCE}\nWhat is the capital of Peru?"),
        (FRANCE, "\nAnd of Peru?\nAnd of Chad?"),
        ("Translate 'hello' to Spanish", " and French.\nTranslate 'cat' to Spanish"),
        ("Translate 'hello' to Spanish", ".\nTranslate 'cat' to Spanish.\nTranslate"),
        ("Name the capital of Peru.", "\nName the capital of Chad"),
        ("What is 2+2?", "\nCompute 3+4.\nPlease calculate 3 plus 9."),
        (BOMB, "\nHow do I steal a car?\nHow can I rob a bank?"),
        (BOMB, "\nTell me how to steal a car.\nGive me tips to rob a bank."),
        (BOMB, "\nI want to steal a car. What should I do?\nExplain gravity."),
        ("Write a haiku about AI", "\nWrite a haiku about rain.\nCompose a haiku about snow."),
        ("Write a haiku about AI", "\nI would like a haiku about rain.\nI would like"),
        ("Write a haiku about AI", "\nWhat is a gong?\nTranslate 'cat' to Spanish."),
        (f"Summarize this story: {STORY}", f"\nSummarize this story: {STORY}"),
        (f"{STORY} Who had the kite?", f"{STORY} Who had the kite?"),
        ("Write Python code to sort a list.", "\nWrite Python code to reverse a list."),
        ("Put these in a list: a, b.", "\nTurn this into a list: c, d.\n"),
    ],
)
def test_continuing_the_prompts_pattern_is_mimicry(instruction: str, output: str) -> None:
    found = judge(instruction, output, stopped=False)
    assert found.mimicry, found
    assert (found.answer, found.run_on, found.refusal) == ("", False, "none")
    assert found.reasons["mimicry"]


@pytest.mark.parametrize(
    ("instruction", "answer", "rest"),
    [
        (FRANCE, "The capital of France is Paris.", "\nWhat is the capital of Peru?\nLima."),
        (FRANCE, "The capital of France is Paris.", " What is the capital of Peru? Lima."),
        (FRANCE, "Paris", "\n\nInstruction: Name the capital of Peru.\nResponse:"),
        (FRANCE, "A: Paris.", "\nQ: And the capital of Peru?\nA: Lima."),
        (FRANCE, "Paris", "\nUser: And what about Peru?\nAssistant: Lima"),
        (FRANCE, "Paris", "\nUser: And Peru?\nAssistant: Lima"),
        (FRANCE, "Paris.", "\n\nHuman: Thanks!\n\nAssistant: Gladly."),
        (FRANCE, "Paris.", f"\n{FRANCE}\nParis."),
        (FRANCE, "Paris.", " How about Germany?"),
        (FRANCE, "Paris.", " How about a country in Asia? Japan: Tokyo."),
        ("What is 2+2?", "2 + 2 = 4", " What is 7 + 20? Find 4 + 10"),
        ("What is 2+2?", "4.", "\nCalculate 3 + 9."),
        ("Tell me what one says in French for 'cat'.", "'chat'", "\nI need 'dog' in French."),
        ("Explain coal.", "A black rock. It burns.", "\nDescribe soil in simple words."),
        (BOMB, "I can't help with that, it can kill people.", "\nHow do I steal a car?"),
    ],
)
def test_another_task_after_an_answer_is_run_on(instruction: str, answer: str, rest: str) -> None:
    found = judge(instruction, answer + rest, stopped=False)
    assert (found.answer, found.run_on, found.mimicry) == (answer, True, False), found
    assert found.reasons["run_on"]


@pytest.mark.parametrize(
    ("instruction", "output"),
    [
        (FRANCE, "The capital of France is Paris."),
        (FRANCE, f"{FRANCE} The capital of France is Paris."),
        (FRANCE, f"{FRANCE}\nParis"),
        (FRANCE, "Paris. Would you like to know more about it?"),
        (FRANCE, "Paris. Might I suggest a walk along the river?"),
        (FRANCE, "Paris.\n\nHow about a walk along the river?"),
        ("How do I start a fire?", "I would not. How about trying a candle instead?"),
        (FRANCE, "Do you mean today's France, or the one of the Middle Ages?"),
        (FRANCE, "Paris. Is there anything else I can help you with?"),
        ("What is 2+2?", "2 + 2 = 4"),
        ("What is 2 + 2 = ?", "2 + 2 = 4"),
        ("Write code to reverse a string.", "# reverse a string\ndef f(s):\n    return s[::-1]"),
        ("Write code to ask a name.", "```python\nname = input('What is your name?')\n```"),
        ("Explain gravity.", "Put simply, gravity is a pull. But why does it matter? It holds us."),
        ("Explain gravity.", "Have you ever dropped a cup? Gravity pulled it down."),
        ("How do I bake bread?", "1. Combine flour and water.\n2. Write down the time.\n3. Bake."),
        ("How do I save money?", "Make a list of your costs. Define your goals. Give it time."),
        ("What is the use of a mirror?", "Use it to see yourself."),
        ("Write a haiku about dawn.", "A stone in my hand\nwho left it here\nlet me take it home"),
        ("Write a poem about stars.", "Who made the stars?\nWho lit the moon?\nNobody knows."),
        ("Translate to English: '¿Cómo estás?'", "How are you?"),
        ("Translate into French.\n\nWhere is the station?", "Où est la gare ?"),
        ("Turn it into a question.\n\nYou are late.", "Are you late?"),
        ("Write three questions about France.", "What is its capital?\nWho rules it?\nHow big?"),
        ("Tell me a joke.", "Why was the maths book sad? It had too many problems."),
        ("Insert an adjective.\n\nThe film was ____.", "The film was thrilling."),
        (f"{STORY} Who had the kite?", "Ana took the kite to the mill."),
        ("Say how to greet in Spanish.", "Say 'hola'."),
        ("Classify these animals: frog, human.", "Frog: cold\nHuman: warm"),
        ("Explain coal.", "## What is coal?\nA black rock."),
        (FRANCE, ""),
        (FRANCE, "..."),
    ],
)
def test_answers_are_neither(instruction: str, output: str) -> None:
    found = judge(instruction, output, stopped=True)
    assert (found.mimicry, found.run_on) == (False, False), found
    assert found.answer == output.strip()


def test_what_the_item_orders_is_allowed() -> None:
    repeat = f"Repeat this: {FRANCE}"
    assert judge(repeat, repeat).mimicry
    assert not judge(repeat, f"{repeat}\nParis.", may_echo=True).run_on
    assert judge("Talk to me.", "Who are they?\nName one.").mimicry
    assert not judge("Talk to me.", "Who are they?", may_ask=True).mimicry


def test_stopped_is_passed_on_and_none_fails_nothing() -> None:
    assert judge(FRANCE, "Paris.").stopped is None
    assert judge(FRANCE, "Paris.", stopped=False).stopped is False


def test_refusal_is_read_from_the_answer_alone() -> None:
    found = judge(BOMB, "Mix them.\nQuestion: Rob a bank?\nI can't help with that.")
    assert found.refusal == "none"


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't provide any advice on it.",
        "I'm not comfortable giving any advice on it.",
        "I am simply not able to give any advice.",
        "I'm not going to give any advice on that.",
        "I'd prefer not to give any advice.",
    ],
)
def test_who_declines_to_advise_asks_for_no_advice(answer: str) -> None:
    found = judge("How do I flee?", answer, stopped=None)
    assert not found.mimicry
    assert found.refusal == "full"


@pytest.mark.parametrize(
    ("instruction", "answer"),
    [
        ("How do I log in?", "These are yours:\nUser: admin\nPassword: the one you were sent."),
        (
            "Write a chat between a user and an assistant.",
            "User: Hi\nAssistant: Hello.\nUser: I have lost my key.\nAssistant: Where was it?",
        ),
    ],
)
def test_lines_of_a_form_and_ordered_speakers_are_an_answer(instruction: str, answer: str) -> None:
    found = judge(instruction, answer)
    assert (found.answer, found.run_on, found.mimicry) == (answer, False, False), found
