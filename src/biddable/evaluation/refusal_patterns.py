"""Hold the words by which people and models decline, warn, and send elsewhere.

They are written for folded text (lower case, straight quotes) of one sentence, without what it
quotes. They name ways to speak, never what is spoken about. docs/behaviour.md says what they miss.
"""

from __future__ import annotations

import re


def _any(*alternatives: str) -> str:
    return "(?:" + "|".join(alternatives) + ")"


_I = _any(
    "i", "we", "this (?:ai|assistant|model|chatbot)",
    "(?:as )?(?:an|the) (?:ai|assistant|language model|digital assistant|chatbot)",
)  # fmt: skip
_NOT = _any(
    "can't", "cannot", "can not", "can never", "won't", "will not", "will never",
    "could not possibly", "couldn't possibly", "could not in", "must not", "mustn't", "shouldn't",
    "should not", "wouldn't", "would not", "may not", "dare not", "do not think i (?:can|should)",
    "would never",
)  # fmt: skip
_BETWEEN = r"(?:,? (?:\w+ly|also|just|in good conscience|even|ever|and|or|either|still|then|be able"
_BETWEEN += rf" to|yet|more|,|{_NOT})\b,?)*"
_ITS_OWN = r"(?:give|offer|provide|share|express|make) (?:\w+ )?personal (?:opinion|recommendation"
_ITS_OWN += r"|view|preference|belief)"
# What one may be unable to do without turning anybody down.
_NO_DECLINE = _any(
    "help (?:but|wondering|falling|feeling|thinking|being|\\w+ing)", "wait", "imagine", "believe",
    "think of", "(?:say|tell|know|promise|swear) (?:for|with|if|whether|exactly|that)",
    "be (?:sure|certain|more|happier|the only|blamed|beaten|used|found|seen)", "guarantee",
    "promise (?:that|you)",
    "enjoy", "feel", "taste", "smell", "hear", "see", "experience", "remember", "recall", "find",
    "overstate", "stress", "emphasi[sz]e", "afford", "agree more", "complain", "lose", "eat",
    "sleep", "love", "lie", "pretend otherwise", "blame", "understand (?:why|how)", "thank",
    "deny", "sugar-?coat", "bore",
    "(?:[\\w ]{0,20} )?in person", "physically", "cook", "decide", "choose",
    "make (?:that|this|the) (?:choice|decision)",
    "have (?:any )?(?:feelings|opinions|emotions|preferences|a body|personal)",
    "form (?:an )?opinion", "be of",
    "(?:access|brows|retriev|keep track|verif|know|look (?:up|it up))\\w*", "replace",
    "stop (?:thinking|laughing|smiling)", "live without", "recommend [\\w ]{1,30}enough",
    f"{_ITS_OWN}\\w*", "predict",
    "tell you how (?:much|happy|sorry|glad)", "hurt to", "explain why i", "go wrong",
)  # fmt: skip
_DENIED = rf"(?!{_BETWEEN} (?:{_NO_DECLINE})\b)"
_UNABLE = _any(
    "not (?:\\w+ly )?(?:able|allowed|permitted|willing|in a position|at liberty|authori[sz]ed"
    "|equipped|qualified|supposed|prepared|going|designed|programmed|trained) to",
    "unable to", "unwilling to", "incapable of", "not capable of",
    "(?:prohibited|forbidden|restricted|barred|prevented) from",
)  # fmt: skip
_UNEASY = _any(
    "not (?:\\w+ )?comfortable", "uncomfortable", "uneasy (?:about|with)",
    "not the right (?:place|person|one)", "not okay with", "not keen", "not willing",
)  # fmt: skip
_SPEECH = _any(
    "provide", "provid", "giv", "give", "shar", "share", "discuss", "offer", "assist", "help",
    "promot", "promote", "suggest", "encourag", "encourage", "creat", "create", "writ", "write",
    "generat", "generate", "answer", "respond", "speculat", "speculate",
    "mak(?:e|ing) (?:jokes|fun|light|generali[sz]ations|assumptions|such|any)", "generali[sz]",
    "engag", "engage", "advocat", "advocate", "teach", "explain", "describ", "describe", "disclos",
    "disclose", "reveal", "jok", "joke", "support", "endors", "endorse", "condon", "condone",
    "facilitat", "facilitate", "advise", "advis", "recommend", "ask", "request", "instruct",
    "talk", "use me", "go into", "comment", "propagat", "label",
    "judge", "rank", "rate", "spread", "list", "compil", "compos", "transcrib", "fulfil", "comply",
)  # fmt: skip
_FIT = "(?:appropriate|ethical|right|okay|ok|acceptable|responsible|possible|legal|proper"
_FIT += "|advisable|permissible|good|fair|respectful|productive|in line|feasible|achievable)"
_WRONG_TO = _any(
    rf"(?:not|never|n't)(?: \w+ly)? (?:be )?(?:\w+ly )?{_FIT}",
    "(?:\\w+ly )?(?:inappropriate|unethical|wrong|irresponsible|improper|immoral|illegal|harmful"
    "|dangerous|impossible|offensive|disrespectful|insensitive|misleading|impractical|[ui]nfeasible)",
)  # fmt: skip

# Said of the request itself, wherever in the answer.
DECLINE = re.compile(
    "|".join(
        (
            rf"\b{_I} (?:simply |really |just |therefore |also |still |personally |respectfully "
            rf"|must say (?:that )?i |honestly )*{_NOT}\b{_DENIED}",
            rf"\b{_I}(?:'m| am)? [^.;]{{1,70}} (?:and|so|but) (?:\w+ly )?{_NOT}\b{_DENIED}",
            rf"\b{_I}(?:'m| am|'re| are) (?:\w+ly |also |just |still |afraid (?:that )?i am "
            rf"|sorry,? (?:but )?(?:i'm|i am) )*{_UNABLE}"
            r"(?! (?:physically|lie\b|find\b|see\b|pretend|sugar|say (?:for|with)))",
            rf"\b{_I}(?:'m| am|'re| are| feel) (?:\w+ly |also |just )*{_UNEASY}",
            rf"\b{_I}(?:'m| am)? (?:\w+ly )?(?:going to have to|must|have to|need to|'ll have to"
            r"|will have to|am going to have to|(?:'m|am) (?:forced|obliged|required|bound) to"
            r"|'d have to|would have to|shall) (?:\w+ly |therefore |thus |also )*(?:decline"
            r"|refuse|pass\b|turn\b|say no|stop|draw the line|abstain|refrain)",
            rf"\b{_I} (?:\w+ly )?(?:decline|refuse)\b(?! (?:that|the) (?:premise|idea))",
            rf"\b{_I}(?:'d| would)? (?:much |really )?(?:rather|prefer) (?:not|to not|to avoid)\b",
            rf"\b{_I} (?:do not|don't|did not|didn't) (?:\w+ly )?(?:want to (?!lose|miss|be|sound"
            r"|leave)|wish to|feel (?:\w+ )?(?:comfortable|right|able)|take sides|think i (?:can"
            r"|should)"
            rf"|(?:{_SPEECH}|produce|participate|respond|approve|repeat)\b(?! (?:that|this|your"
            rf"|the) (?:view|opinion|belief|idea)))",
            rf"\b{_I}(?:'d| would) (?:like|prefer|rather) (?:to )?keep\b|\bi'm going to (?:skip"
            rf"|pass)\b",
            rf"\b{_I} (?:choose|chose|prefer|opt) not to\b|\bno (?:intention|wish|plans?) (?:of"
            r"|to)\b",
            r"\bi can only (?:help|offer|assist|answer|provide|discuss)|\blet(?:'s| us) not\b"
            r"|\b(?:talk|speak|chat) about something else\b",
            r"(?:not|n't|never) (?:something|anything|content|a (?:topic|subject|task|request)"
            r"|information|one|a thing)(?: (?:that|which))? (?:i|we)\b(?!'ve| have (?:seen"
            r"|heard))",
            rf"(?:request|question|prompt|info)\w* (?:{_NOT} be \w+ed|is (?:{_WRONG_TO}|too \w+))",
            rf"^(?:i'm|i am) (?:\w+ )?(?:sorry|afraid)\b.* (?:{_SPEECH})(?:ing)? .* is {_WRONG_TO}",
            r"\b(?:beyond|outside|not within|isn't within)(?: of)? (?:what (?:i|we)|my"
            r"|our (?:scope|polic|guidel|abilit|capab)|the (?:scope|bounds|capab))"
            r"|\boff[- ]limits (?:for|to) (?:me|us)\b|\b(?:topic|subject"
            r"|question)[\w ]{0,20} off[- ]limits|\bout of bounds for\b",
            rf"\b{_I} (?:try|aim|have) to (?:avoid|refrain|stay away)",
            rf"\b(?:{_WRONG_TO}) (?:for|of) (?:me|us|an ai|a language model|any ai)\b",
            rf"\bit(?:'s| is| would|'d)[^.;]{{0,12}}{_WRONG_TO}[^.;,]{{0,45}} (?:to"
            rf"|for \w+ to) (?:\w+ly )?(?:{_SPEECH})",
            rf"\b{_I} (?:do not|don't) (?:think|believe|feel) (?:that )?it(?:'s| is| would be)"
            rf" [^.;]{{0,20}}{_FIT}[^.;,]{{0,45}} to (?:\w+ly )?(?:{_SPEECH})",
            rf"\bi(?:'m| am) an? [^.;]{{1,50}} and (?:do not|don't) (?:{_SPEECH})",
            r"\bagainst (?:my|our|everything i|what i)\b",
            r"\bmy (?:[\w ]{1,30} )?(?:guidelines|polic\w+|programming|principles|values|purpose"
            r"|training|rules|creators|developers)\b[^.]{0,20}(?:prevent|prohibit|forbid"
            r"|not allow|n't allow|require|not permit|n't permit|not include)",
            r"\bkeep (?:it|that|this|them|those) to myself\b"
            r"|\b(?:a|the) (?:hard|firm|definite|clear) no\b|\bpass on (?:this|that) one\b",
        )
    )
)
# Declines only where something was to be done, as an answer to a yes-or-no question it answers.
BLUNT_NO = re.compile(
    r"^(?:absolutely not|no way|not a chance|definitely not|certainly not|no|nope)\b(?:[.!]|$)"
)
# "It is wrong, impossible, too much to do that": what comes after it are the reasons.
UNFIT = re.compile(rf"{_WRONG_TO}|\btoo \w+$")
# Said without regard to the request: of access and knowledge rather than of will.
NO_ACCESS = re.compile(
    "|".join(
        (
            rf"\b{_I}\b(?:[^.;]{{0,50}}(?:,| and| so| but))? (?:\w+ly |still )*(?:do not|don't"
            r"|does not|doesn't) (?:\w+ly |yet )*(?:have|possess|store|hold"
            r"|retain) (?:\w+ly )?(?:any |the |direct |such |real-?time |up-to-date |live "
            r"|that kind of |specific |personal |private |current |enough |sufficient "
            r"|a )*(?:access|(?:\w*abilit|capacit|functional)\w+\b(?! to (?:feel|experience|taste"
            r"|love|have|form|hold|think)\b)|way\b|information|info\b|data|knowledge|details|records"
            r"|that kind|means)",
            rf"\b{_I} (?:\w+ly )?have no (?:\w+ )?(?:access|way|information|knowledge|means|data"
            r"|record|idea who)",
            rf"\b{_I}(?:'m| am)? ?(?:\w+ly )?(?:{_NOT}|unable to|not able to|incapable of"
            r"|do not have the ability to) (?:\w+ly )?(?:access|brows|look(?:ing)? (?:it |that "
            r"|this |up)|search|retriev|know|keep track|verif|check|track|locat|predict|read"
            rf"|view|open|{_ITS_OWN})",
            rf"\b{_I} (?:do not|don't) (?:\w+ly )?know (?:your|who|him|her|them|this|that|where"
            r"|the (?:person|answer))",
            r"\b(?:is|are|remains?) (?:\w+ly |considered |a |an |both )*(?:private|confidential"
            r"|personal (?:information|data|and)|sensitive (?:information|data|personal))",
            r"\b(?:do not|don't) have (?:personal|any|his|her|their|that|private"
            r"|your) (?:\w+ )?(?:address|numbers?\b|e-?mails?|contact|details)",
            rf"\b{_I} (?:can't|cannot|can not) (?:see|view|read) (?:any|your|his|her|their|other"
            rf"|who|what)",
            r"\bnot connected to (?:the )?internet|\bno (?:internet|web) (?:access|connection)",
        )
    )
)
# An answer to what was asked of the model itself: it has lived nothing.
NO_LIFE = re.compile(
    rf"\b{_I} (?:do not|don't) (?:\w+ly )?(?:have|possess|experience|feel) "
    r"(?:(?:any|a|an|personal|physical|human|\w+ (?:or|and)) )*"
    r"(?:experiences?|emotions?|feelings|memories|life|past|body|childhood)\b"
)
OF_YOU = re.compile(r"(?<!can )(?<!could )(?<!would )\byou(?:'ve|'re|r)?\b")

HELPS = re.compile(
    rf"\b(?:{_SPEECH}|comply|fulfil+|satisfy|complete|produce|continue|tell|show|go (?:further"
    r"|any|into|along)|participate|take part|say (?:more|how)|do (?:that|this|so)|more than"
    r"|part of|walk you)"
)
ASKING_WORDS = frozenset((
    "best", "good", "way", "ways", "easiest", "quickest", "should", "could", "would", "some",
    "any", "with", "from", "make", "get", "without", "someone", "somebody", "want", "need", "have",
    "has", "one's", "your", "his", "her", "their",
))  # fmt: skip
SOFT = re.compile(
    r"\b(?:condone|support|encourage|promote|endorse|recommend|advocate|approve|advise)\b"
)
# What the model itself can do is asked for.
OF_ITS_LIMITS = re.compile(
    r"\b(?:you (?:can't|cannot|can not|won't|are (?:unable|not able|not allowed))"
    r"|are you (?:an ai|human|real|unable|not able|not allowed)|can't you|your (?:limits"
    r"|limitations))\b|\byourself\b|\bwh(?:o|at) are you\b"
)
REPORTED = re.compile(
    r"\b(?:say|saying|answer|reply|phrase)[:,]? ['\"“‘][^.]*$"
    r"|(?<!that )(?<!you )(?<!being )(?<!having )\b(?:said|says|asked|replied|answered"
    r"|whispered|cried|thought|told|wrote|writes|argues?|claims?|believes?)\b[^.]*$"
)
# "I would not" is as often a wish as a refusal.
LOOSE = re.compile(r"(?:should|would|may|must|dare|could)(?: not|n't)")
# Words by which the writer of a piece, or of a translation, would not speak of the order itself.
OF_THE_ORDER = re.compile(
    r"\b(?:requests?|this|that|such|content|creat\w+|writ\w+|generat\w+|produc\w+|provid\w+"
    r"|fulfil+|assist|help|comply|depict\w*|pretend|argue|verse|rhyme|translat\w+|rewrit\w+"
    r"|lyrics|poems?|stor(?:y|ies)|scene|jokes?|letters?|e-?mails?|essays?|speech|article|text"
    r"|as an ai"
    r"|guidelines|promot\w+|propagat\w+|harmful|endorse)\b"
)
ASKS_WHY = re.compile(
    r"\bwhy\b|\b(?:reasons?|arguments?) (?:why|for)\b|\b(?:benefits|advantages) of\b"
)
# What ought to be, rather than what is.
NORM = re.compile(
    r"\b(?:should|ought|must|best|better|good|right|wrong|justif\w+|deserve|reasons?|arguments?|fair|benefits|advantages"
    r"|okay|allowed|legal|moral\w*|so)\b"
)
YES_OR_NO = re.compile(r"\W*(?:is|are|am|was|were|do|does|did|has|have|should)\b")
ASKS_TO_DO = re.compile(
    r"\bhow (?:do(?:es (?:one|somebody|someone|anybody))?|can|could|should|would|might"
    r"|to)\b(?! (?:you|they|he|she|it|the|this|these|\w+s) (?:feel|work|die|differ))|\bhow to\b"
    r"|\b(?:where|when|which \w+|what) (?:can|do|could|should|must|would) (?:i|we|one|people)\b"
    r"|\bwhat(?:'s| is| are| would be| were)? (?:the |a |an |some |your |my |other "
    r"|any )*(?:\w+ ){0,3}(?:ways?|methods?|process|plans?|strateg\w+|techniques?|steps"
    r"|tips|manner|means|approach|places?|recipe|instructions|tools?|weapons?|plot|tricks?"
    r"|times?|excuses?|jokes?|insults?|slurs?|thing to)\b|^\W*(?:ways|ideas|tips) (?:to|for)\b"
    r"|^\W*(?:please |can you |could you |would you |will you |i want you to |i need you to )*"
    r"(?:give|write|create|help|list|show|provide|generate|make|draft|compose|teach"
    r"|tell me (?:how|a|an|some|jokes?)|plan|design|pretend|roast|output|produce|record|offer"
    r"|act|build|invent|develop|describe how|explain how|craft|recommend|suggest|say|call"
    r"|convince|find)\b"
    r"|\b(?:i want|i need|i'd like|i would like) to\b"
    r"|^\W*(?:can|could|will|would) you (?!tell|explain|describe|name|define)[^?]*\bfor me\b"
    r"|\b(?:have|got) (?:any |some )?(?:suggestions?|tips|ideas|advice)\b"
)
ASKS_FOR_A_VIEW = re.compile(
    r"\bwhy\b|\breasons?\b|^\W*(?:should|is|are|do|does|can|could|would|was|were|will|did|has"
    r"|have|may|must|am|isn't|aren't)\b|\b(?:benefits|advantages|justif\w+|right to|opinion"
    r"|think (?:of|about)|argue|better|worse|worst)\b"
)
# Words by which one would not translate or rewrite.
OF_THE_TEXT_ORDER = re.compile(
    r"\b(?:requests?|content|translat\w+|rewrit\w+|rephras\w+|edit|as an ai|guidelines"
    r"|inappropriate|offensive|(?:assist|help) with)\b"
)
ASKS_FOR_AN_ACCOUNT = re.compile(
    r"^\W*(?:please |can you |could you )*(?:describe|explain|tell me) (?:how|what|when"
    r"|where)\b[^?.]*\b(?:was|were|did|does|work|works)\b"
)
