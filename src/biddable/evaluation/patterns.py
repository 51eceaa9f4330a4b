"""Hold the words by which texts ask, order and start another turn.

They are written for folded text (lower case, straight quotes). Change them with a test beside
each change: tests/evaluation/test_behaviour.py holds what people and models really write.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence


def _words(*alternatives: str) -> str:
    return "(?:" + "|".join(alternatives) + ")"


# Marks by which pages and chats start another question, task or turn. "A:" answers; it is not one.
_TURN_MARK = re.compile(
    r"\s*(?:\[/?INST\]|<\|(?:im_start|user|system|start_header_id)\|?>|<s>"
    r"|(?:[#*>]+\s*)?(?:Q|Questions?|Instruction|Prompt)\s*\(?\d*\)?\s*(?:[:：]|\*\*:|\]:)"
    r"|#+\s*(?:Instruction|Question|Task|Exercise|Problem|Input)s?\b"
    r"|Task\s*:|(?:Exercise|Question|Problem|Task|Quiz)\s+\d+\s*(?:[.):]|$))",
    re.IGNORECASE,
)
_SPEAKER = r"\s*(?:[#*>]+\s*)?(?:User|Human|Student)\s*(?::\*\*|\*\*:|[:：])"
_LONG_TURN = re.compile(rf"{_SPEAKER}(?:\s*$|\s+\S+\s+\S+\s+\S)", re.IGNORECASE)
# A few words of a person are a turn only before a machine's: "User: admin" is a line of a form.
_SHORT_TURN = re.compile(rf"{_SPEAKER}\s*\S", re.IGNORECASE)
_REPLY_MARK = re.compile(
    r"\s*(?:[#*>]+\s*)?(?:Assistant|AI|Bot|Chatbot)\s*(?::\*\*|\*\*:|[:：])", re.IGNORECASE
)
WANTS_SPEAKERS = re.compile(
    r"\b(?:dialog(?:ue)?s?|conversations?|chats?|transcripts?|role-?play)\b"
)

_POLITE = r"(?:please,?\s+|now,?\s+|then,?\s+|next,?\s+|also,?\s+|and\s+|first,?\s+)*"
# These also open answers: "Put simply, ...", "Use a knife.", "Make sure ...".
_WEAK_VERBS = (
    "add", "change", "choose", "count", "draw", "fill", "find", "fix", "guess", "help", "make",
    "put", "read (?:this|the)", "say", "select", "show", "turn", "use",
    "let me (?:read|see|hear|know|have)",
)  # fmt: skip
_STRONG_VERBS = (
    "analy[sz]e", "answer", "arrange", "calculate", "categori[sz]e", "classify", "code", "compare",
    "complete", "compose", "compute", "construct", "convert", "correct", "create", "define",
    "describe", "design", "determine", "develop", "discuss", "draft", "edit", "estimate",
    "evaluate", "list",
    "expand", "explain", "extract", "generate", "give", "identify", "implement", "multiply", "name",
    "outline", "paraphrase", "predict", "produce", "propose", "provide", "rank", "recommend",
    "rephrase", "reverse", "rewrite", "simplify", "solve", "sort", "spell", "state", "subtract",
    "suggest", "summari[sz]e", "tell", "translate", "work out", "write",
)  # fmt: skip
_VERBS = _words(*_WEAK_VERBS, *_STRONG_VERBS)
STRONG_ORDER = re.compile(
    rf"{_POLITE}{_words(*_STRONG_VERBS)}\b(?![\"']?\s*[:,|])(?! (?:it|that)\b)"
)
_ORDER = re.compile(rf"{_POLITE}{_VERBS}\b(?![\"']?\s*[:,|])")
_CAN_YOU = rf"(?:can|could|would|will) you\s+(?:please\s+)?{_VERBS}\b"
_I_WANT = r"i(?:'d| would)? (?:want|need|like|wish)(?: you)? (?:to\s+)?"
_REQUEST = re.compile(
    rf"{_POLITE}(?:{_CAN_YOU}|{_I_WANT}(?:know|understand|learn|hear|an? |the |help|some|'|\"))"
    r"|an? [^.?!]+ would be (?:nice|great|lovely|good|helpful|appreciated)\b"
)

# Orders that nobody gives within an answer, not even in one made of steps.
TASK_FOR_ME = re.compile(
    rf"{_POLITE}(?:(?:tell|give|show|teach|help|write|make|find|send) (?:me|us)\b"
    rf"|{_CAN_YOU}|explain how to\b|let me (?:read|see|hear|know|have) (?:an?|the|some)\b"
    r"|give (?:some )?(?:tips|advice|steps|instructions) (?:to|on|for)\b"
    r"|(?:here is|here's|read) (?:this|a|another)(?: following)? (?:text|passage|excerpt)\b"
    r"|read (?:this\b|the (?:following|story|text|passage))"
    r"|an? [^.?!]+ would be (?:nice|great|lovely|good|helpful|appreciated)\b)"
)
WISH = re.compile(
    rf"{_POLITE}{_I_WANT}(?:know|understand|learn|hear|help|['\"]"
    r"|(?:an?|the) (?:[\w-]+ ){0,3}(?:function|list|name|word|poem|haiku|summary|translation|code"
    r"|explanation|opposite)\b)"
)
# What people say of themselves before they ask: "I want to paint a wall. What should I do?"
OWN_CASE = re.compile(
    r"(?:(?:i|we)(?:'d| would)? (?:want|need|have|wish|like|plan|found|got|bought|live|work)|my|our"
    r"|i'm (?:trying|planning|going|looking|writing|making)|i am (?:trying|planning|looking))\b"
)
OWN_QUESTION = re.compile(r"\b(?:i|my|me|we|our|us)\b")
# Orders for a piece of text or a result, told from advice ("Write down ...") by their object.
_PIECES = _words(
    "poem", "haiku", "story", "stories", "function", "essay", "sentences?", "program", "paragraph",
    "letter", "summary", "list", "code", "script", "song", "dialogue", "email", "article", "word",
    "opposite", "name", "examples?", "explanation", "definition", "synonyms?", "antonyms?", "lines",
    "reasons?", "headline", "slogan", "title", "questions?", "tweet", "report", "review", "query",
    "description", "result",
)  # fmt: skip
A_PIECE = re.compile(rf"\b{_PIECES}\b")
PLAIN_TASK = re.compile(
    rf"{_POLITE}(?:(?:translate|summari[sz]e|paraphrase|rephrase|calculate|compute|define|solve"
    r"|classify|simplify|rewrite|compose|explain|describe)\b"
    r"|(?:write|create|make|generate|give|design|produce|provide|draft|develop|suggest|construct"
    rf"|implement|code) (?:[\w'-]+ ){{1,4}}{_PIECES}\b"
    r"|(?:write|show|give) (?:some )?(?:python )?code\b"
    r"|(?:name|list|identify|describe|explain|state|say|tell) (?:the|an?|what|how|why|who|where"
    r"|which|when|whether|two|three|four|five|six|ten|\d+|some|in)\b"
    r"|(?:say|spell|write) (['\"]).*?\1 (?:in|to|as|back)\b"
    r"|(?:turn|show|put|make|write|list|sort|arrange|convert) (?:this|these|the following)\b"
    r"|(?:talk about|underline|circle|fill in|match|complete) (?:the|an?|these|each|your)\b"
    r"|(?:add|subtract|multiply|divide|round) [-\d.,]+ (?:and|from|by|to|with) [-\d]"
    r"|(?:find|work out|determine) (?:the (?:sum|product|value|area|opposite|\w+ of)|\d))"
)

ASKING_START = re.compile(
    r"(?:and\s+|so\s+)?(?:what|who|whom|whose|which|where|when|why|how)\b(?:'s| \w+)"
)
CLOSING_QUESTION = re.compile(
    r"\b(?:would you (?:like|prefer|mind)|do you (?:want|need|have|mean|prefer|know|think)|are you"
    r"|is there (?:another|any other|some other|something|anything)|you(?:'d| would) like"
    r"|did you mean|have you|anything else|something else|(?:can|could|may|might|shall|should) i\b"
    r"|how (?:can|may|else can) i|what (?:can|may|else can) i|let me know|what (?:do|would) you"
    r"|(?:can|could|would) you (?:please )?(?:clarify|specify|provide|share|elaborate|confirm"
    r"|give (?:me )?more|tell me (?:more|a bit|a little|about (?:your|the))|be more|let me know"
    r"|explain what you)|which (?:one|kind|type|sort|version)\b.*\b(?:you|your)\b"
    r"|does (?:that|this) (?:help|make sense|sound)|(?:is|was) (?:that|this) (?:what|clear|helpful)"
    r"|sound good|what about you|\byou\?$"
    r"|how about (?:you|this|that|i|we|an?|some|(?:try|mak|us|go|start|tak|add|hav)ing)\b)"
)
HOOK = re.compile(
    r"(?:have you ever|did you (?:ever )?know|ever wonder(?:ed)?|guess what|why not|who knows"
    r"|so what|what if|(?:why|who) (?:would|could|else)"
    r"|are you (?:ready|tired|looking)|looking for|ready to|want to|need an?)\b"
)
ANAPHORA = re.compile(
    r"\b(?:this|that|it|its|it's|these|those|they|them|their|he|she|his|her|we|our|us|one|then"
    r"|so|but|because)\b"
)
# What makes a question of more than a few words one.
ASKS = re.compile(
    r"\b(?:what|what's|who|who's|whom|whose|which|where|where's|when|why|how)\b"
    r"|^(?:\w+,? )?(?:is|are|am|was|were|do|does|did|can|could|will|would|shall"
    r"|should|may|might|must|has|have|had|isn't"
    r"|aren't|don't|doesn't|didn't|can't|couldn't|won't|wouldn't|shouldn't)\b"
)
ASKS_A_READER = re.compile(r"\b(?:how do you|what do you call|how would you|how can you)\b")
SPEAKS_TO = frozenset(("you", "your", "yours", "you're", "you've", "you'd", "you'll"))
# Openings that many sentences of an answer share with its question.
SETTINGS = frozenset(
    ("as", "on", "in", "if", "when", "with", "for", "while", "at", "from", "by", "the", "an", "a")
)
STEP_OF_MATHS = re.compile(r"[^.?!]*(?:=|\bboth sides\b)|[^.?!:]{0,40}:\s*[-−\d(]+\w*\s*[-−+*/÷]")
STEP_HEADING = re.compile(r"[^.?!:]{0,50}:\s+(?:[a-z']+ ){4}")
AGREES = re.compile(r"(?:sorry|apologies|sure|of course|certainly|absolutely|yes|no)\b")
PRONOUNS = frozenset((
    "i", "i'm", "it", "it's", "he", "she", "they", "we", "you", "this", "that",
    "these", "those", "there",
))  # fmt: skip

# Orders to work on a text that is given; what comes back may be a question if it is one.
TRANSFORMS = re.compile(
    r"\b(?:translat\w*|rewrite|re-?word|rephrase|paraphrase|correct\w*|edit|fix|punctuat\w*|alter"
    r"|capitali[sz]e|convert|turn|change|transform|modify|insert|repeat|copy|quote|proofread"
    r"|complete|replace|add|rearrange|reorder|improve|simplify|expand|shorten|make)\b"
)
ASKS_FOR_QUESTIONS = re.compile(
    r"\b(?:(?<!these )(?<!the )(?<!following )questions|a question|quiz(?:zes)?|ask (?!me\b)"
    r"|(?:into|using|as|form|write|create|make|pose|generate)\b[^.?!]{0,30} questions?|inquir\w+"
    r"|conversation starters?|queries|riddles?|survey|faq|questionnaire|interrogative|trivia"
    r"|jeopardy"
    r"|(?:create|write|make|draft|design)\b[^.?!]{0,30} (?:template|checklist|agenda)s?"
    r"|icebreakers?|prompts?)\b"
)
SO_MANY_QUESTIONS = re.compile(
    r"\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten|a dozen|twenty|some|more"
    r"|a few|a list of) (?:\w+ ){0,2}(?:questions|starters)\b"
)
# Pieces in which a question is at home, where one is to be written rather than read.
INVITES_QUESTIONS = re.compile(
    r"\b(?:(?:write|rewrite|compose|create|tell|make|generate|draft|invent|give|continue|produce"
    r"|design|suggest|come up with|think of|act|play)\b[^.?!]{0,60}(?<!this )(?<!the )\b"
    r"|^(?:an? )?)"
    r"(?:story|stories|tale|myth|fable|legend|parable|poem|haiku|song|lyrics|rap|verse|limerick|sonnet|dialogue|dialog"
    r"|conversation|interview|script|scene|play|joke|letter|e-?mail|tweet|post|blog|essay|article"
    r"|speech|advert\w*|\bad\b|slogan|headlines?|anecdote|pun|quote|title|tagline"
    r"|caption|message|monologue"
    r"|novel"
    r"|outline|presentation|lesson|debate|chat|pitch|text (?:message|to))\b"
)
INVITES_ORDERS = re.compile(
    r"\b(?:how to|how (?:do|can|could|should|would|might) (?:i|we|you|one|people|someone)\b"
    r"(?! (?:say|spell|call|pronounce|translate))|steps?|tips?|advice|advise|ways?|guide|recipes?"
    r"|instructions?|plan|suggest\w*|ideas?|recommend\w*|strateg\w+|procedure|process|methods?"
    r"|exercises?|tasks?|activit\w+|goals?|rules?"
    r"|help(?! me (?:to )?(?:understand|write|create|make|find))"
    r"|should|to-do|checklist|prevent|improve|avoid"
    r"|outline|prompts?|resolutions?|slogans?|commands?|best way|habits?|motivat\w+|lyrics|song"
    r"|do i)\b"
)
# What ends an open sentence of the prompt: " and French.", " in one sentence."
COMPLETION = re.compile(
    r"[\s,]*(?:and|or|in|of|to|into|for|with|from|about|that|which|using|on|at|by|as|but|without)\b"
)
FILLERS = frozenset((
    "a", "an", "the", "is", "are", "was", "were", "of", "to", "in", "on", "for", "and",
    "or", "do", "does", "did", "you", "me", "please", "can", "could", "would", "tell",
    "give", "name", "what", "which", "who", "where", "when", "why", "how", "i", "it",
))  # fmt: skip


def starts_turn(text: str, following: str, *, wants_speakers: bool) -> bool:
    """Say whether a line starts another turn of a chat or page, by its mark and what comes next.

    Args:
        text: the line, or its first sentence.
        following: what comes next; may be empty.
        wants_speakers: lines of a person and a machine are what was ordered.

    Example:
        >>> starts_turn("User: Thanks", "Assistant: Gladly.", wants_speakers=False)
        True
        >>> starts_turn("User: admin", "Password: none", wants_speakers=False)
        False
    """
    is_exchange = _SHORT_TURN.match(text) and _REPLY_MARK.match(following)
    speaks = not wants_speakers and (_LONG_TURN.match(text) or is_exchange)
    return bool(_TURN_MARK.match(text) or speaks)


def is_order(bare: str) -> bool:
    """Tell whether a unit orders or requests something.

    Args:
        bare: the unit, folded, without its list mark.

    Example:
        >>> is_order("please translate 'cat' to spanish."), is_order("translation is hard.")
        (True, False)
    """
    return _ORDER.match(bare) is not None or _REQUEST.match(bare) is not None


def likeness(one: Sequence[str], other: Sequence[str]) -> float:
    """Measure how alike two lists of words are, in order, from 0 to 1."""
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def same_start(words: Sequence[str], request: Sequence[str]) -> bool:
    """Tell whether a unit is worded as a request is, about the same thing or another.

    Example:
        >>> same_start("name the capital of peru".split(), "name the capital of france".split())
        True
    """
    if not words or not request or words[0] != request[0]:
        return False
    if list(words[:3]) == list(request[:3]) and len(request) > 3:
        return True
    return likeness(words, request) >= 0.6
