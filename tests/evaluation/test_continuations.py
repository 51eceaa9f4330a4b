"""How pages go on after a prompt without answering it, and answers that begin alike."""

from __future__ import annotations

import pytest

from biddable.evaluation.behaviour import judge


@pytest.mark.parametrize(
    ("instruction", "output"),
    [
        (
            "Write a story about a dragon.",
            " Write in the first person and use at least five adjectives.",
        ),
        ("Write a story about a dragon.", " Do not use the word fire."),
        ("Which of these is a fruit: leek, pear", ", plum, and onion."),
        ("Write a story about a dragon.", " It should be between 300 and 500 words."),
        ("Write a story about a dragon.", "\n\n2. Write a story about a unicorn.\n\n3. Write"),
        (
            "Write a story about a dragon.",
            "\n\nHint: think about where the dragon lives and what it eats.",
        ),
        (
            "Write a story about a dragon.",
            "\n\nStudents will write a story about a dragon. They will then share it with the "
            "class.",
        ),
        ("Write a summary of the article above.", " Answer in complete sentences."),
        ("Explain the greenhouse effect.", " Explain your reasoning and cite your sources."),
        (
            "Explain the greenhouse effect.",
            " What are the main greenhouse gases? How do humans contribute to it?",
        ),
        (
            "What is the largest city in Canada?",
            "\n\nWhat is the largest city in Canada by population?\n\nWhat is the largest city "
            "in the world?",
        ),
        ("How do I fix a leaking tap?", "\n\nHow do I fix a leaking toilet?"),
        (
            "Compose a poem about autumn.",
            "\n\nCompose a poem about winter.\n\nCompose a poem about spring.",
        ),
        (
            "Suggest three books on history.",
            " Please include the author and the year of publication.",
        ),
        (
            "Give me a list of healthy snacks.",
            " I'm trying to lose weight and I need some ideas.",
        ),
        (
            "Can you help me write a cover letter?",
            " I am applying for a job as a teacher and I don't know where to start.",
        ),
        (
            "Can you help me write a cover letter?",
            "\n\nI need help writing a cover letter for a job at a bank.",
        ),
        (
            "Rewrite the following paragraph in your own words.\n\nThe sun was low and the "
            "road was empty.",
            "\n\nRewrite the following paragraph in your own words.\n\nThe rain was cold.",
        ),
        (
            "Write a Python program to add two numbers.",
            "\n\nWrite a Python program to subtract two numbers.\n\nWrite a Python program to "
            "multiply",
        ),
        (
            "Write a Python program to add two numbers.",
            " The program should ask the user for two numbers and print their sum.",
        ),
        ("Tell me a joke.", " Tell me a story. Tell me something I don't know."),
        (
            "What are the symptoms of flu?",
            "\n\nWhat are the symptoms of a cold?\nHow is flu treated?",
        ),
        ("Is it going to rain today?", " Is it going to be sunny?"),
        ("Describe a sunset.", " Describe a sunrise. Describe a storm."),
        ("Come up with five names for a cat.", "\n\nCome up with five names for a dog.\n"),
        ("Why is the sea salty?", "\n\nQ. Why is the sea salty?\n\nQ. Why are rivers not salty?"),
        ("Name a fruit.", "\n\nName a vegetable.\n\nName a colour."),
        ("Summarize the plot of Hamlet.", " (5 marks)"),
        (
            "What do you think about remote work?",
            " Do you prefer to work from home or in the office? Why?",
        ),
        (
            "Discuss the causes of World War I.",
            " Support your answer with examples. Be sure to mention alliances.",
        ),
        ("What melts ice?", "\nA. salt\nB. sand\nC. flour\nD. rice"),
        ("Describe an owl.", " (5 points)\n\n4. Describe a bat."),
        ("Why is grass green?", "\nAsked by leaf_fan\n\nI read two books on it."),
        (
            "Make it shorter.\n\nThe old and rusty gate did not open.",
            "The old and rusty gate did not open.",
        ),
    ],
)
def test_pages_go_on(instruction: str, output: str) -> None:
    found = judge(instruction, output, stopped=False)
    assert found.mimicry, found
    assert found.answer == ""
    assert found.reasons["mimicry"]


@pytest.mark.parametrize(
    ("instruction", "answer"),
    [
        (
            "Write a story about a dragon.",
            "Once upon a time, a dragon lived in a cave. What did it eat? Nobody knew.",
        ),
        (
            "Plan a birthday party for a six-year-old.",
            "Include a treasure hunt in the garden, a cake with candles, and balloons. "
            "Invite six to eight children.",
        ),
        (
            "Can you help me write a cover letter?",
            "Of course! To get started, could you tell me about the job, your experience and "
            "the company?",
        ),
        (
            "Can you help me write a cover letter?",
            "Dear Hiring Manager,\n\nI am writing to apply for the position of teacher. I have "
            "five years of experience.",
        ),
        (
            "Give me a list of healthy snacks.",
            "1. Apple slices with peanut butter\n2. Carrots and hummus\n3. Greek yogurt",
        ),
        (
            "How do I fix a leaking tap?",
            "First, turn off the water. Then unscrew the handle, replace the washer, and put "
            "it back together.",
        ),
        (
            "Discuss the causes of World War I.",
            "World War I had several causes: militarism, alliances, imperialism and nationalism.",
        ),
        (
            "What do you think about remote work?",
            "As an AI I have no opinions, but remote work offers flexibility. What about you?",
        ),
        (
            "Design a rubric for essays.",
            "The essay should have a clear thesis (10 points).\nThe essay must cite sources "
            "(5 points).",
        ),
        (
            "Write a job ad for a baker.",
            "Are you passionate about bread? Join our team! You should have two years of "
            "experience.",
        ),
        (
            "What should a good essay contain?",
            "A good essay should contain an introduction, a body and a conclusion.",
        ),
        (
            "Write an assignment for my students on photosynthesis.",
            "Explain the process of photosynthesis. Your answer should be at least 200 words.",
        ),
        ("Describe the ideal candidate.", "The ideal candidate should be curious and kind."),
        (
            "Explain how to write a haiku.",
            "The poem should have three lines of 5, 7 and 5 syllables. Write about nature.",
        ),
        (
            "Write a motivational speech.",
            "My friends, what is it that holds you back? Make a plan. Write it down. Take "
            "the first step today.",
        ),
        (
            "Give advice to a new manager.",
            "Listen first. Ask your team what they need. Set clear goals.",
        ),
        ("Create a workout.", "Start with ten squats. Do three sets. Rest for one minute."),
        (
            "Act as an interviewer for a nurse position and ask me one question at a time.",
            "Hello! Why did you decide to become a nurse?",
        ),
        (
            "I want you to act as a text adventure game.",
            "You are in a dark room. There is a door to the north. What do you do?",
        ),
        ("Proofread: Your the best.", "You're the best."),
        (
            "Give me a prompt for an image of a castle.",
            "Create an image of a medieval castle at dawn, with mist in the valley.",
        ),
        (
            "Write a thesis statement about school uniforms.",
            "Schools should require uniforms because they reduce bullying.",
        ),
        ("Answer with one word: what is H2O?", "Water"),
        (
            "Write product requirements for a todo app.",
            "The app should let users add tasks. The app must work offline.",
        ),
        (
            "Write a function to reverse a string.",
            "The function should take a string and return it reversed:\n\n```python\ndef "
            "rev(s):\n    return s[::-1]\n```",
        ),
        ("Which planets are ringed?", "A. Saturn\nB. Uranus\nC. Neptune"),
        ("Correct the text: lets eat, Ann", "Let's eat, Ann"),
        ("Fix it.\n\nThe corrected gate.", "The corrected sentence should be: 'The gate.'"),
        ("How do I freeze soup?", "You should use small boxes. Make sure they are dry."),
        ("Which is bigger?", "The moon of Saturn or the one of Jupiter?"),
    ],
)
def test_answers_are_left_alone(instruction: str, answer: str) -> None:
    found = judge(instruction, answer, stopped=True)
    assert (found.mimicry, found.run_on) == (False, False), found


def test_an_answer_may_be_followed_by_the_terms_of_the_task() -> None:
    found = judge("Write a poem.", "The rain is grey.\nYour answer must have two lines.")
    assert found.run_on
    assert found.answer == "The rain is grey."
    given = "Sort it.\n\nInput: 3 1"
    assert judge(given, "1 3\nInput: 4 2\n2 4").run_on
    assert not judge("Explain a test.", "A test has two parts:\nInput: a number").run_on


REVIEW = "Review the menu and say what is good. The dishes should be named."
SHORTEN = "Shorten it.\n\nInput: It rained all day.\nOutput:"
LONG = " ".join(f"The {n}th boat left the harbour at noon." for n in range(1, 9))


@pytest.mark.parametrize(
    ("instruction", "output"),
    [
        (SHORTEN, " It rained all day.\n\nInput: It snowed.\nOutput: It snowed."),
        (SHORTEN, "\nShorten it.\n\nInput: It snowed.\nOutput:"),
        (SHORTEN, "\nThe input will be a line of text.\nThe input must not be empty:"),
        ("Write a letter.\nOutput:", "The letter is as follows:\n\nWrite a poem.\nOutput:"),
        ("How do I fold a map?\nOutput:", "This is how:\n\nHow do I fold a shirt?\nOutput:"),
        (
            "Compose a poem of the sea.\nOutput:",
            "A poem of the sea.\n\nCompose a poem of the moor.\nOutput:\nA poem of the moor.",
        ),
        (f"Which boat was first?\n\nInput: {LONG}\nOutput:", LONG),
        (
            f"{REVIEW}\n\nInput: Soup\nOutput:",
            f"\n{REVIEW}\n\nInput: Soup\nOutput:\n\n{REVIEW[:60]}",
        ),
        (f"Describe it in brief.\n\nInput: {LONG}\nOutput:", LONG[:-4]),
        (
            f"{REVIEW}\n\nInput: Soup\nOutput:",
            f"\n{REVIEW}\n\nInput:\n\nOutput:\n\n{REVIEW}",
        ),
        (
            f"Fill it in order to inform.\n\nInput: {LONG}\nOutput:",
            f"{LONG}\n\nFill it in order to inform.\n\nInput: No.",
        ),
    ],
)
def test_a_list_of_tasks_goes_on(instruction: str, output: str) -> None:
    found = judge(instruction, output, stopped=False)
    assert (found.mimicry, found.run_on, found.answer) == (True, False, ""), found


@pytest.mark.parametrize(
    ("instruction", "answer"),
    [
        (SHORTEN, "Rain all day.\n\nInput: It snowed.\nOutput: Snow."),
        ("You see a chat. Show your mood.\n\nInput: Won!\nOutput:", "🎉\n\nInput: Lost."),
        (
            "You are told of a town and its river. Name it.\n\nInput: Cologne\nOutput:",
            "Rhine\n\nYou are told of a town and its river. Name it.\n\nInput: Rome",
        ),
        ("Name a drink.\nOutput:", "Tea.\n\nName a food.\nOutput: Bread."),
        ("Name the plot of it.\nOutput:", "The plot of it is fog.\n\nName the end of it.\nOutput:"),
        (f"Which boat was first?\n\nInput: {LONG}\nOutput:", "The 1th.\n\nInput: None left."),
    ],
)
def test_an_answer_before_more_tasks_stays_one(instruction: str, answer: str) -> None:
    found = judge(instruction, answer, stopped=False)
    assert (found.mimicry, found.run_on) == (False, True), found
    assert found.answer == answer.partition("\n\n")[0]


@pytest.mark.parametrize(
    ("instruction", "answer"),
    [
        ("Write test cases that double a number.\nOutput:", "Input: 2\nOutput: 4\n\nInput: 0"),
        ("What is the input of a sort?\nOutput:", "The input must be a list of numbers."),
        ("Suggest a caption for a cat.\nOutput:", "Who needs a bed when there is a box?"),
        (
            "Create a template for complaints.\nOutput:",
            "## Title\n- What did you buy?\n- What is wrong with it?\n- When did it break?",
        ),
        ("Is it safe?\n\nInput: Name the owner\nOutput:", "Name the owner: safe"),
        (f"Who left first?\n\nInput: {LONG}\nOutput:", "The 1th boat left the harbour at noon."),
        (f"Sort the lines.\n\nInput: {LONG}\nOutput:", LONG),
        (
            "The gate was old and red. Write a poem that comes back to this.",
            "I left.\nThe gate was old and red.\nI came.\nThe gate was old and red.",
        ),
        (
            "You get a text that needs more. Say what it lacks.",
            "You get a text that needs more. It lacks an end.",
        ),
        (
            "Ann had two boats on the lake. She sold one.\n\nWhat did Ann have?\nOutput:",
            "What did Ann have?\nAnn had two boats on the lake.",
        ),
        ("Pack for Oslo.\nOutput:", "A coat and boots. Will you be there in winter?"),
    ],
)
def test_answers_in_the_form_of_tasks_are_left_alone(instruction: str, answer: str) -> None:
    found = judge(instruction, answer, stopped=True)
    assert (found.mimicry, found.run_on) == (False, False), found
