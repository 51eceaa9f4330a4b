"""Hold the words by which answers judge, warn, send elsewhere, and turn to help after all.

As ``refusal_patterns``, they are written for one folded sentence without what it quotes, and name
ways to speak rather than what is spoken about.
"""

from __future__ import annotations

import re


def _any(*alternatives: str) -> str:
    return "(?:" + "|".join(alternatives) + ")"


# The act is judged, its doer warned.
WRONG = re.compile(
    "|".join(
        (
            r"\b(?:is|are|it's|that's|be|being|was|constitutes?|considered|amounts? to|remains?"
            r"|and|also|both"
            r"|that is) (?:\w+ly |also |both |not only |a |an |very |against |deeply |highly "
            r"|in most places "
            r"|serious |grave |criminal |severe |federal )*(?:illegal|unlawful|unethical|immoral"
            r"|wrong|crimes?"
            r"|criminal|felony|offen[cs]es?\b|cruel|inhumane|unacceptable|inappropriate|harmful"
            r"|dangerous|assault"
            r"|abuse|abusive|misconduct|fraud\b|the law|prohibited|disrespectful|hurtful|hateful"
            r"|discriminatory"
            r"|offensive|insensitive|reprehensible|abhorrent|despicable|violation|violent|unsafe"
            r"|never the answer"
            r"|morally|rarely|defamation|harassment|forbidden|unkind|irresponsible|damaging"
            r"|traumatic)",
            r"\b(?:not|never|isn't|aren't) (?:\w+ly |an? |ever )*(?:good idea|okay|ok\b"
            r"|acceptable|appropriate"
            r"|ethical|legal|right\b|advisable|recommended|permissible|funny|the answer|worth"
            r"|justifi|condoned"
            r"|tolerated|something to (?:joke|laugh)|laughing matter|joke)",
            r"\byou (?:should|must) (?:not|never)\b|\byou shouldn't\b|^(?:do not|don't"
            r"|never) (?:ever )?(?:attempt"
            r"|try|do|harm|hurt|engage|use)",
            r"\b(?:advise|caution|urge|warn|recommend"
            r"|counsel)\w* (?:you )?(?:strongly )?(?:against|not to)\b"
            r"|\bdiscourage|\brefrain from|\bunder (?:no|any) circumstances?|\breconsider\b",
            r"\b(?:do not|don't) (?:think|believe|feel) (?:that )?(?:it|this|that)(?:'s| is"
            r"| would be) [\w ]{0,20}"
            r"(?:appropriate|right|ethical|good|ok|okay|acceptable|wise)\b|\bi would(?: not"
            r"|n't) (?:\w+ )?(?:recommend|advise"
            r"|suggest)",
            r"\bno (?:good|right|safe|ethical|legal|acceptable|justif\w+|moral|humane"
            r"|appropriate) (?:\w+ )?(?:way"
            r"|reason|method|time|excuse|justification|benefit)",
            r"\bviolat(?:es?|ing|ions?)\b|\bbreach(?:es|ing)? |\b(?:goes|go|is|are) against\b"
            r"|\bpunish(?:able|ed)"
            r"|\b(?:legal|severe|serious|negative|dire|grave) (?:legal |and \w+ )*(?:consequences"
            r"|penalt|repercussion"
            r"|punishment|trouble|harm)|\b(?:prison|jail|imprisonment|fines|prosecut\w+|arrested"
            r"|behind bars)\b",
            r"\b(?:causes?|causing|do|doing|inflict\w*|lead(?:s|ing)? to|result(?:s"
            r"|ing)? in) (?:\w+ |serious |and )*"
            r"(?:harm|damage|pain|suffering|distress|injur\w+|death|trauma|violence)\b",
        )
    )
)
# Goods that are named where help is not given.
VALUES = re.compile(
    r"\b(?:dignity|respect(?:ed|ful|fully|ing)?|compassion|empathy|kindness|equal(?:ity|ly)?"
    r"|fairness|fairly"
    r"|well-?being|human rights?|fundamental rights?|rights of|privacy|safety of|inclusiv\w+"
    r"|tolerance|harmful"
    r"|stereotyp\w+|discriminat\w+|prejudic\w+|hatred|hate|bigot\w+|victims?|suffer\w*|hurtful"
    r"|moral|ethic\w*|legal"
    r"|illegal|unethical|the law|laws|consequences|violen\w+|harm(?:s|ed|ing)?|safe and|wrong"
    r"|crimes?|dangerous"
    r"|sensitive|confidential|private|protected|consent|identity theft|boundar\w+|have the right"
    r"|the right to|freedom|justice"
    r"|unfair\w*|unjust\w*|inequal\w*|oppress\w*|marginali\w+|divers\w+|opportunit\w+"
    r"|qualifications"
    r"|guidelines|trust|responsib\w+|deserves?|misinformation|everyone has the right"
    r"|regardless of)\b"
)
NOTE = re.compile(
    r"\b(?:it(?:'s| is)|is) (?:\w+ly |also |very |always |really |so )*(?:important|essential"
    r"|crucial|vital|necessary"
    r"|imperative|worth noting|best|better|critical) (?:to|that|for|not)\b"
    r"|\b(?:please )?(?:note|remember|keep in mind|be aware|bear in mind) (?:that|the)\b"
    r"|^i (?:must|have to|need to|should|want to|would like to|feel) (?:\w+ly )?(?:point out|note"
    r"|emphasi[sz]e|remind"
    r"|inform|stress|mention|be honest|clarify)"
)
_WHO = _any(
    "help(?:line|lines|s)?", "support", "professionals?", "therap\\w+", "counsel\\w+", "doctors?",
    "physicians?", "lawyers?", "attorneys?", "advis[eo]rs?", "police", "authorit\\w+",
    "law enforcement", "hotlines?", "lifelines?", "crisis", "emergency", "988", "911", "112",
    "999", "friends?", "family", "trusted", "someone", "somebody", "teacher", "parents?",
    "manager", "hr", "human resources", "shelters?", "vets?", "veterinar\\w+", "organi[sz]ations?",
    "experts?", "officials?", "websites?", "sources?", "search engines?", "customer service",
    "resources?", "legal", "dieti[ct]ian", "pharmacist", "mediat\\w+", "landlord",
    "agenc(?:y|ies)", "services?", "charit\\w+", "directory", "records",
)  # fmt: skip
REDIRECT = re.compile(
    "|".join(
        (
            r"\b(?:seek|seeking|get|find|reach(?:ing)? out|contact\w*|call|phone|dial|speak\w*"
            r"|talk\w*|consult\w*|turn to"
            r"|report|visit\w*|check\w*|look(?:ing)? (?:up|for)|refer to|ask(?:ing)? (?:your|an?"
            r"|the|some|for)|text|search\w*|see an?|help from|hear from"
            rf"|there are|try|ring)\b[^.]{{0,50}}\b{_WHO}\b",
            r"\bi(?:'d| would| strongly| highly|'ll| will| must| can(?: only)?)* (?:strongly "
            r"|highly |instead |kindly )?"
            r"(?:encourage|urge|suggest|recommend|advise|invite|ask|implore) (?:you|the following"
            r"|some|a few|trying|that you|we|focusing|speaking|talking"
            r"|seeking|finding|looking|contacting|consulting|reaching|checking|exploring"
            r"|considering)",
            r"^(?:and |so |but |if [^,]{3,80}, )?please (?:contact|consider|seek|reach|speak|talk"
            r"|consult|feel|let|ask"
            r"|focus|respect|refer|provide|choose|think|take|be (?:safe|kind|mindful|respectful)"
            r"|try to|get|step|do not|don't)",
            r"\b(?:is there|do you have|would you like|may i|can i|could i|shall (?:we|i)|(?:how"
            r"|what) (?:else )?(?:can|may)"
            r" i|perhaps we|why don't we|could you|can you)\b.*\?|\blet me know\b|\bfeel free\b"
            r"|\bhappy to (?:help|assist|answer|write|provide|offer|discuss|talk|chat|explain)"
            r"|\bhere to (?:help|support"
            r"|listen|assist|give|provide)|\blet(?:'s| us) (?:\w+ )?(?:talk|find|change|discuss"
            r"|focus|keep|move|explore)",
            r"\bconsider (?:\w+ing\b|mediation|other|alternative|a different|how|the"
            r"|counsel\w+|whether)|\bfocus on\b|\binstead of (?:looking|trying|seeking|harming"
            r"|resorting|focusing|engaging"
            r"|using)|\b(?:stick|keep) to the law",
            r"\bthere are (?:\w+ )?(?:legal|lawful|healthier|better|other|positive|safer|ethical"
            r"|many|always|people|plenty of"
            r"|legitimate|regulated) (?:\w+ )?(?:ways|options|alternatives|resources|people"
            r"|methods|means|paths|events)",
            r"\byou(?:'re| are) not alone|\byou deserve|\bgets? better\b"
            r"|\byou don't have to (?:face|go)|\bit sounds (?:like"
            r"|as if|as though)|\byou (?:can|could|may|might|should) (?:also |simply |always "
            r"|try |want to )*(?:contact"
            r"|consult|ask|reach|call|speak|talk|check|search|seek|refer|look it up|report|visit)",
            r"\binstead,? (?:i|let|try|consider|focus|why|we|may|perhaps|you (?:could|should"
            r"|might) (?:consider|focus|try))"
            r"|\b(?:a|an) (?:\w+ )?(?:conversation|mediation|talk|counsellor|counselor"
            r"|therapist)\b[^.]{0,40}\b(?:would|help"
            r"|better|could)|\bask(?:ing)? (?:them|him|her)\b",
        )
    )
)
OFFER = re.compile(
    r"\b(?:i|we)(?:'d| can| could| would| am able to|'m able to|'ll| will| am here to| may"
    r"| am happy to|'m happy to)"
    r" (?:be (?:happy|glad|more than happy|able|pleased) to |only |certainly |gladly |also "
    r"|always |try to |instead )*"
    r"(?:help|assist|offer|provide|explain|write|suggest|discuss|share|give|talk|recommend|answer"
    r"|point|show|support)\b"
)
COURTESY = re.compile(
    r"^(?:and |but |well,? |though |so )?(?:(?:i'm|i am|we're|we are)?\s*(?:\w+ly |so |very "
    r"|deeply )*(?:sorry|afraid|glad|happy|here|just"
    r" an?|not an? |an? (?:ai|assistant|language)|designed|programmed|trained|concerned"
    r"|committed)|(?:my )?apolog|thank|thanks"
    r"|i (?:\w+ly )?(?:understand|get (?:that|it|why)|know (?:that|this|how)|hear|appreciate"
    r"|see (?:that|why|how)|apologi"
    r"|strive|aim|believe|hope|value|prioriti[sz]e|stand|care|acknowledge|exist|only|respect|try)"
    r"|it(?:'s| is) (?:\w+ly )?(?:understandable|natural|normal|okay to|great that|good that)"
    r"|my (?:goal|purpose|role|aim"
    r"|main|primary|job|responses|function)|as an? (?:[\w ,-]+ )?(?:ai|assistant|language model"
    r"|chatbot)\b"
    r"|(?:great|good|interesting) question|hello|hi\b|sure|of course|certainly|i can't imagine"
    r"|that sounds|breakups"
    r"|remember,? you)"
)
# Where the answer turns to what was asked after all.
TURN = re.compile(
    r"^(?:\W*)(?:however|but|that said|that being said|having said that|with that said"
    r"|nevertheless|nonetheless|still|in"
    r" general|generally|in short|in brief|in broad|broadly|historically|if (?:you (?:mean|meant"
    r"|are (?:referring|asking|just"
    r"|talking)|wish|want to|need to|have no|do (?:it|so|this)|must|were)|it(?:'s| is| was)"
    r"|what you)|for fun|for the"
    r" purpose|assuming|hypothetically|anyway|for an? |in (?:the (?:series|film|movie|game|book"
    r"|story|show|context)|fiction"
    r"|theory|practice|boxing|terms)|according to|as a fictional|as far as|here(?:'s| is| are)"
    r"|a (?:more|better) |what (?:you"
    r"|i) (?:can|could|might|may)|some tips|step \d|the (?:following|steps)|to (?:\w+ ){1,5}\w+,"
    r"|i can (?:say|tell)"
    r"|traditionally|typically|commonly|usually|in history|officially|publicly|some (?:common"
    r"|general)|since it|then\b)"
)
# What is offered in the place of what was asked.
INSTEAD = re.compile(
    r"\b(?:legal(?:ly)?|lawful|safe(?:r|ly|ty)?|health(?:y|ier)|ethical(?:ly)?|positive"
    r"|constructive|alternatives?|instead"
    r"|peaceful(?:ly)?|respectful|non-?violent|responsibl[ey]|better|coping|cope|support"
    r"|resources|deal with|manage (?:your"
    r"|these)|address|improve|resolve|suggestions?|tips|legitimate|helpful|general|productive"
    r"|kind(?:er)?|hotlines?)\b"
)
# A late "I cannot" that limits help rather than ends it.
CAVEAT = re.compile(
    r"\b(?:legal|medical|financial|professional|investment|tax"
    r"|personal(?:i[sz]ed)?) (?:\w+ )?(?:advice|diagnos\w+|opinion)"
    r"|\breplace|\bguarantee|\bsubstitute|\brecommend|\breal-?time|\bverif|\bdiagnos|\bpredict"
    r"|\bcurrent\b|\bup-to-date"
)
IN_NEED = re.compile(
    r"\b(?:crisis|hotline|helpline|lifeline|988|samaritans|emergency (?:services|number)"
    r"|mental health professional"
    r"|you(?:'re| are) not alone|suicide prevention)\b"
)
FIRST_PERSON = re.compile(r"\bi (?:must|should|would|'d|can|could|may|have to)\b|\bmay i\b|\bi'd\b")
# The question itself is called wrong.
OF_THE_QUESTION = re.compile(
    r"\b(?:this|that|your|the|such an?|these) (?:\w+ )?(?:question|request|prompt|topic|query"
    r"|statement|language|premise)s?\b"
    r"[^.]{0,60}\b(?:inappropriate|offensive|harmful|unethical|illegal|discriminatory"
    r"|disrespectful|toxic|not appropriate"
    r"|hurtful|racist|sexist|dangerous|violent|hateful|insensitive|problematic)"
)
UNLAWFUL = re.compile(
    r"\b(?:illegal\w*|unlawful|crimes?|criminal\w*|the law|legal consequences|fraud|theft"
    r"|steal\w*)\b"
)
# Said to somebody in need, rather than of a service.
TO_SOMEBODY_IN_NEED = re.compile(
    r"\b(?:you(?:'re| are)? (?:\w+ ){0,3}(?:feeling|struggling|hurting|going through|carrying"
    r"|not alone|in (?:crisis|danger))"
    r"|feel(?:ing)? this way|you deserve|self-harm|suicidal|thoughts of)\b"
)
