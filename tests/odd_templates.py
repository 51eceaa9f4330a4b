"""Chat templates with the habits of many families, written for these tests."""

from __future__ import annotations

_LOOP = "{% for m in messages %}"
_PROMPT = "{% if add_generation_prompt %}"

WORKING = {
    # Granite's way: a role between two tokens, one token ends every turn.
    "role between tokens": (
        _LOOP + "<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n"
        "{% endfor %}" + _PROMPT + "<|start_of_role|>assistant<|end_of_role|>{% endif %}"
    ),
    # Phi-4-mini's way: tokens put together from the role, end-of-text at the very end.
    "tokens put together": (
        _LOOP + "{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}"
        "{# <|system|> <|user|> #}"
    ),
    # Kimi's way: another token opens each role's turn.
    "a token for each role": (
        _LOOP
        + "<|im_{{ m.role }}|>{{ m.role }}<|im_middle|>{{ m.content }}<|im_end|>{% endfor %}"
        + _PROMPT
        + "<|im_assistant|>assistant<|im_middle|>{% endif %}{# <|im_user|> <|im_system|> #}"
    ),
    # Llama 2's way: brackets of ordinary text, contents stripped, the system message moved.
    "brackets": (
        "{% set ns = namespace(s='') %}" + _LOOP + "{% if m.role == 'system' %}"
        "{% set ns.s = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}{% elif m.role == 'user' %}"
        "<s>[INST] {{ ns.s + m.content.strip() }} [/INST]{% set ns.s = '' %}"
        "{% else %} {{ m.content.strip() }} </s>{% endif %}{% endfor %}"
    ),
    # OLMo's way: a line of text names the role, only answers end with a token.
    "lines name the role": (
        "{{ bos_token }}" + _LOOP + "<|{{ m.role }}|>\n{{ m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
        "{% if not loop.last or m.role != 'assistant' %}{{ '\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    # Vicuna's way: words name the role.
    "words name the role": (
        "{% if messages[0].role != 'system' %}A chat.{% endif %}"
        + _LOOP
        + "{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %} USER: "
        "{{ m.content }}{% else %} ASSISTANT: {{ m.content }}</s>{% endif %}{% endfor %}"
        + _PROMPT
        + " ASSISTANT: {% endif %}"
    ),
    # Idefics' way: contents are lists of parts.
    "contents in parts": (
        _LOOP + "{{ m.role | capitalize }}: {% for part in m.content %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
        "<end_of_utterance>\n{% endfor %}" + _PROMPT + "Assistant: {% endif %}"
    ),
    # Gemma 3's way: the system message opens the first question, turns alternate.
    "system in the first question": (
        "{{ bos_token }}{% set first = '' %}{% if messages[0].role == 'system' %}"
        "{% set first = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
        + _LOOP
        + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ first if loop.first }}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        + _PROMPT
        + "<start_of_turn>model\n{% endif %}{# <s> #}"
    ),
    # Mistral's newer way: the system message opens the last question, so history changes.
    "system in the last question": (
        "{% set ns = namespace(s='', last=0) %}" + _LOOP + "{% if m.role == 'system' %}"
        "{% set ns.s = m.content + '\n\n' %}{% elif m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}<s>"
        + _LOOP
        + "{% if m.role == 'user' %}[INST]{{ ns.s if loop.index0 == ns.last }}{{ m.content }}"
        "[/INST]{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
        "{# <|pad|> #}"
    ),
    # Qwen3's way: the last answer gets an empty thought, earlier ones lose theirs.
    "thoughts lost": (
        _LOOP + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
        "<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
        "{% endfor %}" + _PROMPT + "<|im_start|>assistant\n{% endif %}"
    ),
    # Nemotron's way: the prompt opens a thought unless told not to.
    "thoughts switched": (
        _LOOP + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}</think>{% else %}"
        "<think></think>{% endif %}{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        + _PROMPT
        + "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}"
        "<think></think>{% else %}<think>\n{% endif %}{% endif %}"
    ),
    # GPT-OSS's way: a channel before the text, the last answer ends with a token of its own.
    "channels": (
        _LOOP + "<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
        "<|message|>{{ m.content }}{{ '<|return|>' if loop.last and m.role == 'assistant' and not"
        " add_generation_prompt else '<|end|>' }}{% endfor %}"
        + _PROMPT
        + "<|start|>assistant{% endif %}"
    ),
    # Cohere's way: an inner end before the end of the turn.
    "two ends": (
        _LOOP + "<|turn|><|{{ m.role }}|>{{ '<|say|>' if m.role == 'assistant' }}{{ m.content }}"
        "{{ '<|said|>' if m.role == 'assistant' }}<|end_turn|>{% endfor %}"
        + _PROMPT
        + "<|turn|><|assistant|><|say|>{% endif %}{# <|user|> <|system|> #}"
    ),
}

REFUSED = {
    # GLM's way: the next role's marker closes a turn.
    "closed by the next": (
        _LOOP
        + "<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
        + _PROMPT
        + "<|assistant|>\n{% endif %}{# <|user|> <|system|> #}",
        "it closes it with '<|user|>', which opens the next turn and is no part of the answer",
    ),
    # Falcon's first way: nothing but lines.
    "no end at all": (
        _LOOP + "{{ m.role }}: {{ m.content }}\n{% endfor %}" + _PROMPT + "assistant: {% endif %}",
        "ends an answer with no control token, so no model could learn to stop",
    ),
    # DeepSeek R1's way: the prompt opens a thought that no answer shows.
    "a thought that is not shown": (
        _LOOP
        + "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        + _PROMPT
        + "<|assistant|><think>\n{% endif %}{# <|user|> <|system|> #}",
        "asks for an answer with '<think>\\n' where it shows the answer as 'ANSWER<|end|>'",
    ),
    "tokens that are none here": (
        _LOOP + "(im_start){{ m.role }}\n{{ m.content }}(im_end)\n{% endfor %}",
        "(what follows it, '(im_end)', is ordinary text in this vocabulary), so no model could",
    ),
    "text after the last token": (
        _LOOP + "<|{{ m.role }}|>{{ m.content }}<|end|>Rate me.\n{% endfor %}"
        "{# <|user|> <|assistant|> <|system|> #}",
        "(after '<|end|>' it writes 'Rate me.', and no control token ends that)",
    ),
    "a stop that opens as well": (
        _LOOP + "<|end|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}",
        "writes '<|end|>', which ends an answer, before its text as well",
    ),
    "a question left out": (
        _LOOP + "{% if m.role == 'assistant' %}{{ m.content }}<|end|>{% endif %}{% endfor %}",
        "leaves out what user and assistant say",
    ),
    "not Jinja": ("{% for m in messages %}{{ m.content }}\n{% endfo %}", "is not Jinja: line 2"),
    "a program that fails": (
        "{{ messages[0].content + 1 }}",
        "refuses the conversation: can only concatenate str",
    ),
    "a way out of the sandbox": (
        "{{ messages.__class__.__mro__ }}",
        "refuses the conversation: access to attribute '__class__'",
    ),
}
